"""Digits as telephone-events (RFC 4733): what to send when. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from callreel.base.errors import UsageError
from callreel.phone.sources import FRAME_SAMPLES
from callreel.wire.telephone_event import EVENTS, EventPayload

PAUSES = {"w": 25, "W": 50}
"""Frames that a pause in a string of digits lasts: half a second, one second."""

_MAX_DIGITS = 200
_PRESSED_FRAMES = 5
_END_FRAMES = 3
_GAP_FRAMES = 5


@dataclass(frozen=True, slots=True)
class EventFrame:
    """What takes the place of 20 ms of audio."""

    payload: EventPayload
    """What is sent."""
    number: int
    """Frames since the event began: its timestamp is that many frames back."""


def parse_digits(text: str) -> str:
    """``1w2``: digits, with ``w`` for half a second and ``W`` for one. Raises ``UsageError``."""
    plain = "".join(char if char in PAUSES else char.upper() for char in text)
    if (
        not plain
        or len(plain) > _MAX_DIGITS
        or any(c not in EVENTS and c not in PAUSES for c in plain)
    ):
        raise UsageError(
            f"{text!r}: digits are 0-9 * # A-D, w for a pause of half a second, W of one"
        )
    return plain


class DigitSender:
    """Digits that wait to be sent, a frame at a time."""

    def __init__(self) -> None:
        self._frames: deque[EventFrame | None] = deque()

    def press(self, digits: str) -> None:
        """Add what :func:`parse_digits` gave."""
        for digit in digits:
            if digit in PAUSES:
                self._frames += [None] * PAUSES[digit]
                continue
            event = EVENTS.index(digit)
            for number in range(_PRESSED_FRAMES + _END_FRAMES):
                pressed = min(number + 1, _PRESSED_FRAMES)
                payload = EventPayload(event, number >= _PRESSED_FRAMES, pressed * FRAME_SAMPLES)
                self._frames.append(EventFrame(payload, number))
            self._frames += [None] * _GAP_FRAMES

    @property
    def is_idle(self) -> bool:
        """True if nothing waits."""
        return not self._frames

    def next_frame(self) -> EventFrame | None:
        """What takes the place of the next 20 ms; None: they are audio."""
        return self._frames.popleft() if self._frames else None
