"""The interpreter: what a document says, step by step, for one call."""

from __future__ import annotations

from typing import Any

from callreel.calls.model import Dialect
from callreel.cxml.actions import Action
from callreel.cxml.events import Event


class Interpreter:
    """Steers one call by documents. Times: monotonic seconds.

    Begin with ``receive(Instructed(…))``. After each :meth:`receive` and :meth:`handle_timeout`,
    take actions until there are none, and arm one timer for :meth:`next_deadline`. After
    ``EndCall`` nothing follows, whatever is received. Never raises for what a document, a party or
    a program does.
    """

    def __init__(self, *, answered: bool, dialect: Dialect = Dialect.TWILIO) -> None:
        """``answered``: whether the call is (one that was placed); else a verb that needs it will
        answer it. ``dialect``: whose ways are followed where the vendors' differ."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, state: dict[str, Any], *, now: float) -> Interpreter:
        """Go on where :meth:`to_dict` left off, in another process. Its first actions are there.

        A ``Dial`` that was connected still is; a request is made again; any other verb begins anew.
        """
        raise NotImplementedError

    def to_dict(self, *, now: float) -> dict[str, Any]:
        """What a successor needs, as JSON has it. Holds what the document holds: passwords too."""
        raise NotImplementedError

    def receive(self, event: Event, *, now: float) -> None:
        """Take in what happened. What comes late, or twice, or unasked, is nothing."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timeout` is to be called, if nothing is received before."""
        raise NotImplementedError

    def handle_timeout(self, *, now: float) -> None:
        """The deadline has passed. Nothing if it has not."""
        raise NotImplementedError

    def next_action(self) -> Action | None:
        """The next thing to do, or None."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Whether ``EndCall`` was given: the call is over."""
        raise NotImplementedError
