"""Refusals that say why (RFC 3261 §20.43)."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from callreel.base.errors import CapacityError, MachineError, PeerError, UsageError

T = TypeVar("T")


class Refused(PeerError):
    """A request that is refused with a Warning that says why."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text, status=status)
        plain = "".join(char for char in text if char.isprintable() and char not in '"\\')
        self.headers = [("Warning", f'399 callreel "{plain[:200]}"'), *headers]
        """For the response."""


async def refusing(step: Coroutine[Any, Any, T]) -> T:
    """Take a step of the media workers. What they cannot do is refused; existing calls go on."""
    try:
        return await step
    except CapacityError as error:
        raise Refused(503, str(error), [("Retry-After", "30")]) from None
    except UsageError as error:  # addresses of a family, or texts of a length, not for us
        raise Refused(488, str(error)) from None
    except MachineError as error:
        raise Refused(503, f"no media worker: {error}", [("Retry-After", "5")]) from None
