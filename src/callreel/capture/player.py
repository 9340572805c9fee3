"""What one stream is sent: a packet a tick, of what is played, else of silence. Pure.

A tick (see :mod:`~callreel.capture.pace`) is 20 ms. Timestamps are made of ticks alone: they go on
with real time whether anything is sent or not. Sequence numbers count what is sent.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from callreel.audio.encoding import Encoding, encoding_for
from callreel.calls.media import Codec
from callreel.wire.telephone_event import EventPayload

PRESSED_FRAMES = 5
"""How long a key is pressed: 100 ms."""
END_FRAMES = 3
"""Packets that say how long it was in the end (RFC 4733 §2.5.1.4)."""
GAP_FRAMES = 5
"""Between one key and the next."""
NEVER = 1 << 62
_HEAD = struct.Struct(">BBHII")
_FIRST = 0x80
_MARKER = 0x80


@dataclass(frozen=True, slots=True)
class Format:
    """How a peer is played to."""

    encoding: Encoding
    """Of audio."""
    payload_type: int
    """The same."""
    event_type: int | None = None
    """Payload type of telephone-events; None where the peer takes none."""


def format_for(codecs: Sequence[Codec]) -> Format | None:
    """The first codec that we can play, and telephone-events of its clock; None if there is none.

    Telephone-events of another clock than the audio's are not used (RFC 4733 §2.1: they share the
    audio's timestamps)."""
    for codec in codecs:
        encoding = encoding_for(codec.name, codec.clock_rate_hz, codec.channels)
        if encoding is None:
            continue
        events = [
            one.payload_type
            for one in codecs
            if one.name.upper() == "TELEPHONE-EVENT" and one.clock_rate_hz == encoding.clock_rate_hz
        ]
        return Format(encoding, codec.payload_type, events[0] if events else None)
    return None


@dataclass(frozen=True, slots=True)
class Audio:
    """Encoded audio."""

    payloads: bytes
    """Of whole frames, one after the other."""
    frames: int
    """How many."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Silence."""

    frames: int
    """How long."""


@dataclass(frozen=True, slots=True)
class Key:
    """A telephone-event."""

    event: int
    """Its code."""

    @property
    def frames(self) -> int:
        """Packets of one."""
        return PRESSED_FRAMES + END_FRAMES


Clip = Audio | Quiet | Key


class Player:
    """Makes the packets of one stream. Ticks that it is given only grow."""

    __slots__ = (
        "_at",
        "_clip",
        "_clips",
        "_ends",
        "_from",
        "_last",
        "_second",
        "_timestamp",
        "_until",
        "begins",
        "ends",
        "format",
        "play_id",
        "sequence",
        "ssrc",
    )

    def __init__(self, form: Format, *, ssrc: int, sequence: int, timestamp: int) -> None:
        self.format = form
        """What packets are made in."""
        self.ssrc = ssrc
        """32 bits."""
        self.sequence = sequence
        """Of the next packet."""
        self.play_id = ""
        """What is being played; empty for nothing."""
        self.begins = 0
        """The first tick of what is being played."""
        self.ends = NEVER
        """The tick after the last of what is being played."""
        self._timestamp = timestamp
        self._last = -2
        self._second = form.payload_type
        self._clips: tuple[Clip, ...] = ()
        self._ends: list[int] = []
        self._clip: Clip | None = None
        self._from, self._until = 0, NEVER

    def play(self, play_id: str, clips: Sequence[Clip], tick: int) -> None:
        """Play these from a tick on, in place of what was being played. A tick that has passed is
        where it would be by now."""
        self.play_id = play_id
        self._clips = tuple(clips)
        self._ends = list(accumulate((clip.frames for clip in clips), initial=tick))[1:]
        self.begins = self._from = self._until = tick
        self.ends = self._ends[-1] if self._ends else tick
        self._clip = None

    def stop(self) -> None:
        """Play nothing."""
        self.play_id = ""
        self.ends = self._until = NEVER
        self.begins = self._from = 0
        self._clips, self._ends, self._clip = (), [], None

    def convert(self, form: Format, clips: Sequence[Clip]) -> None:
        """The peer wants another format: go on in it. The clips are those being played, in it."""
        self.format = form
        self._second = form.payload_type
        if self.play_id:
            self.play(self.play_id, clips, self.begins)

    def packet(self, tick: int) -> bytes:
        """The packet of a tick. Only to be asked for where it will be sent."""
        if tick >= self._until:
            self._advance(tick)
        clip, second, stamped = self._clip, self._second, tick
        if clip is None:
            payload = self.format.encoding.quiet
        elif isinstance(clip, Audio):
            size = self.format.encoding.frame_bytes
            at = (tick - self._from) * size
            payload = clip.payloads[at : at + size]
        elif isinstance(clip, Key):
            number, stamped = tick - self._from, self._from
            second = (self.format.event_type or 0) | (0 if number else _MARKER)
            payload = self._event(clip, number)
        else:
            payload = self.format.encoding.quiet
        if tick != self._last + 1:
            # The peer has heard nothing (of us) before this.
            second |= _MARKER
        self._last = tick
        sequence = self.sequence
        self.sequence = (sequence + 1) & 0xFFFF
        stamp = self._timestamp + stamped * self.format.encoding.frame_ticks
        return _HEAD.pack(_FIRST, second, sequence, stamp & 0xFFFFFFFF, self.ssrc) + payload

    def miss(self, ticks: int) -> None:
        """So many packets more should have been sent, and were not."""
        self.sequence = (self.sequence + ticks) & 0xFFFF

    def _event(self, key: Key, number: int) -> bytes:
        pressed = min(number + 1, PRESSED_FRAMES) * self.format.encoding.frame_ticks
        return EventPayload(key.event, number >= PRESSED_FRAMES, pressed).serialize()

    def _advance(self, tick: int) -> None:
        """Find what is played at a tick."""
        at = bisect_right(self._ends, tick)
        if at == len(self._clips):
            self._clip, self._from, self._until = None, tick, NEVER
            return
        self._clip = self._clips[at]
        self._until = self._ends[at]
        self._from = self._until - self._clip.frames

    def to_json(self) -> dict[str, Any]:
        """What a successor needs, besides format and clips."""
        return {
            "ssrc": self.ssrc,
            "sequence": self.sequence,
            "timestamp": self._timestamp,
        }

    @classmethod
    def from_json(cls, form: Format, value: Mapping[str, Any], *, ticks: int) -> Player:
        """Reads what ``to_json`` made so many ticks ago: as many packets may have been sent since.
        Raises ``ValueError``, ``TypeError`` or ``KeyError``."""
        return cls(
            form,
            ssrc=int(value["ssrc"]) & 0xFFFFFFFF,
            sequence=(int(value["sequence"]) + ticks) & 0xFFFF,
            timestamp=int(value["timestamp"]) & 0xFFFFFFFF,
        )
