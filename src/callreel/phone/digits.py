"""Digits as telephone-events (RFC 4733): what to send when, and what was pressed. Pure."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from callreel.base.errors import UsageError
from callreel.phone.sources import FRAME_SAMPLES

EVENTS = "0123456789*#ABCD"
"""The digits by their event codes (§3.2)."""
PAUSES = {"w": 25, "W": 50}
"""Frames that a pause in a string of digits lasts: half a second, one second."""

_MAX_DIGITS = 200
_PRESSED_FRAMES = 5
_END_FRAMES = 3
_GAP_FRAMES = 5
_VOLUME = 10
_PAYLOAD = struct.Struct(">BBH")


@dataclass(frozen=True, slots=True)
class EventPayload:
    """The payload of one packet (§2.3)."""

    event: int
    """0..255; the first sixteen are :data:`EVENTS`."""
    ended: bool
    """True in the packets that say how long it was in the end."""
    duration_samples: int
    """So far; 16 bits."""
    volume: int = _VOLUME
    """Below full scale, in dB."""

    @classmethod
    def parse(cls, payload: bytes) -> EventPayload | None:
        """Read a payload; None if it is none."""
        if len(payload) < _PAYLOAD.size:
            return None
        event, flags, duration = _PAYLOAD.unpack_from(payload)
        return cls(event, bool(flags & 0x80), duration, flags & 0x3F)

    def serialize(self) -> bytes:
        """Four bytes."""
        flags = (0x80 if self.ended else 0) | self.volume
        return _PAYLOAD.pack(self.event, flags, self.duration_samples)


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


class DigitReceiver:
    """Tells each event once, however many packets speak of it (§2.5.2)."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def receive(self, payload: bytes, *, ssrc: int, timestamp: int) -> str | None:
        """The digit that a packet begins; None if it is no digit, or goes on with one."""
        event = EventPayload.parse(payload)
        if event is None or event.event >= len(EVENTS) or self._last == (ssrc, timestamp):
            return None
        if self._last is not None and self._last[0] == ssrc:
            back = (timestamp - self._last[1]) & 0xFFFFFFFF
            if back & 0x80000000:
                return None  # a straggler of an event before
        self._last = (ssrc, timestamp)
        return EVENTS[event.event]
