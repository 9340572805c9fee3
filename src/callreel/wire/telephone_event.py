"""Keys pressed, as telephone-events (RFC 4733): the payload, and who hears each key once. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

EVENTS = "0123456789*#ABCD"
"""The keys by their event codes (§3.2)."""
VOLUME = 10
"""What we send, below full scale, in dB."""
_STRAGGLING = 5 * 8000
"""An event so much older than the last one, in units of its clock, is a straggler; one that is
older still is of a sender that has begun anew."""
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
    volume: int = VOLUME
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


class DigitReceiver:
    """Tells each event once, however many packets speak of it (§2.5.2).

    ``last`` is the SSRC and timestamp of the last one; a successor goes on with it.
    """

    def __init__(self, last: tuple[int, int] | None = None) -> None:
        self.last = last

    def receive(self, payload: bytes, *, ssrc: int, timestamp: int) -> str | None:
        """The key that a packet begins; None if it is no key, or goes on with one."""
        event = EventPayload.parse(payload)
        if event is None or event.event >= len(EVENTS) or self.last == (ssrc, timestamp):
            return None
        if self.last is not None and self.last[0] == ssrc:
            back = (self.last[1] - timestamp) & 0xFFFFFFFF
            if back < _STRAGGLING:
                return None  # a straggler of an event before
        self.last = (ssrc, timestamp)
        return EVENTS[event.event]
