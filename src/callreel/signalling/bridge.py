"""A bridged call as a value that changes: its two legs, and what is kept of it for a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from callreel.base.errors import PeerError
from callreel.calls.model import RecordingRequest
from callreel.signalling.leg import Leg
from callreel.signalling.security import SrtpPolicy

KIND = "bridge"
"""Says of a stored session that it is one of these."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who a call comes from, once that is established."""

    name: str
    """Of the peer or trunk, or ``user:NAME``: routes know it by this."""
    account_id: str
    """Whose the call is."""
    record: RecordingRequest | None = None
    """The recording that its calls begin with."""
    number: str | None = None
    """What it calls by, whatever From says; None: what From says."""
    trusted: bool = False
    """Whether its P-Asserted-Identity counts."""
    nat: bool = False
    """Whether it may be behind network address translation."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """What may protect the media of its calls."""
    own_user: str | None = None
    """How a trunk that we register with writes us in the Request-URI: what was dialled is in To."""


@dataclass(slots=True, eq=False)
class Bridge:
    """A call that is passed on: the leg that called, and the one that answered."""

    source: Source
    """Who called."""
    caller: Leg
    """The inbound leg: the call."""
    callee: Leg | None = None
    """The outbound leg that answered; None while it rings."""
    late_offer: int | None = None
    """CSeq of our INVITE whose 2xx held an offer that is not answered yet."""
    setup: asyncio.Task[None] | None = None
    """The search for somebody who answers, while it rings."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One step of setting up or changing at a time."""
    ended: bool = False
    """Whether it is over."""

    @property
    def legs(self) -> list[Leg]:
        """Both, as far as there are."""
        return [self.caller] if self.callee is None else [self.caller, self.callee]

    def other(self, leg: Leg) -> Leg:
        """The other side. Raises ``PeerError`` (491) while there is none."""
        other = self.callee if leg is self.caller else self.caller
        if other is None:
            raise PeerError("the call is not bridged yet", status=491)
        return other

    def to_json(self) -> str:
        """All that a new process needs to go on with it: kept with the caller's call."""
        legs = [leg.to_dict() for leg in self.legs]
        source = self.source
        return json.dumps(
            {"kind": KIND, "source": source.name, "account": source.account_id, "legs": legs}
        )

    @staticmethod
    def child_json() -> str:
        """What is kept with the callee's call: nothing, it is all with the caller's."""
        return json.dumps({"kind": KIND, "legs": []})

    @classmethod
    def from_dict(cls, state: dict[str, Any], source: Callable[[str], Source | None]) -> Bridge:
        """What :meth:`to_json` wrote. A source that is not configured any more is known by its
        name alone: a call that was admitted goes on.

        Raises ``PeerError``, ``ValueError``, ``KeyError`` or ``TypeError`` for anything else.
        """
        name = str(state["source"])
        found = source(name) or Source(name, str(state.get("account", "")))
        caller, callee = (Leg.from_dict(one) for one in state["legs"])
        return cls(found, caller, callee)
