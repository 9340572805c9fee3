"""What is heard of a party that is attended: keys, and that it has fallen silent. Pure.

Keys are telephone-events (RFC 4733) alone: tones in the band are audio like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from callreel.audio import g711
from callreel.audio.codec import COMFORT_NOISE, TELEPHONE_EVENT
from callreel.audio.level import rms_of
from callreel.base.errors import PeerError
from callreel.calls.media import Codec
from callreel.wire.rtp import HEADER_BYTES, RtpPacket, is_rtcp
from callreel.wire.telephone_event import DigitReceiver

SILENCE_DBFS = -45.0
"""A packet that is quieter (RMS) says nothing."""
LOOK_TICKS = 5
"""How often the levels of a stream are looked at, in ticks."""
_PLAIN = 0x80
"""First byte of an RTP packet that is nothing but header and payload."""
_POWER = rms_of(SILENCE_DBFS) ** 2
_MAX_PENDING = 512
"""Packets that wait for the next look."""


def _squares(samples: NDArray[np.int16]) -> NDArray[np.float64]:
    return np.square(samples, dtype=np.float64)


_CODES = np.arange(256, dtype=np.uint8)
_SQUARES = {
    "PCMU": _squares(g711.decode_ulaw(_CODES)),
    "PCMA": _squares(g711.decode_alaw(_CODES)),
}
"""Of each code's sample."""


class Ear:
    """Listens to one stream.

    ``last`` is that of a former one's :class:`DigitReceiver`.
    """

    __slots__ = (
        "_digits",
        "_event_types",
        "_loud_ns",
        "_pending",
        "_quiet_types",
        "_silence_ns",
        "_since_ns",
        "_tables",
        "keys",
        "spoke",
    )

    def __init__(self, codecs: Sequence[Codec], last: tuple[int, int] | None = None) -> None:
        self._digits = DigitReceiver(last)
        self.keys: list[str] = []
        """Pressed, and not told as yet."""
        self.spoke = False
        """Whether anything was said since listening began."""
        self._silence_ns: int | None = None
        self._since_ns = self._loud_ns = 0
        self._pending: list[tuple[int, bytes]] = []
        self.learn(codecs)

    def learn(self, codecs: Sequence[Codec]) -> None:
        """What may come."""
        names = {codec.payload_type: codec.name.upper() for codec in codecs}
        self._event_types = {one for one, name in names.items() if name == TELEPHONE_EVENT}
        self._quiet_types = {one for one, name in names.items() if name == COMFORT_NOISE}
        self._tables = {one: _SQUARES[name] for one, name in names.items() if name in _SQUARES}

    @property
    def last_digit(self) -> tuple[int, int] | None:
        """For a successor: see :class:`DigitReceiver`."""
        return self._digits.last

    @property
    def silence_ms(self) -> int | None:
        """What is listened for; None while nothing is."""
        return None if self._silence_ns is None else self._silence_ns // 1_000_000

    def listen(self, silence_ms: int | None, now_ns: int, *, spoke: bool = False) -> None:
        """Wait for so much silence from now on, None: for none. Times: monotonic."""
        self._silence_ns = None if silence_ms is None else silence_ms * 1_000_000
        self._since_ns = self._loud_ns = now_ns
        self.spoke = spoke
        self._pending.clear()

    def wants(self, packet: bytes | bytearray) -> bool:
        """Whether a packet matters, by its header, which is in the clear whatever the rest is."""
        if len(packet) < HEADER_BYTES or is_rtcp(packet):
            return False
        return self._silence_ns is not None or packet[1] & 0x7F in self._event_types

    def hear(self, packet: bytes, arrival_ns: int) -> None:
        """One that matters, in the clear."""
        if packet[1] & 0x7F in self._event_types:
            self._press(packet)
        elif self._silence_ns is not None:
            self._pending.append((arrival_ns, packet))
            if len(self._pending) >= _MAX_PENDING:
                self._weigh()

    def has_fallen_silent(self, now_ns: int) -> bool:
        """Whether the party has said nothing for so long. All that came must have been heard."""
        if self._silence_ns is None:
            return False
        if self._pending:
            self._weigh()
        return now_ns - self._loud_ns >= self._silence_ns

    def _press(self, packet: bytes) -> None:
        try:
            event = RtpPacket.parse(packet)
        except PeerError:
            return
        key = self._digits.receive(event.payload, ssrc=event.ssrc, timestamp=event.timestamp)
        if key is not None:
            self.keys.append(key)

    def _weigh(self) -> None:
        """Find the last of what came that was loud."""
        pending, self._pending = self._pending, []
        by_type: dict[int, list[tuple[int, bytes]]] = {}
        for arrival_ns, packet in pending:
            by_type.setdefault(packet[1] & 0x7F, []).append((arrival_ns, packet))
        for payload_type, packets in by_type.items():
            payloads = [_payload(packet) for _, packet in packets]
            loud = self._loud(payload_type, payloads)
            heard = [at for (at, _), is_loud in zip(packets, loud, strict=True) if is_loud]
            if heard and max(heard) > self._since_ns:
                self.spoke = True
                self._loud_ns = max(self._loud_ns, *heard)

    def _loud(self, payload_type: int, payloads: Sequence[bytes]) -> Sequence[bool]:
        """Of each payload, whether it is loud. What we cannot decode counts as loud: a party that
        speaks must not be cut off."""
        if payload_type in self._quiet_types:
            return [False] * len(payloads)
        table = self._tables.get(payload_type)
        if table is None:
            return [bool(payload) for payload in payloads]
        lengths = np.array([len(payload) for payload in payloads])
        whole = lengths > 0
        powers = np.zeros(len(payloads))
        if whole.any():
            squares = table[np.frombuffer(b"".join(payloads), np.uint8)]
            starts = (np.cumsum(lengths) - lengths)[whole]
            powers[whole] = np.add.reduceat(squares, starts) / lengths[whole]
        return [bool(one) for one in powers >= _POWER]


def _payload(packet: bytes) -> bytes:
    if packet[0] == _PLAIN:
        return packet[HEADER_BYTES:]
    try:
        return RtpPacket.parse(packet).payload
    except PeerError:
        return b""
