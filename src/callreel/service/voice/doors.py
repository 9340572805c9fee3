"""Which document answers what is dialled. Pure but for being changed while the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from callreel.calls.model import CallCallback
from callreel.calls.steering import Instructions


@dataclass(frozen=True, slots=True)
class Door:
    """What answers."""

    instructions: Instructions
    """Where the document is."""
    callback: CallCallback | None = None
    """Who is told how the call goes."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Of all accounts, as configured."""

    numbers: Mapping[tuple[str, str], Door] = field(default_factory=dict)
    """By account id and what is dialled."""
    accounts: Mapping[str, Door] = field(default_factory=dict)
    """By account id: whatever else is dialled, where no route takes it."""

    def find(self, account_id: str, dialled: str, *, exactly: bool = False) -> Door | None:
        """What answers, if anything; ``exactly``: only if it is for just that number."""
        found = self.numbers.get((account_id, dialled))
        if found is None and not exactly:
            found = self.accounts.get(account_id)
        return found
