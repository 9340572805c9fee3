"""Going through a journal from front to back: packets in batches, and what happened in between.

The renderer does it twice, and must see the same batches both times.
"""

from __future__ import annotations

import mmap
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callreel.audio.codec import (
    COMFORT_NOISE,
    G729_FRAME_BYTES,
    TELEPHONE_EVENT,
    Decoder,
    Format,
    format_for,
)
from callreel.base.errors import MachineError
from callreel.calls.model import Track
from callreel.journal.format import SRTP_VERSION, Block, Event, Hole, Kind, packets_of
from callreel.journal.reader import Segment, read_journal
from callreel.render.decryption import Decryption, OpenKey
from callreel.render.timeline import Batch
from callreel.wire.rtp import Octets, PacketTable, gather, parse_slab

_STEP_NS = 60_000_000_000
_STEP_BYTES = 4 << 20
_MAX_DECODERS = 16
_NEVER = np.iinfo(np.int64).max
_OLDEST_STAMP_NS = 600_000_000_000
_OLDEST_START_NS = 86_400_000_000_000
_MAX_STREAMS = 256
_MAX_CHANGES = 200

_STATIC = {0: "PCMU", 3: "GSM", 8: "PCMA", 9: "G722", 13: COMFORT_NOISE, 18: "G729"}
"""Payload types that mean the same everywhere (RFC 3551 §6)."""
_STATIC_HZ = 8000
"""The RTP clock of all of those."""


class _Sort:
    """What a packet is to the renderer."""

    UNKNOWN, AUDIO, NOISE, EVENT = range(4)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples of some packets, one after the other."""

    index: NDArray[np.int64]
    """Rows of the batch."""
    samples: NDArray[np.int16]
    """int16[sum of ticks · factor]."""
    factor: NDArray[np.int64]
    """Samples a tick of the RTP clock, of each packet; int64[n]."""


class Decoders:
    """The decoders of one stream: one for each format and stretch, as they keep state."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Format, int], Decoder] = OrderedDict()

    def of(self, format_: Format, stretch: int) -> Decoder:
        """The decoder that goes on with a stretch, or begins it."""
        key = (format_, 0 if format_.is_stateless else stretch)
        decoder = self._known.get(key)
        if decoder is None:
            decoder = self._known[key] = format_.decoder()
            if len(self._known) > _MAX_DECODERS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return decoder


@dataclass(frozen=True, slots=True)
class Packets:
    """RTP packets of one stream, in order of arrival, all of one span."""

    stream: int
    """Stream number."""
    track: Track
    """The track it belongs to."""
    batch: Batch
    """Their places in time."""
    rates_hz: frozenset[int]
    """Sampling rates of what is heard in them."""
    codecs: Counter[str]
    """How many were of which codec; unknown ones by their number."""
    unknown: Counter[int]
    """How many were of payload types that cannot be decoded, by type."""
    events: NDArray[np.uint32]
    """Timestamps of the telephone events (RFC 4733), one for each packet."""
    event_arrival_ns: NDArray[np.int64]
    """When each of those packets arrived."""
    spoken: tuple[tuple[int, str], ...]
    """The codec of the first packet of audio, and each that another follows, with its arrival."""
    malformed: int
    """Packets that were no RTP."""
    rtcp: int
    """RTCP packets that came to the RTP port."""
    unauthentic: int
    """Packets of SRTP that were not made with the stream's key, and are left out."""
    replayed: int
    """Packets of SRTP that came a second time, and are left out."""
    silence: int
    """Silence descriptors within packets of another codec (G.729, annex B)."""
    _table: PacketTable = field(repr=False)
    _audio: NDArray[np.int64] = field(repr=False)
    _formats: dict[int, Format] = field(repr=False)
    _decoders: Decoders = field(repr=False)
    _last: list[Decoded] = field(default_factory=list, repr=False)

    def decode(self, stretch: int, index: NDArray[np.int64]) -> Decoded:
        """The audio of these rows of the batch, which are of one stretch and in order.

        A stretch is decoded once, from front to back: asked again for the same rows, the answer is
        the same.
        """
        if self._last and self._last[0].index is index:
            return self._last[0]
        rows = self._audio[index]
        types = self._table.payload_type[rows]
        start, count = self._table.payload_start[rows], self._table.payload_bytes[rows]
        cuts = np.flatnonzero(types[1:] != types[:-1]) + 1
        pieces: list[NDArray[np.int16]] = []
        factor = np.ones(len(rows), np.int64)
        for part in np.split(np.arange(len(rows)), cuts) if len(cuts) else [slice(0, len(rows))]:
            format_ = self._formats[int(types[part][0])]
            payloads = gather(self._table.octets, start[part], count[part])
            decoder = self._decoders.of(format_, stretch)
            pieces.append(decoder.decode(payloads, count[part]))
            factor[part] = format_.samples_a_tick
        samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        self._last[:] = [Decoded(index, samples, factor)]
        return self._last[0]


@dataclass(frozen=True, slots=True)
class Step:
    """Some seconds of a journal."""

    now_ns: int
    """How far the journal has been read: arrival time since the recording began."""
    packets: tuple[Packets, ...]
    """What had arrived, by stream."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment begins."""

    segment: Segment
    """Its header may be missing."""
    at_ns: int
    """Since the recording began."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the journal."""

    at_ns: int
    """Since the recording began."""
    wall_ns: int
    """The same by the calendar."""
    value: dict[str, Any]
    """The event."""


@dataclass(frozen=True, slots=True)
class Torn:
    """Bytes of a segment that could not be read."""

    segment: int
    """Number of the segment."""
    hole: Hole
    """Where."""


@dataclass(slots=True)
class _Clock:
    """Puts the monotonic time of every boot on one axis that begins with the recording."""

    start_ns: int = 0
    boot: str | None = None
    shift_ns: int = 0
    offset_ns: int = 0
    now_ns: int = 0

    def begin(self, mono_ns: int, wall_ns: int, boot: str | None) -> None:
        self.start_ns, self.boot, self.offset_ns = mono_ns, boot, wall_ns - mono_ns

    def is_other_boot(self, mono_ns: int, wall_ns: int, boot: str | None) -> bool:
        """Whether monotonic time began anew since; where a header was lost, by the clocks."""
        if boot is not None and self.boot is not None:
            return boot != self.boot
        return self.axis_ns(mono_ns) < self.now_ns - _OLDEST_STAMP_NS

    def reboot(self, mono_ns: int, wall_ns: int, boot: str | None) -> None:
        """Monotonic time began anew; only wall time goes across, if it can be believed."""
        offset_ns = wall_ns - mono_ns
        self.shift_ns += offset_ns - self.offset_ns
        self.shift_ns += max(0, self.now_ns - self.axis_ns(mono_ns))
        self.boot, self.offset_ns = boot, offset_ns

    def axis_ns(self, mono_ns: int) -> int:
        return mono_ns + self.shift_ns - self.start_ns

    def read(self, block: Block) -> int:
        self.offset_ns = block.wall_ns - block.mono_ns
        at = self.axis_ns(block.mono_ns)
        self.now_ns = max(self.now_ns, at)
        return at


@dataclass(frozen=True, slots=True)
class _Pending:
    """Packets of one block that have not been given out."""

    block: Block
    """It."""
    at_ns: int
    """When it was made; since the recording began."""
    end_ns: int
    """What arrived at this time or later came in a pause."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """Packets of one stream in order of arrival."""

    lengths: NDArray[np.uint16]
    octets: Octets
    arrival_ns: NDArray[np.int64]
    outside: int
    """Of how many more that arrived before the start or in a pause."""
    unreadable: int
    """Blocks that make no sense."""


def _joined(blocks: list[_Pending]) -> _Taken:
    """The packets of blocks as one, without those that do not belong to the recording."""
    slab, readable = packets_of([pending.block for pending in blocks])
    unreadable = len(blocks) - len(readable)
    if unreadable:
        those = {id(block) for block in readable}
        blocks = [pending for pending in blocks if id(pending.block) in those]
    counts = np.array([block.count for block in readable], np.int64)
    lengths, octets = slab.lengths, np.frombuffer(slab.data, np.uint8)

    def each(values: list[int]) -> NDArray[np.int64]:
        return np.repeat(np.array(values, np.int64), counts)

    at_ns = each([pending.at_ns for pending in blocks])
    arrival_ns = slab.arrival_ns
    arrival_ns += each([pending.at_ns - pending.block.mono_ns for pending in blocks])
    # A stamp from before or after the wall clock was set is worth nothing.
    wrong = (arrival_ns > at_ns) | (arrival_ns < at_ns - _OLDEST_STAMP_NS)
    if wrong.any():
        arrival_ns = np.where(wrong, at_ns, arrival_ns)
    outside = arrival_ns < 0
    if any(pending.end_ns != _NEVER for pending in blocks):
        outside |= arrival_ns >= each([pending.end_ns for pending in blocks])
    if not outside.any():
        return _Taken(lengths, octets, arrival_ns, 0, unreadable)
    keep = ~outside
    return _Taken(
        lengths[keep],
        octets[np.repeat(keep, lengths)],
        arrival_ns[keep],
        int(outside.sum()),
        unreadable,
    )


class _Stream:
    """What is known of one stream, and its packets that have not been given out."""

    def __init__(self, number: int, open_key: OpenKey) -> None:
        self.number = number
        self.decryption: Decryption | None = None
        self._open_key = open_key
        self._decryption = Decryption()
        self.was_secure = False
        self.outside = 0
        """Packets that came before the start or in a pause, since that was asked last."""
        self.unreadable = 0
        """Blocks that made no sense, since that was asked last."""
        # Without a header there is still the order of m-lines: the first is inbound.
        self.track = Track.OUTBOUND if number % 2 else Track.INBOUND
        self.label = ""
        self.participant = ""
        self.names: dict[int, str] = {}
        self.formats: dict[int, Format] = {}
        self._decoders = Decoders()
        self.sorts = np.zeros(128, np.uint8)
        self.blocks: list[_Pending] = []
        self.holds = 0
        """How often it was taken off hold."""
        self._sending = True
        self.learn({})

    def learn(self, value: dict[str, Any]) -> None:
        """Take over a stream's keys from a header or an event, as far as they make sense."""
        if value.get("track") in ("inbound", "outbound"):
            self.track = Track(value["track"])
        sending = value.get("sending")
        if isinstance(sending, bool):
            self.holds += sending and not self._sending
            self._sending = sending
        self.decryption = self._decryption if self.learn_key(value) else None
        self.label = str(value.get("label", self.label))
        self.participant = str(value.get("participant", self.participant))
        self.names = dict(_STATIC)
        clocks = dict.fromkeys(_STATIC, (_STATIC_HZ, 1))
        codecs = value.get("codecs")
        for codec in codecs if isinstance(codecs, list) else ():
            try:
                number = int(codec["payload_type"])
                clocks[number] = (int(codec["clock_rate_hz"]), int(codec.get("channels", 1)))
                self.names[number] = str(codec["name"]).upper()
            except (TypeError, KeyError, ValueError):
                continue
        self.sorts = np.full(128, _Sort.UNKNOWN, np.uint8)
        self.formats = {}
        for number, name in self.names.items():
            if not 0 <= number < 128:
                continue
            if name in (COMFORT_NOISE, TELEPHONE_EVENT):
                self.sorts[number] = _Sort.NOISE if name == COMFORT_NOISE else _Sort.EVENT
                continue
            format_ = format_for(name, *clocks[number])
            if format_ is not None:
                self.sorts[number] = _Sort.AUDIO
                self.formats[number] = format_

    def learn_key(self, value: dict[str, Any]) -> bool:
        """Take note of the key that a description holds; whether it says that this is SRTP.

        Raises ``MachineError`` for a key that does not open: to go on would be to throw away what
        can still be heard once the right one is there.
        """
        srtp = value.get("srtp")
        if srtp is None:
            return False
        if not isinstance(srtp, dict) or srtp.get("version") != SRTP_VERSION:
            raise MachineError("a journal holds SRTP of a kind that is not known here")
        self.was_secure = True
        self._decryption.learn(self._open_key(str(srtp.get("sealed"))))
        return True

    def give_out(self, span: int) -> Packets | None:
        """The packets taken so far as one."""
        if not self.blocks:
            return None
        taken, self.blocks = _joined(self.blocks), []
        self.outside += taken.outside
        self.unreadable += taken.unreadable
        if len(taken.lengths) == 0:
            return None
        lengths, octets, arrival_ns = taken.lengths, taken.octets, taken.arrival_ns
        unauthentic = replayed = 0
        if self.decryption is not None:
            clear = self.decryption.decrypt(lengths, octets)
            lengths, octets, arrival_ns = clear.lengths, clear.octets, arrival_ns[clear.kept]
            unauthentic, replayed = clear.unauthentic, clear.replayed
        table = parse_slab(lengths, octets)
        rows = np.flatnonzero(table.ok)
        types = table.payload_type[rows]
        sorts = self.sorts[types]
        counts = np.bincount(types, minlength=128)
        used = np.flatnonzero(counts).tolist()
        ticks = np.zeros(len(rows), np.int64)
        clock_hz = np.full(len(rows), _STATIC_HZ, np.int32)
        silence = 0
        for number in used:
            format_ = self.formats.get(number)
            if format_ is None:
                continue
            of_it = slice(None) if len(used) == 1 else np.flatnonzero(types == number)
            at = rows[of_it]
            ticks[of_it] = format_.ticks(
                table.octets, table.payload_start[at], table.payload_bytes[at]
            )
            clock_hz[of_it] = format_.clock_rate_hz
            if format_.name == "G729":
                silence += int((table.payload_bytes[at] % G729_FRAME_BYTES > 0).sum())
        return Packets(
            stream=self.number,
            track=self.track,
            batch=Batch(
                span=span,
                arrival_ns=arrival_ns[rows],
                sequence=table.sequence[rows],
                timestamp=table.timestamp[rows],
                ssrc=table.ssrc[rows],
                ticks=ticks,
                clock_hz=clock_hz,
                holds=self.holds,
            ),
            rates_hz=frozenset(self.formats[t].rate_hz for t in used if t in self.formats),
            codecs=Counter({self.names.get(t, str(t)): int(counts[t]) for t in used}),
            unknown=Counter({t: int(counts[t]) for t in used if self.sorts[t] == _Sort.UNKNOWN}),
            events=table.timestamp[rows[sorts == _Sort.EVENT]],
            event_arrival_ns=arrival_ns[rows[sorts == _Sort.EVENT]],
            spoken=self._spoken(arrival_ns[rows], types, sorts),
            malformed=int((~table.ok & ~table.rtcp).sum()),
            rtcp=int(table.rtcp.sum()),
            unauthentic=unauthentic,
            replayed=replayed,
            silence=silence,
            _table=table,
            _audio=rows,
            _formats=self.formats,
            _decoders=self._decoders,
        )

    def _spoken(
        self, arrival_ns: NDArray[np.int64], types: Octets, sorts: Octets
    ) -> tuple[tuple[int, str], ...]:
        heard = sorts == _Sort.AUDIO
        types, arrival_ns = types[heard], arrival_ns[heard]
        if not len(types):
            return ()
        starts = np.concatenate(([0], np.flatnonzero(np.diff(types)) + 1))[:_MAX_CHANGES]
        return tuple((int(arrival_ns[at]), self.names[int(types[at])]) for at in starts.tolist())


class Walk:
    """Once through a journal. What is known of its streams and clocks grows with it.

    Iterating raises ``MachineError`` where a key of SRTP does not open.
    """

    def __init__(
        self, root: Path, recording_id: str, tracks: tuple[Track, ...], open_key: OpenKey
    ) -> None:
        self._open_key = open_key
        self._parts = read_journal(root, recording_id)
        self._tracks = tracks
        self._clock = _Clock()
        self._span = 0
        self._paused = False
        self._paused_ns = 0
        self._pending_bytes = 0
        self._given_out_ns = 0
        self.streams: dict[int, _Stream] = {}
        """The streams met so far."""
        self.started = False
        """Whether there was anything at all."""
        self.start_wall_ns = 0
        """When the recording began, wall time."""
        self.outside = 0
        """Packets that arrived before the start, or in a pause."""
        self.unreadable = 0
        """Blocks that are whole but make no sense."""
        self.now_ns = 0
        """How far it got: arrival time since the recording began."""

    def __iter__(self) -> Iterator[Step | Opened | Happened | Torn]:
        segment_number = -1
        for segment, part in self._parts:
            if segment.number != segment_number:
                segment_number = segment.number
                yield from self._open(segment, part)
            if isinstance(part, Hole):
                yield Torn(segment.number, part)
                continue
            at_ns = self._clock.read(part)
            self.now_ns = self._clock.now_ns
            match part.kind:
                case Kind.RTP:
                    self._take(part, at_ns)
                case Kind.EVENT:
                    yield from self._happen(part, at_ns)
                case _:
                    pass
            due = self.now_ns - self._given_out_ns >= _STEP_NS
            if due or self._pending_bytes >= _STEP_BYTES:
                yield self._step()
                _release(segment, part)
        yield self._step()

    def _open(self, segment: Segment, part: Block | Hole) -> Iterator[Step | Opened | Happened]:
        header = segment.header or {}
        boot = header.get("boot_id")
        boot = boot if isinstance(boot, str) else None
        first = part if isinstance(part, Block) else _first_block(segment)
        if first is not None:
            if not self.started:
                self._begin(first, header, boot)
            elif self._clock.is_other_boot(first.mono_ns, first.wall_ns, boot):
                yield self._step()
                self._clock.reboot(first.mono_ns, first.wall_ns, boot)
        elif self.started:
            # Nothing in it can be read: it tells of nothing but itself.
            yield Opened(segment, self.now_ns)
            return
        streams = header.get("streams")
        for value in streams if isinstance(streams, list) else ():
            if isinstance(value, dict):
                yield from self._learn(value)
        at = self.now_ns if first is None else self._clock.axis_ns(first.mono_ns)
        yield Opened(segment, at)
        if "paused" in header and first is not None:
            # Says the same as the events, unless one of those was torn.
            yield from self._pause(header["paused"], at, first.wall_ns)

    def _begin(self, first: Block, header: dict[str, Any], boot: str | None) -> None:
        start_ns = header.get("started_mono_ns")
        if not isinstance(start_ns, int) or not 0 <= first.mono_ns - start_ns < _OLDEST_START_NS:
            start_ns = first.mono_ns
            if first.kind is Kind.RTP and first.count:
                try:
                    start_ns = int(first.packets().arrival_ns.min())
                except ValueError:
                    self.unreadable += 1
        self.started = True
        self._clock.begin(start_ns, start_ns + first.wall_ns - first.mono_ns, boot)
        self.start_wall_ns = start_ns + first.wall_ns - first.mono_ns

    def _stream(self, number: int) -> _Stream | None:
        if number not in self.streams and len(self.streams) < _MAX_STREAMS:
            self.streams[number] = _Stream(number, self._open_key)
        return self.streams.get(number)

    def _learn(self, value: dict[str, Any]) -> Iterator[Step]:
        """A stream as a header or event tells it. What it sent before was of the old kind."""
        number = value.get("number", value.get("stream"))
        if isinstance(number, int) and 0 <= number < 65536:
            stream = self._stream(number)
            if stream is not None:
                if stream.blocks:
                    if stream.decryption is not None:
                        # A peer that changes its key sends with it before we have heard so.
                        stream.learn_key(value)
                    yield self._step()
                stream.learn(value)

    def _take(self, block: Block, at_ns: int) -> None:
        stream = self._stream(block.stream)
        if stream is None or stream.track not in self._tracks:
            return
        if block.count:
            end_ns = self._paused_ns if self._paused else _NEVER
            stream.blocks.append(_Pending(block, at_ns, end_ns))
            self._pending_bytes += len(block.payload)

    def _happen(self, block: Block, at_ns: int) -> Iterator[Step | Happened]:
        try:
            value = block.json()
        except ValueError:
            self.unreadable += 1
            return
        match value.get("event"):
            case Event.STREAM:
                yield from self._learn(value)
                yield Happened(at_ns, block.wall_ns, value)
            case Event.PAUSE:
                yield from self._pause(value.get("behavior", "silence"), at_ns, block.wall_ns)
            case Event.RESUME:
                yield from self._pause(None, at_ns, block.wall_ns)
            case _:
                yield Happened(at_ns, block.wall_ns, value)

    def _pause(self, behavior: Any, at_ns: int, wall_ns: int) -> Iterator[Step | Happened]:
        """From now on the recording is paused so, or with None not at all."""
        if self._paused == (behavior is not None):
            return
        yield self._step()
        if behavior is None:
            self._paused = False
            self._span += 1
            yield Happened(at_ns, wall_ns, {"event": Event.RESUME})
        else:
            self._paused, self._paused_ns = True, at_ns
            yield Happened(at_ns, wall_ns, {"event": Event.PAUSE, "behavior": behavior})

    def _step(self) -> Step:
        given_out = []
        for stream in self.streams.values():
            packets = stream.give_out(self._span)
            self.outside += stream.outside
            self.unreadable += stream.unreadable
            stream.outside = stream.unreadable = 0
            if packets is not None:
                given_out.append(packets)
        self._pending_bytes = 0
        self._given_out_ns = self.now_ns
        return Step(self.now_ns, tuple(given_out))


def _release(segment: Segment, block: Block) -> None:
    """Give back the memory that a segment's map takes, up to a block that was the last used.

    The bytes stay where they are, in the file: reading them again would merely map them anew.
    """
    file = segment.view.obj
    done = block.offset // mmap.PAGESIZE * mmap.PAGESIZE
    if isinstance(file, mmap.mmap) and done:
        file.madvise(mmap.MADV_DONTNEED, 0, done)


def _first_block(segment: Segment) -> Block | None:
    for part in segment.parts():
        if isinstance(part, Block):
            return part
    return None
