"""``Gather``: prompts, and keys."""

from __future__ import annotations

from callreel.cxml import verbs
from callreel.cxml.desk import Desk
from callreel.cxml.events import Digit, Event
from callreel.cxml.playing import Prompting
from callreel.cxml.step import Go, Next, Outcome, Step

MAX_KEYS = 1000
"""Keys that one ``Gather`` takes in where it sets no number."""


class GatherStep(Step):
    """Takes in keys. The first cuts off the prompts; time runs from their end and each key."""

    def __init__(self, desk: Desk, verb: verbs.Gather) -> None:
        self._desk = desk
        self._verb = verb
        self._prompting = Prompting(desk, verb.prompts)
        self._keys = ""
        self._deadline: float | None = None

    def begin(self, now: float) -> Outcome | None:
        """Answer, and say what there is to say."""
        self._desk.answer()
        self._prompting.begin()
        if not self._prompting.is_playing:
            self._wait(now)
        return None

    def receive(self, event: Event, now: float) -> Outcome | None:
        """A key, or the end of the prompts."""
        if isinstance(event, Digit):
            return self._pressed(event.key, now)
        if self._prompting.receive(event):
            self._wait(now)
        return None

    def _pressed(self, key: str, now: float) -> Outcome | None:
        if key not in "0123456789*#":
            return None
        self._prompting.stop()
        if key in self._verb.finish_on_key:
            return self._finish()
        self._keys += key
        if len(self._keys) >= (self._verb.num_digits or MAX_KEYS):
            return self._finish()
        self._wait(now)
        return None

    def _wait(self, now: float) -> None:
        self._deadline = now + self._verb.timeout_s

    def next_deadline(self) -> float | None:
        """When it has waited long enough."""
        return self._deadline

    def expire(self, now: float) -> Outcome | None:
        """No key came, or no further one."""
        return self._finish()

    def _finish(self) -> Outcome:
        if not self._keys and not self._verb.action_on_empty_result:
            return Next()
        return Go(self._verb.follow, (("Digits", self._keys),))

    def abandon(self) -> None:
        """Cut the prompts off."""
        self._prompting.stop()
