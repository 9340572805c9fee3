"""The first time through a journal: everything it tells but the samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from callreel.calls.model import PauseBehavior, Track
from callreel.journal.format import Event
from callreel.render.axis import Span, join
from callreel.render.decryption import OpenKey, no_keys
from callreel.render.timeline import Extent, Line, Survey
from callreel.render.walk import Happened, Opened, Packets, Step, Torn, Walk

FILE_RATES_HZ = (8000, 16_000, 48_000)
"""Sampling rates of files."""

_MAX_LISTED = 100
_OVERHANG_NS = 500_000_000


@dataclass(slots=True)
class StreamSurvey:
    """What one stream brought."""

    number: int
    """Stream number."""
    track: Track
    """The track it is mixed into."""
    label: str = ""
    """SDP label."""
    participant: str = ""
    """Who is heard in it."""
    timeline: Survey = field(default_factory=Survey)
    """Sequence numbers and delays."""
    lines: dict[int, Line] = field(default_factory=dict)
    """The earliest-arrival line of each of its stretches."""
    codecs: Counter[str] = field(default_factory=Counter)
    """Packets by codec."""
    unknown: Counter[int] = field(default_factory=Counter)
    """Packets that cannot be decoded, by payload type."""
    rates_hz: set[int] = field(default_factory=set)
    """Sampling rates of what is heard."""
    audio: int = 0
    """Packets with audio that can be decoded."""
    silence: int = 0
    """Silence descriptors within packets of audio (G.729, annex B)."""
    dtmf_events: int = 0
    """Telephone events (RFC 4733): keys pressed."""
    malformed: int = 0
    """Packets that were no RTP."""
    rtcp: int = 0
    """RTCP packets on the RTP port."""
    unauthentic: int = 0
    """Packets of SRTP that were not made with the key."""
    replayed: int = 0
    """Packets of SRTP that came a second time."""
    secure: bool = False
    """Whether any of it was SRTP."""
    kernel: int = 0
    """Packets that the kernel dropped because the socket's queue was full."""
    foreign: int = 0
    """Packets of strangers, refused."""
    truncated: int = 0
    """Packets too long to be kept."""
    unwritten: int = 0
    """Packets that arrived and the disk refused."""
    no_media: bool = False
    """Whether nothing had come from the expected source some seconds after the start."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Sources that were latched: ``at_ns``, ``host``, ``port``, ``ssrc``."""
    last_event: int = -1
    """Timestamp of the last telephone event."""

    @property
    def is_unheard(self) -> bool:
        """Whether something came that may be audio, and none of it can be heard."""
        return not self.audio and bool(self.unknown or self.unauthentic)

    def take(self, packets: Packets) -> None:
        """Count in the next packets."""
        self.timeline.feed(packets.batch)
        self.codecs += packets.codecs
        self.unknown += packets.unknown
        self.audio += int((packets.batch.ticks > 0).sum())
        self.rates_hz |= packets.rates_hz
        self.silence += packets.silence
        self.malformed += packets.malformed
        self.rtcp += packets.rtcp
        self.unauthentic += packets.unauthentic
        self.replayed += packets.replayed
        if len(packets.events):
            # All packets of an event carry the timestamp of its beginning (RFC 4733 §2.2.2).
            stamps = np.concatenate(([self.last_event], packets.events.astype(np.int64)))
            self.dtmf_events += int((np.diff(stamps) != 0).sum())
            self.last_event = int(stamps[-1])


@dataclass(frozen=True, slots=True)
class Pause:
    """A stretch in which nothing was kept."""

    start_ns: int
    """Since the recording began."""
    end_ns: int
    """When it was resumed, or the recording ended."""
    behavior: PauseBehavior
    """What it becomes in the file."""


@dataclass(slots=True)
class JournalSurvey:
    """What one recording's journal tells."""

    streams: dict[int, StreamSurvey] = field(default_factory=dict)
    """By stream number, those of the chosen tracks."""
    pauses: list[Pause] = field(default_factory=list)
    """In order."""
    segments: int = 0
    """Files."""
    headless: list[int] = field(default_factory=list)
    """Segments whose header is lost."""
    generations: list[int] = field(default_factory=list)
    """The media worker's generations that wrote it, in order of appearance."""
    holes: list[dict[str, int]] = field(default_factory=list)
    """The first so many: ``segment``, ``offset``, ``bytes``."""
    hole_count: int = 0
    """Holes."""
    hole_bytes: int = 0
    """Bytes in them."""
    call: str | None = None
    """The call's identifier."""
    end_reason: str | None = None
    """Why it was stopped; None if it was not stopped in order."""
    end_ns: int = 0
    """When it was stopped, or what it holds ends; since the recording began."""
    start_wall_ns: int = 0
    """When it began, wall time."""
    outside: int = 0
    """Packets that arrived before the start or in a pause."""
    unreadable: int = 0
    """Blocks that are whole but make no sense."""

    @property
    def received(self) -> int:
        """RTP packets of all streams."""
        return sum(stream.timeline.sequencer.counts.received for stream in self.streams.values())

    @property
    def is_kept(self) -> bool:
        """Whether the journal is to stay: it holds what cannot be heard yet."""
        return any(stream.is_unheard for stream in self.streams.values())

    @property
    def rate_hz(self) -> int:
        """Sampling rate of the file: the highest of its tracks, or the next of
        :data:`FILE_RATES_HZ`."""
        highest = max((rate for s in self.streams.values() for rate in s.rates_hz), default=0)
        return next((rate for rate in FILE_RATES_HZ if rate >= highest), FILE_RATES_HZ[-1])

    def spans(self) -> list[Span]:
        """The axis between the pauses, in samples of the file. What was delayed reaches out of its
        span a little."""
        rate_hz = self.rate_hz
        extents: dict[int, Extent] = {}
        for stream in self.streams.values():
            for span, extent in stream.timeline.extents(stream.lines).items():
                known = extents.get(span, extent)
                extents[span] = Extent(min(extent.start, known.start), max(extent.end, known.end))
        starts = [0, *(pause.end_ns for pause in self.pauses)]
        ends = [*(pause.start_ns for pause in self.pauses), self.end_ns]
        behaviors = [*(pause.behavior for pause in self.pauses), PauseBehavior.SILENCE]
        found = []
        for span, (start, end, behavior) in enumerate(zip(starts, ends, behaviors, strict=True)):
            extent = extents.get(span, Extent(start, end))
            found.append(
                Span(
                    samples_of(max(min(start, extent.start), start - _OVERHANG_NS), rate_hz),
                    samples_of(min(max(end, extent.end), end + _OVERHANG_NS), rate_hz),
                    behavior,
                )
            )
        return join(found)


def survey(
    root: Path, recording_id: str, tracks: tuple[Track, ...], open_key: OpenKey = no_keys
) -> JournalSurvey:
    """Go through a journal. Raises ``MachineError`` if it cannot be read at all, or a key of SRTP
    does not open."""
    found = JournalSurvey()
    paused: tuple[int, PauseBehavior] | None = None
    walk = Walk(root, recording_id, tracks, open_key)
    for thing in walk:
        match thing:
            case Step():
                for packets in thing.packets:
                    _stream(found, packets.stream, packets.track).take(packets)
            case Torn():
                found.hole_count += 1
                found.hole_bytes += thing.hole.length
                if len(found.holes) < _MAX_LISTED:
                    found.holes.append(
                        {
                            "segment": thing.segment,
                            "offset": thing.hole.offset,
                            "bytes": thing.hole.length,
                        }
                    )
            case Opened():
                _open(found, thing)
            case Happened():
                event = thing.value.get("event")
                if event == Event.PAUSE:
                    paused = (thing.at_ns, _behavior(thing.value.get("behavior")))
                elif event == Event.RESUME and paused is not None:
                    found.pauses.append(Pause(paused[0], thing.at_ns, paused[1]))
                    paused = None
                elif event == Event.END:
                    found.end_reason = str(thing.value.get("reason", ""))
                    found.end_ns = thing.at_ns
                else:
                    _count(found, thing)
    if found.end_reason is None:
        found.end_ns = walk.now_ns
    if paused is not None:
        found.pauses.append(Pause(paused[0], max(paused[0], found.end_ns), paused[1]))
    found.start_wall_ns = walk.start_wall_ns
    found.outside = walk.outside
    found.unreadable = walk.unreadable
    for number, known in walk.streams.items():
        if known.track in tracks:
            stream = _stream(found, number, known.track)
            stream.label, stream.participant = known.label, known.participant
            stream.secure = known.was_secure
        elif number in found.streams and not found.streams[number].codecs:
            del found.streams[number]
    for stream in found.streams.values():
        stream.lines = stream.timeline.lines()
    return found


def _stream(found: JournalSurvey, number: int, track: Track) -> StreamSurvey:
    stream = found.streams.get(number)
    if stream is None:
        stream = found.streams[number] = StreamSurvey(number, track)
    stream.track = track
    return stream


def _open(found: JournalSurvey, opened: Opened) -> None:
    found.segments += 1
    header = opened.segment.header
    if header is None:
        found.headless.append(opened.segment.number)
        return
    generation = header.get("generation")
    if isinstance(generation, int) and found.generations[-1:] != [generation]:
        found.generations.append(generation)
    call = header.get("call")
    if isinstance(call, str):
        found.call = call


def _count(found: JournalSurvey, happened: Happened) -> None:
    value = happened.value
    number = value.get("stream")
    stream = found.streams.get(number) if isinstance(number, int) else None
    if stream is None:
        if not isinstance(number, int):
            return
        # Its first packets are yet to be given out; the track is set when they are.
        stream = _stream(found, number, Track.OUTBOUND if number % 2 else Track.INBOUND)
    match value.get("event"):
        case Event.DROPS:
            stream.kernel += _number(value.get("kernel"))
            stream.foreign += _number(value.get("foreign"))
            stream.truncated += _number(value.get("truncated"))
            stream.unwritten += _number(value.get("unwritten"))
        case Event.NO_MEDIA:
            stream.no_media = True
        case Event.LATCH:
            if len(stream.sources) < _MAX_LISTED:
                stream.sources.append(
                    {
                        "at_ns": happened.at_ns,
                        "host": str(value.get("host", "")),
                        "port": _number(value.get("port")),
                        "ssrc": f"{_number(value.get('ssrc')) & 0xFFFFFFFF:08x}",
                    }
                )
        case _:
            pass


def _number(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _behavior(value: object) -> PauseBehavior:
    return PauseBehavior.SKIP if value == PauseBehavior.SKIP.value else PauseBehavior.SILENCE


def samples_of(ns: int, rate_hz: int) -> int:
    """So many whole samples; of a nanosecond's rounding there comes no other number."""
    return (ns * rate_hz + rate_hz) // 1_000_000_000
