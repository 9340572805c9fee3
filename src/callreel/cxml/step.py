"""A verb that runs, and what can come of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from callreel.cxml.events import Event
from callreel.cxml.verbs import Follow

RECORDING_STOPS_S = 10.0
"""How long a verb waits to hear that its recording has stopped."""


@dataclass(frozen=True, slots=True)
class Next:
    """The next verb follows."""


@dataclass(frozen=True, slots=True)
class Go:
    """Another document follows."""

    follow: Follow
    """Which."""
    fields: tuple[tuple[str, str], ...] = ()
    """What its program is told."""


Outcome = Next | Go


class Step(ABC):
    """A verb that runs. Each method gives the outcome once there is one; nothing follows it."""

    @abstractmethod
    def begin(self, now: float) -> Outcome | None:
        """Ask for what the verb needs first."""

    def receive(self, event: Event, now: float) -> Outcome | None:
        """Take in what happened, of interest or not."""
        return None

    def next_deadline(self) -> float | None:
        """When :meth:`expire` is to be called."""
        return None

    def expire(self, now: float) -> Outcome | None:
        """The deadline has passed."""
        return None

    def hang_up(self, now: float) -> Outcome | None:
        """The party is gone: stop everything. ``Go``, now or later, if a program is to be told."""
        self.abandon()
        return Next()

    @abstractmethod
    def abandon(self) -> None:
        """Stop everything; there will be no outcome."""
