"""RTCP of a two-party call: sender and receiver reports, CNAME, BYE (RFC 3550 §6). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from callreel.base.errors import PeerError
from callreel.phone.reception import ReceptionReport

SR, RR, SDES, BYE = 200, 201, 202, 203

_NTP_EPOCH_S = 2_208_988_800
_CNAME = 1
_MAX_PACKETS = 32
_BLOCK = struct.Struct(">IIIIII")
_SENDER = struct.Struct(">QIII")


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender says of its clock and of what it sent."""

    ntp: int
    """Wall time of the sender, 32.32 bits (RFC 3550 §4)."""
    timestamp: int
    """The same instant on its RTP clock."""
    packets: int
    """Sent since the start."""
    octets: int
    """Of payload."""


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source."""

    reception: ReceptionReport
    """What it counted."""
    last_sr: int
    """The middle 32 bits of ``ntp`` of the last sender report it got; 0: none."""
    delay_since_last_sr: int
    """How long ago that was, in 65,536ths of a second."""


@dataclass(frozen=True, slots=True)
class Report:
    """One compound packet (§6.1), as far as it concerns us."""

    ssrc: int
    """Who speaks."""
    sender: SenderInfo | None = None
    """Given by who sent media."""
    blocks: tuple[ReportBlock, ...] = ()
    """A source each."""
    cname: str = ""
    """Who that is beyond this session; empty if it is not said."""
    leaves: bool = False
    """Whether it holds a BYE."""

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Read a compound packet. Raises ``PeerError`` if it is none, or contradicts its length."""
        ssrc: int | None = None
        sender: SenderInfo | None = None
        blocks: list[ReportBlock] = []
        cname = ""
        leaves = False
        at = 0
        for _ in range(_MAX_PACKETS):
            if at >= len(data):
                break
            if len(data) - at < 8:
                raise PeerError("RTCP packet is shorter than its header")
            first, kind, words, source = struct.unpack_from(">BBHI", data, at)
            end = at + 4 * (words + 1)
            if first >> 6 != 2 or end > len(data):
                raise PeerError("RTCP packet is not valid")
            body = data[at + 8 : end]
            if kind in (SR, RR):
                ssrc = source
                if kind == SR:
                    if len(body) < _SENDER.size:
                        raise PeerError("sender report is too short")
                    sender = SenderInfo(*_SENDER.unpack_from(body))
                    body = body[_SENDER.size :]
                if len(body) < _BLOCK.size * (first & 0x1F):
                    raise PeerError("report has fewer blocks than it says")
                blocks += [_block(body, _BLOCK.size * n) for n in range(first & 0x1F)]
            elif kind == SDES:
                cname = cname or _cname_of(body)
            elif kind == BYE:
                leaves = True
                ssrc = source if ssrc is None else ssrc
            at = end
        if ssrc is None:
            raise PeerError("RTCP without a report")
        return cls(ssrc, sender, tuple(blocks), cname, leaves)

    def serialize(self) -> bytes:
        """The compound packet: SR or RR, SDES, and BYE if so."""
        body = b"".join(_serialize_block(block) for block in self.blocks)
        if self.sender is not None:
            info = self.sender
            body = _SENDER.pack(info.ntp, info.timestamp, info.packets, info.octets) + body
        kind = RR if self.sender is None else SR
        packets = [_packet(kind, len(self.blocks), struct.pack(">I", self.ssrc) + body)]
        if self.cname:
            name = self.cname.encode()[:255]
            chunk = struct.pack(">IBB", self.ssrc, _CNAME, len(name)) + name
            packets.append(_packet(SDES, 1, chunk + bytes(4 - len(chunk) % 4)))
        if self.leaves:
            packets.append(_packet(BYE, 1, struct.pack(">I", self.ssrc)))
        return b"".join(packets)


def ntp_of(wall: float) -> int:
    """Seconds since 1970 as 32.32 bits of NTP time."""
    return int((wall + _NTP_EPOCH_S) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def wall_of(ntp: int) -> float:
    """Seconds since 1970 of 32.32 bits of NTP time."""
    return ntp / (1 << 32) - _NTP_EPOCH_S


def middle(ntp: int) -> int:
    """The middle 32 bits of NTP time."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip_s(block: ReportBlock, *, arrival_ntp: int) -> float | None:
    """How long our report and this answer took together (§6.4.1); None if it does not say."""
    if not block.last_sr:
        return None
    trip = (middle(arrival_ntp) - block.last_sr - block.delay_since_last_sr) & 0xFFFFFFFF
    # A clock that was set, or a peer that makes numbers up, gives what cannot be.
    return trip / 65536 if trip < 60 * 65536 else None


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0x80 | count, kind, len(body) // 4) + body


def _serialize_block(block: ReportBlock) -> bytes:
    counted = block.reception
    return _BLOCK.pack(
        counted.ssrc,
        counted.fraction_lost << 24 | counted.lost & 0xFFFFFF,
        counted.highest_sequence,
        counted.jitter & 0xFFFFFFFF,
        block.last_sr,
        block.delay_since_last_sr,
    )


def _block(body: bytes, at: int) -> ReportBlock:
    ssrc, losses, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, at)
    lost = losses & 0xFFFFFF
    if lost & 0x800000:
        lost -= 0x1000000
    return ReportBlock(ReceptionReport(ssrc, losses >> 24, lost, highest, jitter), last_sr, delay)


def _cname_of(body: bytes) -> str:
    """The CNAME of the first chunk, whose SSRC was taken off; empty if there is none."""
    at = 0
    while at + 2 <= len(body) and body[at]:
        kind, size = body[at], body[at + 1]
        if kind == _CNAME:
            return body[at + 2 : at + 2 + size].decode("utf-8", "replace")
        at += 2 + size
    return ""
