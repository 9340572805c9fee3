"""RTP packets (RFC 3550 §5): one at a time as values, and a whole slab at once as arrays.

The value is for whoever makes or looks at single packets. The renderer and the tests, which see
hundreds of thousands, use :func:`parse_slab`: the same rules, no Python per packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from callreel.base.errors import PeerError

HEADER_BYTES = 12
_HEADER = struct.Struct(">BBHII")
_EXTENSION = struct.Struct(">HH")

Buffer = bytes | bytearray | memoryview
Octets = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """The header extension of a packet (RFC 3550 §5.3.1), its content left as it is."""

    profile: int
    """The 16 bits that a profile defines: 0xBEDE for RFC 8285's one-byte headers."""
    data: bytes
    """A multiple of four bytes."""


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet. Made by hand to be sent, or by :meth:`parse`."""

    payload_type: int
    """0..127."""
    sequence: int
    """0..65535."""
    timestamp: int
    """32 bits of media time, in units of the RTP clock."""
    ssrc: int
    """32 bits."""
    payload: bytes = b""
    """Without padding."""
    marker: bool = False
    """For audio: the first packet of a talkspurt (RFC 3551 §4.1)."""
    csrc: tuple[int, ...] = ()
    """Contributing sources, at most 15."""
    extension: HeaderExtension | None = None
    """Header extension, or None."""
    padding_bytes: int = 0
    """Padding after the payload, its count byte included; 0..255."""

    @classmethod
    def parse(cls, data: Buffer) -> RtpPacket:
        """Read one packet. Raises ``PeerError`` if it is not RTP, or contradicts its length."""
        if len(data) < HEADER_BYTES:
            raise PeerError("RTP packet is shorter than its header")
        first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
        if first >> 6 != 2:
            raise PeerError("RTP version is not 2")
        if is_rtcp(data):
            raise PeerError("RTCP where RTP was expected")
        at = HEADER_BYTES + 4 * (first & 0x0F)
        if at > len(data):
            raise PeerError("RTP packet ends within its CSRC list")
        csrc = struct.unpack_from(f">{first & 0x0F}I", data, HEADER_BYTES)
        extension = None
        if first & 0x10:
            if at + _EXTENSION.size > len(data):
                raise PeerError("RTP packet ends within its header extension")
            profile, words = _EXTENSION.unpack_from(data, at)
            at += _EXTENSION.size
            if at + 4 * words > len(data):
                raise PeerError("RTP packet ends within its header extension")
            extension = HeaderExtension(profile, bytes(data[at : at + 4 * words]))
            at += 4 * words
        padding = 0
        if first & 0x20:
            padding = data[-1] if len(data) > at else 0
            if not 0 < padding <= len(data) - at:
                raise PeerError("RTP padding is longer than what follows the header")
        return cls(
            payload_type=second & 0x7F,
            sequence=sequence,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=bytes(data[at : len(data) - padding]),
            marker=bool(second & 0x80),
            csrc=csrc,
            extension=extension,
            padding_bytes=padding,
        )

    def serialize(self) -> bytes:
        """The packet's bytes. Padding is zeros, then its count."""
        first = 0x80 | len(self.csrc)
        parts = [struct.pack(f">{len(self.csrc)}I", *self.csrc)]
        if self.extension is not None:
            first |= 0x10
            words = len(self.extension.data) // 4
            parts.append(_EXTENSION.pack(self.extension.profile, words) + self.extension.data)
        parts.append(self.payload)
        if self.padding_bytes:
            first |= 0x20
            parts.append(bytes(self.padding_bytes - 1) + bytes((self.padding_bytes,)))
        second = self.payload_type | (0x80 if self.marker else 0)
        head = _HEADER.pack(first, second, self.sequence, self.timestamp, self.ssrc)
        return head + b"".join(parts)


def is_rtcp(data: Buffer) -> bool:
    """Whether a packet on the RTP port is RTCP: by its second byte (RFC 5761 §4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223


@dataclass(slots=True)
class Packetizer:
    """Numbers and stamps the packets of one sender.

    Made with its first sequence number and timestamp, which RFC 3550 §5.1 wants random.
    """

    ssrc: int
    """32 bits."""
    payload_type: int
    """0..127."""
    sequence: int
    """Of the next packet."""
    timestamp: int
    """Of the next packet."""
    _marker: bool = field(default=True, init=False)

    def packet(self, payload: bytes, *, ticks: int) -> bytes:
        """The next packet. ``ticks`` is what it lasts, in units of the RTP clock."""
        packet = RtpPacket(
            payload_type=self.payload_type,
            sequence=self.sequence,
            timestamp=self.timestamp,
            ssrc=self.ssrc,
            payload=payload,
            marker=self._marker,
        )
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + ticks) & 0xFFFFFFFF
        self._marker = False
        return packet.serialize()

    def pass_silence(self, ticks: int) -> None:
        """Let media time go by without a packet; the next one begins a talkspurt."""
        self.timestamp = (self.timestamp + ticks) & 0xFFFFFFFF
        self._marker = True


@dataclass(frozen=True, slots=True)
class PacketTable:
    """The headers of a slab of packets, a row a packet. Rows that are not ``ok`` mean nothing."""

    octets: Octets
    """The packets one after the other; uint8[total]."""
    sequence: NDArray[np.uint16]
    """Sequence numbers; uint16[n]."""
    timestamp: NDArray[np.uint32]
    """Timestamps; uint32[n]."""
    ssrc: NDArray[np.uint32]
    """Synchronization sources; uint32[n]."""
    payload_type: Octets
    """Payload types; uint8[n]."""
    marker: NDArray[np.bool_]
    """Marker bits; bool[n]."""
    payload_start: NDArray[np.int64]
    """Where in ``octets`` each payload begins, in bytes; int64[n]."""
    payload_bytes: NDArray[np.int64]
    """Payload lengths without padding; int64[n]."""
    ok: NDArray[np.bool_]
    """Whether the row is a whole RTP packet; bool[n]."""
    rtcp: NDArray[np.bool_]
    """Whether it is RTCP on the RTP port (RFC 5761); never ``ok`` as well; bool[n]."""


def parse_slab(lengths: NDArray[np.uint16], data: Buffer | Octets) -> PacketTable:
    """The headers of ``lengths[n]`` packets that lie one after the other in ``data``.

    A row is ``ok`` exactly where :meth:`RtpPacket.parse` would not raise. Raises ``ValueError`` if
    the lengths do not add up to the data's.
    """
    octets: Octets = np.frombuffer(data, np.uint8)
    length = lengths.astype(np.int64)
    end = np.cumsum(length)
    start = end - length
    if (int(end[-1]) if len(end) else 0) != len(octets):
        raise ValueError("packet lengths do not add up to the slab's")
    if len(octets) == 0:
        octets_or_zero: Octets = np.zeros(1, np.uint8)
    else:
        octets_or_zero = octets
    last = len(octets_or_zero) - 1

    # A packet too short for what is looked up reads its neighbour's bytes, or the slab's last:
    # harmless, since its length rules the row out below.
    size = int(length[0]) if len(length) else 0
    if size >= HEADER_BYTES and bool((length == size).all()):
        # The usual case, packets of one length: no index for each byte.
        head = octets_or_zero.reshape(-1, size)[:, :HEADER_BYTES]
    else:
        head = octets_or_zero[np.minimum(start[:, None] + np.arange(HEADER_BYTES), last)]
    first: Octets = head[:, 0]
    second: Octets = head[:, 1]
    words = np.ascontiguousarray(head).view(">u4").astype(np.uint32).reshape(-1, 3)
    version = (first >> 6) == 2
    whole = length >= HEADER_BYTES
    rtcp = version & (length >= 2) & (second >= 192) & (second <= 223)

    header_bytes = HEADER_BYTES + 4 * (first & 0x0F).astype(np.int64)
    extended = np.flatnonzero(first & 0x10)
    if len(extended):
        at = start[extended] + header_bytes[extended]
        high = octets_or_zero[np.minimum(at + 2, last)].astype(np.int64)
        low = octets_or_zero[np.minimum(at + 3, last)].astype(np.int64)
        fits = header_bytes[extended] + 4 <= length[extended]
        # Where not even the length field fits, any length that is too long will do.
        header_bytes[extended] += np.where(fits, 4 + 4 * (high * 256 + low), 1 << 20)
    payload = length - header_bytes
    ok = version & whole & ~rtcp & (payload >= 0)
    padded = np.flatnonzero(ok & ((first & 0x20) != 0))
    if len(padded):
        padding = octets[end[padded] - 1].astype(np.int64)
        ok[padded] = (padding > 0) & (padding <= payload[padded])
        payload[padded] -= padding

    return PacketTable(
        octets=octets,
        sequence=(words[:, 0] & 0xFFFF).astype(np.uint16),
        timestamp=words[:, 1],
        ssrc=words[:, 2],
        payload_type=(second & 0x7F).astype(np.uint8, copy=False),
        marker=second >= 0x80,
        payload_start=start + header_bytes,
        payload_bytes=payload,
        ok=ok,
        rtcp=rtcp,
    )


def gather(octets: Octets, start: NDArray[np.int64], count: NDArray[np.int64]) -> Octets:
    """The pieces ``octets[start : start + count]`` one after the other; uint8[sum of counts]."""
    if len(start) == 0:
        return np.zeros(0, np.uint8)
    size = int(count[0])
    if bool((count == size).all()):
        # The usual case, packets of one length: rows of a matrix instead of an index per byte.
        stride = int(start[1] - start[0]) if len(start) > 1 else size
        if stride >= 0 and bool((np.diff(start) == stride).all()):
            # The last row ends where the last packet does, so the view stays within the slab.
            rows: Octets = as_strided(octets[int(start[0]) :], (len(start), size), (stride, 1))
            return rows.reshape(-1)
        picked: Octets = octets[(start[:, None] + np.arange(size)).reshape(-1)]
        return picked
    total = np.cumsum(count)
    index: NDArray[np.int64] = np.arange(int(total[-1])) + np.repeat(start - (total - count), count)
    pieces: Octets = octets[index]
    return pieces
