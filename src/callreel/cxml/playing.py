"""``Say``, ``Play``, ``Pause``; and prompts one after the other, as ``Gather`` has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from callreel.calls.voice import Digits, Silence
from callreel.cxml import actions, verbs
from callreel.cxml.actions import Audio, Playable, Speech
from callreel.cxml.codes import Code
from callreel.cxml.desk import Desk
from callreel.cxml.events import Event, PlayDone, PlayFailed
from callreel.cxml.step import Next, Outcome, Step
from callreel.cxml.verbs import Prompt

_AT_ONCE = 16
"""Sounds a ``Play`` action has at most: a thousand rounds of music are asked for bit by bit."""


class Prompting:
    """Plays prompts, one after the other."""

    def __init__(self, desk: Desk, prompts: Sequence[Prompt]) -> None:
        self._desk = desk
        self._left: deque[tuple[Playable, int]] = deque()
        for prompt in prompts:
            sound = _sound(prompt)
            if sound is not None:
                self._left.append((sound, 1 if isinstance(prompt, verbs.Pause) else prompt.loop))
        self._play_id: str | None = None
        self._fetches = False

    @property
    def is_playing(self) -> bool:
        """Whether there is more to come."""
        return self._play_id is not None

    def begin(self) -> None:
        """Play what there is; nothing if there is nothing."""
        self._play_id = None
        sounds = tuple(self._take())
        if sounds:
            self._play_id = self._desk.next_id("play")
            self._fetches = any(isinstance(sound, Audio) for sound in sounds)
            self._desk.act(actions.Play(self._play_id, sounds))

    def _take(self) -> list[Playable]:
        taken: list[Playable] = []
        while self._left and len(taken) < _AT_ONCE:
            sound, times = self._left.popleft()
            now = min(times, _AT_ONCE - len(taken))
            taken.extend([sound] * now)
            if now < times:
                self._left.appendleft((sound, times - now))
        return taken

    def receive(self, event: Event) -> bool:
        """Whether this was the end of it. What cannot be played ends it too."""
        if isinstance(event, PlayDone) and event.play_id == self._play_id:
            self.begin()
            return not self.is_playing
        if isinstance(event, PlayFailed) and event.play_id == self._play_id:
            code = Code.NOT_RETRIEVED if self._fetches else None
            self._desk.fail(f"cannot be played: {event.message}", code)
            self._play_id = None
            return True
        return False

    def stop(self) -> None:
        """Cut it off; nothing if it is over."""
        if self.is_playing:
            self._play_id = None
            self._desk.act(actions.StopPlaying())


def _sound(prompt: Prompt) -> Playable | None:
    match prompt:
        case verbs.Say():
            if not prompt.text:
                return None
            return Speech(prompt.text, prompt.language, prompt.voice)
        case verbs.Play():
            if prompt.digits:
                return Digits(prompt.digits)
            return Audio(prompt.url) if prompt.url else None
        case verbs.Pause():
            return Silence(prompt.length_s * 1000) if prompt.length_s else None


class PlayingStep(Step):
    """``Say`` and ``Play``."""

    def __init__(self, desk: Desk, verb: verbs.Say | verbs.Play) -> None:
        self._desk = desk
        self._prompting = Prompting(desk, [verb])

    def begin(self, now: float) -> Outcome | None:
        """Answer, and play."""
        self._desk.answer()
        self._prompting.begin()
        return None if self._prompting.is_playing else Next()

    def receive(self, event: Event, now: float) -> Outcome | None:
        """Played, or not to be played: either way the call goes on."""
        return Next() if self._prompting.receive(event) else None

    def abandon(self) -> None:
        """Cut it off."""
        self._prompting.stop()


class PauseStep(Step):
    """``Pause``: does not answer, so that a leading one delays the answer."""

    def __init__(self, verb: verbs.Pause) -> None:
        self._length_s = verb.length_s
        self._deadline: float | None = None

    def begin(self, now: float) -> Outcome | None:
        """Wait; what is sent meanwhile is silence."""
        if not self._length_s:
            return Next()
        self._deadline = now + self._length_s
        return None

    def next_deadline(self) -> float | None:
        """The end of the pause."""
        return self._deadline

    def expire(self, now: float) -> Outcome | None:
        """It is over."""
        return Next()

    def abandon(self) -> None:
        """Nothing is to be stopped."""
