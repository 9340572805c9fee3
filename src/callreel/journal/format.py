"""The journal's bytes: blocks in segments, written and read with no I/O.

A recording's journal is a folder of segments, each a file of blocks, each block a 40-byte header
and a payload. All integers are little-endian. ``docs/journal.md`` describes the format for people.

Header: magic 4, kind u8, version u8, stream u16, count u32, length u32 (payload bytes),
mono_ns u64, wall_ns u64, payload CRC-32 u32, CRC-32 of the 36 bytes before u32.

``mono_ns`` and ``wall_ns`` are the two clocks read together when the block was made, so that a
stamp of one can be told in the other, whatever the calendar did meanwhile.

Both checksums start from the recording's *seed*, the CRC-32 of its random identifier, so that a
peer who sends packets that look like blocks cannot have them taken for blocks after damage.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\xc5RJ\n"
VERSION = 1
SRTP_VERSION = 1
"""Of what ``srtp`` in a stream's description holds."""
HEADER = struct.Struct("<4sBBHIIQQI")
HEADER_BYTES = HEADER.size + 4
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
_CRC = struct.Struct("<I")
_WHOLE_HEADER = struct.Struct(HEADER.format + "I")

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a block holds."""

    SEGMENT = 1
    """JSON: ``recording``, ``call``, ``segment`` (from 1), ``generation`` (of the worker),
    ``boot_id``, ``started_mono_ns`` (of the recording), ``paused`` (skip, silence or null, as the
    segment begins), ``tracks`` and ``streams``, see :func:`stream_to_json`. First of a segment."""
    RTP = 2
    """A slab of RTP packets of one stream, as received."""
    RTCP = 3
    """A slab of RTCP packets of one stream, as received."""
    EVENT = 4
    """JSON: ``{"event": name, …}``, see :class:`Event`."""


_KINDS = {int(kind): kind for kind in Kind}


class Event:
    """Names of the events of a journal. Each is a JSON object with ``event`` and its own keys."""

    STREAM = "stream"
    """A stream was added or changed: the keys of a stream in the segment header. ``closed`` is
    true when it was dropped."""
    PAUSE = "pause"
    """``behavior``: skip or silence. Nothing is kept until ``resume``."""
    RESUME = "resume"
    """The pause is over."""
    LATCH = "latch"
    """``stream``, ``host``, ``port``, ``ssrc``: the source whose packets are taken."""
    DROPS = "drops"
    """``stream``, ``kernel``, ``foreign``, ``truncated``: packets lost since the last such.
    ``unwritten``, where it is there: packets that arrived and the disk refused."""
    NO_MEDIA = "no-media"
    """``stream``: nothing has come from the expected source since the start."""
    END = "end"
    """``reason``, ``packets``: how many are kept. The recording was stopped in order."""


@dataclass(frozen=True, slots=True)
class Block:
    """A whole block, its checksums verified."""

    kind: Kind
    """What it holds."""
    stream: int
    """Stream number; 0 where it means nothing."""
    count: int
    """Packets in it."""
    mono_ns: int
    """Monotonic clock when it was made."""
    wall_ns: int
    """Wall clock at the same instant."""
    payload: memoryview
    """The payload."""
    offset: int
    """Where in the segment the block begins, in bytes."""

    def json(self) -> dict[str, Any]:
        """The payload of a SEGMENT or EVENT block. Raises ``ValueError`` if it is not an object."""
        value = json.loads(bytes(self.payload))
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value

    def packets(self) -> Slab:
        """The packets of an RTP or RTCP block. Raises ``ValueError`` if lengths do not add up."""
        slab, readable = packets_of([self])
        if not readable:
            raise ValueError("packet lengths do not add up to the block's length")
        return slab


@dataclass(frozen=True, slots=True)
class Slab:
    """Packets of one stream in order of arrival."""

    lengths: NDArray[np.uint16]
    """Bytes of each packet; uint16[n]."""
    arrival_ns: NDArray[np.int64]
    """Arrival time of each on the monotonic clock; int64[n]."""
    data: memoryview
    """The packets one after the other."""


def packets_of(blocks: Sequence[Block]) -> tuple[Slab, list[Block]]:
    """The packets of RTP or RTCP blocks as one slab, and the blocks that they are from: those
    whose lengths add up. Of many blocks at once it costs each of them little."""
    readable = [block for block in blocks if block.count * 10 <= len(block.payload)]
    while True:
        lengths = np.frombuffer(b"".join([b.payload[: b.count * 2] for b in readable]), "<u2")
        ends = np.cumsum(lengths, dtype=np.int64)
        counts = np.array([block.count for block in readable], np.int64)
        last = np.cumsum(counts)
        before = np.concatenate(([0], ends))
        told = before[last] - before[last - counts]
        there = np.array([len(block.payload) - block.count * 10 for block in readable], np.int64)
        if bool((told == there).all()):
            break
        readable = [block for block, fits in zip(readable, told == there, strict=True) if fits]
    stamps = b"".join([block.payload[block.count * 2 : block.count * 10] for block in readable])
    shift = np.array([block.mono_ns - block.wall_ns for block in readable], np.int64)
    return Slab(
        lengths=lengths,
        arrival_ns=np.frombuffer(stamps, "<i8") + np.repeat(shift, counts),
        data=memoryview(b"".join([block.payload[block.count * 10 :] for block in readable])),
    ), readable


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes of a segment that belong to no whole block."""

    offset: int
    """Where it begins."""
    length: int
    """How many bytes."""


def seed_of(recording_id: str) -> int:
    """The seed of a recording's checksums."""
    return zlib.crc32(recording_id.encode())


def packed_block(
    kind: int, stream: int, count: int, payload: bytes, seed: int, mono_ns: int, wall_ns: int
) -> bytes:
    """A block of this payload. That of ``count`` packets: their lengths, ``<u2[count]``, their
    wall-clock stamps, ``<i8[count]``, the packets one after the other."""
    crc = zlib.crc32(payload, seed)
    head = HEADER.pack(MAGIC, kind, VERSION, stream, count, len(payload), mono_ns, wall_ns, crc)
    return b"".join((head, _CRC.pack(zlib.crc32(head, seed)), payload))


def packet_payload(
    lengths: NDArray[np.uint16], arrival_wall_ns: NDArray[np.int64], data: bytes
) -> bytes:
    """The payload of a block of packets: ``data`` is their bytes joined, arrivals are wall-clock
    stamps."""
    pieces = (
        lengths.astype("<u2", copy=False).tobytes(),
        arrival_wall_ns.astype("<i8", copy=False).tobytes(),
        data,
    )
    return b"".join(pieces)


def packet_block(
    kind: Kind,
    stream: int,
    lengths: NDArray[np.uint16],
    arrival_wall_ns: NDArray[np.int64],
    data: bytes,
    *,
    seed: int,
    mono_ns: int,
    wall_ns: int,
) -> bytes:
    """A block of packets, see :func:`packet_payload`."""
    payload = packet_payload(lengths, arrival_wall_ns, data)
    return packed_block(kind, stream, len(lengths), payload, seed, mono_ns, wall_ns)


def json_block(
    kind: Kind, value: dict[str, Any], *, seed: int, mono_ns: int, wall_ns: int
) -> bytes:
    """A SEGMENT or EVENT block."""
    payload = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return packed_block(kind, 0, 0, payload, seed, mono_ns, wall_ns)


def event_block(event: str, *, seed: int, mono_ns: int, wall_ns: int, **keys: Any) -> bytes:
    """An EVENT block; ``event`` is a name of :class:`Event`."""
    value = {"event": event, **keys}
    return json_block(Kind.EVENT, value, seed=seed, mono_ns=mono_ns, wall_ns=wall_ns)


def read_blocks(segment: Buffer, *, seed: int) -> Iterator[Block | Hole]:
    """The whole blocks of a segment in order, and the holes between them.

    A block that is torn, of another version, or whose checksums fail is passed over: reading goes
    on at the next magic number after its first byte. Damage at any byte loses only the blocks it
    touches.
    """
    view = memoryview(segment)
    at = 0
    hole = -1
    while at < len(view):
        block = _read_one(view, at, seed)
        if block is None:
            if hole < 0:
                hole = at
            at = _find_magic(segment, at + 1)
            continue
        if hole >= 0:
            yield Hole(hole, at - hole)
            hole = -1
        yield block
        at += HEADER_BYTES + len(block.payload)
    if hole >= 0:
        yield Hole(hole, len(view) - hole)


def _read_one(view: memoryview, at: int, seed: int) -> Block | None:
    body = at + HEADER_BYTES
    if body > len(view):
        return None
    magic, kind, version, stream, count, length, mono_ns, wall_ns, crc, head_crc = (
        _WHOLE_HEADER.unpack_from(view, at)
    )
    if magic != MAGIC or version != VERSION or length > MAX_PAYLOAD_BYTES:
        return None
    if head_crc != zlib.crc32(view[at : body - _CRC.size], seed):
        return None
    payload = view[body : body + length]
    if len(payload) != length or zlib.crc32(payload, seed) != crc:
        return None
    known = _KINDS.get(kind)
    if known is None:
        return None
    return Block(known, stream, count, mono_ns, wall_ns, payload, at)


def _find_magic(segment: Buffer, start: int) -> int:
    if isinstance(segment, memoryview):
        # A memoryview has no find(); search it a window at a time, overlapping by a magic's length.
        step = 1 << 20
        while start < len(segment):
            found = bytes(segment[start : start + step + len(MAGIC)]).find(MAGIC)
            if found >= 0:
                return start + found
            start += step
        return len(segment)
    found = segment.find(MAGIC, start)
    return len(segment) if found < 0 else found


def stream_to_json(
    number: int,
    track: str,
    codecs: Sequence[dict[str, Any]],
    *,
    label: str = "",
    participant: str = "",
    sending: bool = True,
    sealed_key: str = "",
) -> dict[str, Any]:
    """A stream as a segment header and a ``stream`` event hold it.

    Each codec is ``{"payload_type", "name", "clock_rate_hz", "channels", "fmtp"}``. ``srtp`` is
    there where the packets are SRTP: ``{"version": 1, "sealed": …}``, see ``journal.keys``.
    """
    srtp = {"srtp": {"version": SRTP_VERSION, "sealed": sealed_key}} if sealed_key else {}
    return {
        "number": number,
        "track": track,
        "codecs": list(codecs),
        "label": label,
        "participant": participant,
        "sending": sending,
        **srtp,
    }
