"""Where on a recording's time axis each packet belongs. Pure.

Three clocks meet here and are never mixed. *Media time* is the sender's: RTP timestamps, in ticks.
*Arrival time* is ours: nanoseconds since the recording began. The axis is arrival time; a packet
is put on it by its media time, plus the *delay* of its stretch. A packet's delay is its arrival
minus its media time; the delay of a stretch, a function of media time, is the line under all of
those: the **earliest-arrival line**. A packet on the line begins at its arrival.

A renderer goes over a journal twice. The first time :class:`Survey` notes the smallest delay of
each second, from which :meth:`Survey.lines` draws the lines; the second time :class:`Placer` puts
each packet in its place. Both cut a stream into stretches with the same :class:`Sequencer`.

- A **stretch** is a run of one SSRC whose timestamps do not jump. A jump is a leap of media time
  that the sequence numbers do not explain and that arrival time does not follow. Silence
  suppression is followed by arrival time; a stalled network is explained by sequence numbers.
- The line never rises or falls faster than a bad clock drifts (:data:`MAX_DRIFT_PPM`), unless the
  media itself was held up or leapt for good: then it steps.
- What is placed follows the line in steps: small ones in gaps and silence
  (:data:`LOOSE_NS`), else when it is further off than :data:`TIGHT_NS`. Two legs, each off by
  that much and opposite, are still well within 20 ms.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NS = 1_000_000_000

JUMP_NS = 500_000_000
"""Media time that leaps by more than this, unexplained, begins a new stretch."""
STEP_NS = 40_000_000
"""The line steps where delays change by more than this and stay changed."""
STEP_HOLD_NS = 10 * NS
"""For how long they must stay changed; and how far back "before" reaches."""
STEP_PROOF = 10
SHORT_STEP_NS = 250_000_000
"""Near the end, where less than a tenth of that follows, jitter would pass for a step: there it
takes more than this."""
LOOK_NS = 30 * NS
"""How far to either side a packet bears on the line."""
MAX_DRIFT_PPM = 300
"""Sound cards stay within 200; what drifts faster is followed all the same, a little behind. The
more is allowed, the more of jitter is taken for drift."""
LOOSE_NS = 2_000_000
"""In a gap or in silence, what is off the line by more than this is put back on it."""
TIGHT_NS = 6_000_000
"""What is off the line by more than this is put back on it anywhere."""

_HELD_UP_NS = 60_000_000
_SKIPPED_NS = 40_000_000
_CELLS_PER_S = 10
_RESTART = 1000
_LANES = 16
_RECENT = 8192
_FEW = 32
_EASY_ROWS = 200
_MAX_STRETCHES = 4096
_UP, _SKIP = 1, 2
_RULES = 16
_FAR = 1 << 62

Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

Quiet = Callable[[int, Int64, slice], Bools]
"""Which packets are quiet: of a stretch, of whose rows in order it is a part that is asked for;
bool[n]."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Packets of one stream in order of arrival, all of one span between pauses."""

    span: int
    """0 up to the first pause, 1 up to the second …"""
    arrival_ns: Int64
    """Arrival time since the recording began; int64[n]."""
    sequence: NDArray[np.uint16]
    """As received; uint16[n]."""
    timestamp: NDArray[np.uint32]
    """As received; uint32[n]."""
    ssrc: NDArray[np.uint32]
    """As received; uint32[n]."""
    ticks: Int64
    """Media time that each packet's audio lasts; 0 for what is no audio. int64[n]."""
    clock_hz: NDArray[np.int32]
    """Of the RTP clock that the packet's codec has; int32[n]. Means nothing where there is no
    audio."""
    holds: int = 0
    """How often the sender had been taken off hold before."""


@dataclass(frozen=True, slots=True)
class Run:
    """Audio packets of one stretch, in order of sequence numbers."""

    stretch: int
    """Numbered through the stream."""
    clock_hz: int
    """Of its media time: one to a stretch."""
    span: int
    """Of the batch."""
    index: Int64
    """Rows of the batch; int64[n]."""
    media: Int64
    """Media time, unwrapped; ticks, int64[n]."""
    ticks: Int64
    """What each lasts; int64[n]."""
    delay_ns: Int64
    """Arrival minus media time; int64[n]."""
    lost: Bools
    """Whether packets of the same stretch are missing right before it; bool[n]."""
    flags: NDArray[np.uint8]
    """Where the line may step: 1 held up, 2 media time skipped; uint8[n]."""


@dataclass(slots=True)
class Counts:
    """What the sequence numbers of a stream tell."""

    received: int = 0
    """Packets that arrived, duplicates among them."""
    duplicated: int = 0
    """Of those, how many were there already."""
    reordered: int = 0
    """How many came after a packet sent later."""
    ssrc_changes: int = 0
    """How often the source changed."""
    jumps: int = 0
    """How often the timestamps jumped within one source."""
    ssrcs: list[int] = field(default_factory=list)
    """The sources, in order of appearance, the first so many."""
    deviation_ns: int = 0
    """Sum of the changes of delay between packets sent one after the other."""
    deviations: int = 0
    """How many were summed."""
    closed_expected: int = 0
    """Packets that should have come, of the runs that are over."""


class _Lane:
    """What is known of one SSRC."""

    __slots__ = (
        "base",
        "clock_hz",
        "delay_ns",
        "extended",
        "has_audio",
        "highest",
        "holds",
        "media",
        "media_extended",
        "others",
        "recent",
        "resumed",
        "span",
        "stretch",
        "ticks",
        "timestamp",
    )

    def __init__(self, span: int, holds: int) -> None:
        self.span = span
        self.holds = holds
        self.resumed = False
        self.extended = -1
        self.base = self.highest = 0
        self.recent: Int64 = np.zeros(0, np.int64)
        self.others: Int64 = np.zeros(0, np.int64)
        self.has_audio = False
        self.stretch = -1
        self.clock_hz = 0
        self.media = self.media_extended = self.delay_ns = self.ticks = self.timestamp = 0

    def expected(self) -> int:
        return self.highest - self.base + 1 if self.extended >= 0 else 0


class Sequencer:
    """Unwraps one stream's sequence numbers and timestamps, and cuts it into stretches."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._lanes: OrderedDict[int, _Lane] = OrderedDict()
        self._last_ssrc = -1
        self._stretches = 0

    def expected(self) -> int:
        """How many packets should have come, by the sequence numbers, so far."""
        return self.counts.closed_expected + sum(lane.expected() for lane in self._lanes.values())

    def lost(self) -> int:
        """How many of those did not."""
        return max(0, self.expected() - self.counts.received + self.counts.duplicated)

    def runs(self, batch: Batch) -> Iterator[Run]:
        """The audio of a batch, cut into stretches. Duplicates are left out."""
        n = len(batch.sequence)
        if n == 0:
            return
        self.counts.received += n
        ssrc = batch.ssrc
        change = np.flatnonzero(ssrc[1:] != ssrc[:-1]) + 1
        if self._last_ssrc not in (-1, int(ssrc[0])):
            self.counts.ssrc_changes += 1
        self.counts.ssrc_changes += len(change)
        self._last_ssrc = int(ssrc[-1])
        if len(change) == 0:
            yield from self._of_lane(self._lane(int(ssrc[0]), batch), batch, np.arange(n))
            return
        values, first = np.unique(ssrc, return_index=True)
        for value in values[np.argsort(first)]:
            rows = np.flatnonzero(ssrc == value)
            yield from self._of_lane(self._lane(int(value), batch), batch, rows)

    def _lane(self, ssrc: int, batch: Batch) -> _Lane:
        lane = self._lanes.get(ssrc)
        if lane is None:
            lane = self._lanes[ssrc] = _Lane(batch.span, batch.holds)
            if len(self.counts.ssrcs) < _LANES:
                self.counts.ssrcs.append(ssrc)
            if len(self._lanes) > _LANES:
                _, oldest = self._lanes.popitem(last=False)
                self.counts.closed_expected += oldest.expected()
        self._lanes.move_to_end(ssrc)
        if lane.span != batch.span:
            # What was sent during the pause is not lost.
            self.counts.closed_expected += lane.expected()
            lane.span = batch.span
            lane.extended = -1
        elif lane.holds != batch.holds:
            # Nor what was still under way when it was put on hold, and went no further.
            self.counts.closed_expected += lane.expected()
            lane.resumed = True
        lane.holds = batch.holds
        return lane

    def _of_lane(self, lane: _Lane, batch: Batch, rows: Int64) -> Iterator[Run]:
        sequence = batch.sequence[rows]
        before = sequence[0] if lane.extended < 0 else np.uint16(lane.extended & 0xFFFF)
        deltas = np.diff(sequence, prepend=before).view(np.int16).astype(np.int64)
        # A sender that starts over counts anew: nothing was lost, nothing is late.
        restarts = np.flatnonzero(deltas < -_RESTART)
        if len(restarts) == 0:
            yield from self._of_count(lane, batch, rows, deltas)
            return
        for piece in np.split(np.arange(len(rows)), restarts):
            if len(piece) == 0:
                continue
            if int(piece[0]) in restarts:
                self.counts.closed_expected += lane.expected()
                lane.extended = -1
                deltas[piece[0]] = 0
            yield from self._of_count(lane, batch, rows[piece], deltas[piece])

    def _of_count(self, lane: _Lane, batch: Batch, rows: Int64, deltas: Int64) -> Iterator[Run]:
        if lane.extended < 0:
            lane.extended = 0x10000 + int(batch.sequence[rows[0]])
            lane.base = lane.highest = lane.extended
            lane.recent = np.zeros(0, np.int64)
            lane.media_extended = lane.extended
            lane.others = np.zeros(0, np.int64)
            fresh = True
        else:
            fresh = False
        extended = lane.extended + np.cumsum(deltas)
        lane.extended = int(extended[-1])
        resumed, lane.resumed = lane.resumed, False
        if resumed:
            lane.base = max(lane.highest + 1, int(extended[0]))
        keys = batch.timestamp[rows].astype(np.int64) << 16 | batch.sequence[rows]
        in_order = bool((deltas[1:] > 0).all()) and (fresh or int(extended[0]) > lane.highest)
        if not in_order:
            highest = np.maximum.accumulate(np.concatenate(([lane.highest], extended)))[:-1]
            new = np.zeros(len(rows), np.bool_)
            new[np.unique(keys, return_index=True)[1]] = True
            # Whatever was there before is no later than the latest.
            old = np.flatnonzero(extended <= lane.highest)
            new[old[_are_among(keys[old], lane.recent)]] = False
            self.counts.duplicated += len(rows) - int(new.sum())
            self.counts.reordered += int((new & (extended < highest)).sum())
            rows, extended, keys = rows[new], extended[new], keys[new]
            if len(rows) == 0:
                return
        lane.recent = np.concatenate((lane.recent, keys))[-_RECENT:]
        lane.base = min(lane.base, int(extended.min()))
        lane.highest = max(lane.highest, int(extended.max()))

        audio = batch.ticks[rows] > 0
        if not audio.all():
            others = np.sort(extended[~audio])
            lane.others = np.concatenate((lane.others[-_FEW:], others))
            rows, extended = rows[audio], extended[audio]
        if len(rows) == 0:
            return
        clock = batch.clock_hz[rows]
        if bool((clock == clock[0]).all()):
            yield from self._of_audio(lane, batch, rows, extended, resumed=resumed)
            return
        # A change to a codec with another RTP clock (RFC 7160): its timestamps begin anew.
        order = np.argsort(extended, kind="stable")
        rows, extended, clock = rows[order], extended[order], clock[order]
        for piece in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(clock)) + 1):
            yield from self._of_audio(lane, batch, rows[piece], extended[piece])

    def _of_audio(
        self, lane: _Lane, batch: Batch, rows: Int64, extended: Int64, *, resumed: bool = False
    ) -> Iterator[Run]:
        """Packets of one RTP clock."""
        clock_hz = int(batch.clock_hz[rows[0]])
        if clock_hz != lane.clock_hz:
            lane.clock_hz = clock_hz
            lane.has_audio = False
        tick_ns = NS / clock_hz
        stamp = batch.timestamp[rows]
        first = not lane.has_audio
        before = stamp[0] if first else np.uint32(lane.timestamp)
        leaps = np.diff(stamp, prepend=before).view(np.int32).astype(np.int64)
        media = (int(stamp[0]) if first else lane.media) + np.cumsum(leaps)
        ticks = batch.ticks[rows]
        delay = batch.arrival_ns[rows] - media * NS // clock_hz
        last = len(rows) - 1
        newest = (int(stamp[-1]), int(media[-1]), int(extended[-1]), int(delay[-1]), int(ticks[-1]))
        if (np.diff(extended) < 0).any():
            order = np.argsort(extended, kind="stable")
            rows, extended, media = rows[order], extended[order], media[order]
            ticks, delay = ticks[order], delay[order]
            last = int(np.flatnonzero(order == last)[0])

        media_before = np.concatenate(([lane.media], media[:-1]))
        ticks_before = np.concatenate(([lane.ticks], ticks[:-1]))
        delay_before = np.concatenate(([lane.delay_ns], delay[:-1]))
        extended_before = np.concatenate(([lane.media_extended], extended[:-1]))
        behind = extended - extended_before
        later = delay - delay_before
        skipped_ns = (media - media_before - behind * ticks_before) * tick_ns
        jump = (np.abs(skipped_ns) > JUMP_NS) & (np.abs(later) > JUMP_NS)
        if first:
            jump[0] = False
            later[0] = 0
            skipped_ns[0] = 0
        successive = behind == 1
        if first:
            successive[0] = False
        self.counts.deviation_ns += int(np.abs(later[successive & ~jump]).sum())
        self.counts.deviations += int((successive & ~jump).sum())
        self.counts.jumps += int(jump.sum())

        flags = np.where(np.abs(skipped_ns) > _SKIPPED_NS, _SKIP, 0).astype(np.uint8)
        flags |= np.where(later > _HELD_UP_NS, _UP, 0).astype(np.uint8)
        after_gap = media > media_before + ticks_before
        lost = after_gap & (behind > 1) & ~jump
        if len(lane.others) and lost.any():
            # Comfort noise and keys come between on purpose.
            between = np.searchsorted(lane.others, extended) != np.searchsorted(
                lane.others, extended_before
            )
            lost &= ~between
        if first:
            lane.stretch = self._new_stretch()
        if first or resumed:
            lost[0] = False
        cuts = np.flatnonzero(jump)
        starts = [0, *cuts.tolist()]
        stretch_of_last = lane.stretch
        for number, start in enumerate(starts):
            end = starts[number + 1] if number + 1 < len(starts) else len(rows)
            stretch = lane.stretch if number == 0 else self._new_stretch()
            if start == end:
                continue
            if start <= last < end:
                stretch_of_last = stretch
            part = slice(start, end)
            yield Run(
                stretch=stretch,
                clock_hz=clock_hz,
                span=batch.span,
                index=rows[part],
                media=media[part],
                ticks=ticks[part],
                delay_ns=delay[part],
                lost=lost[part],
                flags=flags[part],
            )
        lane.has_audio = True
        lane.stretch = stretch_of_last
        lane.timestamp, lane.media, lane.media_extended, lane.delay_ns, lane.ticks = newest

    def _new_stretch(self) -> int:
        self._stretches += 1
        return self._stretches - 1


def _are_among(keys: Int64, recent: Int64) -> Bools:
    if len(keys) > _FEW:
        return np.isin(keys, recent)
    among: Bools = (keys[:, None] == recent).any(axis=1)
    return among


@dataclass(frozen=True, slots=True)
class Line:
    """The earliest-arrival line of one stretch: its delay as a function of media time."""

    clock_hz: int
    """Of its media time."""
    starts: Int64
    """Media time at which each piece begins, ascending; between pieces the line steps."""
    pieces: tuple[tuple[Int64, NDArray[np.float64]], ...]
    """Of each piece: media times, and the delay in nanoseconds at each."""

    def at(self, media: Int64) -> NDArray[np.float64]:
        """The delay at these media times, nanoseconds; float64[n]."""
        if len(self.pieces) == 1:
            return np.interp(media, *self.pieces[0])
        which = np.clip(np.searchsorted(self.starts, media, "right") - 1, 0, None)
        delay = np.empty(len(media))
        for piece in np.unique(which):
            rows = which == piece
            delay[rows] = np.interp(media[rows], *self.pieces[piece])
        return delay


class _Soundings:
    """The smallest and the greatest delays of one stretch, of a second or less each."""

    __slots__ = ("cell", "clock_hz", "delay_ns", "flags", "media", "most_ns")

    def __init__(self, clock_hz: int) -> None:
        self.clock_hz = clock_hz
        self.media = array("q")
        self.delay_ns = array("q")
        self.most_ns = array("q")
        self.flags = array("B")
        self.cell = 0

    def note(self, run: Run) -> None:
        clock_hz = self.clock_hz
        second = run.media // clock_hz
        begins = np.diff(second, prepend=self.cell) != 0
        if not self.media:
            begins[0] = True
        flagged = np.flatnonzero(run.flags)
        if len(flagged):
            # At most one in a tenth of a second: jitter raises many, and one of them will do.
            cells = run.media[flagged] * _CELLS_PER_S // clock_hz
            begins[flagged[np.unique(cells, return_index=True)[1]]] = True
        self.cell = int(second[-1])
        at = np.flatnonzero(begins)
        head = int(at[0]) if len(at) else len(second)
        if head > 0:
            self.delay_ns[-1] = min(self.delay_ns[-1], int(run.delay_ns[:head].min()))
            self.most_ns[-1] = max(self.most_ns[-1], int(run.delay_ns[:head].max()))
        if len(at):
            self.media.frombytes(run.media[at].tobytes())
            self.delay_ns.frombytes(np.minimum.reduceat(run.delay_ns, at).tobytes())
            self.most_ns.frombytes(np.maximum.reduceat(run.delay_ns, at).tobytes())
            self.flags.frombytes(run.flags[at].tobytes())

    def line(self) -> Line:
        clock_hz = self.clock_hz
        media = np.frombuffer(self.media, np.int64)
        order = np.argsort(media, kind="stable")
        media = media[order]
        delay = np.frombuffer(self.delay_ns, np.int64)[order]
        flags = np.frombuffer(self.flags, np.uint8)[order]
        most = np.frombuffer(self.most_ns, np.int64)[order]
        steps = _steps(media, delay, most, flags, STEP_HOLD_NS * clock_hz // NS)
        bounds = [0, *steps, len(media)]
        pieces = tuple(
            (media[a:b], _envelope(media[a:b], delay[a:b], clock_hz)) for a, b in pairwise(bounds)
        )
        return Line(clock_hz, media[bounds[:-1]], pieces)


def _steps(
    media: Int64, delay: Int64, most: Int64, flags: NDArray[np.uint8], hold: int
) -> list[int]:
    """Where the delay changes for good: indices of the first sounding after each step."""
    steps: list[int] = []
    candidates = np.flatnonzero(flags)
    starts = np.searchsorted(media, media[candidates] - hold)
    ends = np.searchsorted(media, media[candidates] + hold)
    for k, start, end in zip(candidates.tolist(), starts.tolist(), ends.tolist(), strict=True):
        since = max(start, steps[-1] if steps else 0)
        if since >= k:
            continue
        lowest, before = int(delay[k:end].min()), int(delay[since:k].min())
        change = lowest - before
        follows = int(media[end - 1] - media[k])
        if follows * STEP_PROOF < hold and abs(change) < SHORT_STEP_NS:
            continue
        # Of few packets at either end it may happen that none was in time: where delays as great
        # are seen on the other side as well, it is jitter.
        if change > 0 and follows * 10 < hold * 9 and lowest <= most[since:k].max() + STEP_NS:
            continue
        precedes = int(media[k] - media[since])
        if change < 0 and precedes * 10 < hold * 9 and before <= most[k:end].max() + STEP_NS:
            continue
        # Packets that were held up come in a burst afterwards. Packets cannot come early: a delay
        # that falls for good is a leap of media time, or else a congestion that is over.
        if change > STEP_NS or (change < -STEP_NS and flags[k] & _SKIP):
            steps.append(k)
    return steps


def _envelope(media: Int64, delay: Int64, clock_hz: int) -> NDArray[np.float64]:
    """The highest line under all delays that bends no faster than a bad clock drifts."""
    slope = NS / clock_hz * MAX_DRIFT_PPM / 1e6
    reach = LOOK_NS * clock_hz // NS
    starts = np.searchsorted(media, media - reach)
    ends = np.searchsorted(media, media + reach, "right")
    here = np.arange(len(media))
    since = (media - media[0]) * slope
    before = _least(delay - since, starts, here + 1) + since
    behind = _least(delay + since, here, ends) - since
    line: NDArray[np.float64] = np.minimum(before, behind)
    return line


def _least(values: NDArray[np.float64], starts: Int64, ends: Int64) -> NDArray[np.float64]:
    """The least of ``values[start:end]`` for each pair, none of them empty; float64[n]."""
    level = np.frexp(ends - starts)[1] - 1  # of each, the power of two that fits in
    least = np.empty(len(starts))
    for power in range(int(level.max()) + 1):
        rows = np.flatnonzero(level == power)
        least[rows] = np.minimum(values[starts[rows]], values[ends[rows] - (1 << power)])
        values = np.minimum(values[: -(1 << power)], values[1 << power :])
    return least


@dataclass(frozen=True, slots=True)
class Extent:
    """From where to where on the axis a stream has audio in one span, nanoseconds."""

    start: int
    """Of the first packet."""
    end: int
    """Behind the last packet."""


class Survey:
    """The first time over a stream: what there is, and how delayed."""

    def __init__(self) -> None:
        self.sequencer = Sequencer()
        self._soundings: dict[int, _Soundings] = {}
        self._extents: dict[tuple[int, int], tuple[int, int]] = {}

    def feed(self, batch: Batch) -> None:
        """Take the next packets."""
        for run in self.sequencer.runs(batch):
            soundings = self._soundings.get(run.stretch)
            if soundings is None:
                if len(self._soundings) >= _MAX_STRETCHES:
                    # Nobody who means well jumps this often: placed by arrival, see Placer.
                    continue
                soundings = self._soundings[run.stretch] = _Soundings(run.clock_hz)
            soundings.note(run)
            key = (run.stretch, run.span)
            start, end = int(run.media.min()), int((run.media + run.ticks).max())
            known = self._extents.get(key, (start, end))
            self._extents[key] = (min(start, known[0]), max(end, known[1]))

    def lines(self) -> dict[int, Line]:
        """The line of each stretch."""
        return {n: soundings.line() for n, soundings in self._soundings.items()}

    def extents(self, lines: dict[int, Line]) -> dict[int, Extent]:
        """Where the audio of each span begins and ends on the axis."""
        found: dict[int, Extent] = {}
        for (stretch, span), (start, end) in self._extents.items():
            line = lines[stretch]
            offset = np.rint(line.at(np.array([start, end])) * line.clock_hz / NS).astype(np.int64)
            a, b = (
                round(at * NS / line.clock_hz)
                for at in (start + int(offset[0]), end + int(offset[1]))
            )
            known = found.get(span, Extent(a, b))
            found[span] = Extent(min(a, known.start), max(b, known.end))
        return found

    def drift_ppm(self, lines: dict[int, Line]) -> float | None:
        """How fast the sender's clock runs against ours, by its longest unbroken piece of line.

        Positive when it is fast, so that delays shrink. None if there is no minute of it.
        """
        pieces = [
            (int(media[-1] - media[0]) * NS / line.clock_hz, delay)
            for line in lines.values()
            for media, delay in line.pieces
        ]
        if not pieces:
            return None
        length_ns, delay = max(pieces, key=lambda piece: piece[0])
        if length_ns < 60 * NS:
            return None
        return float(delay[0] - delay[-1]) / length_ns * 1e6


@dataclass(frozen=True, slots=True)
class Placed:
    """Packets and where they go: all of one stretch, in order of sequence numbers."""

    stretch: int
    """Of the stream."""
    clock_hz: int
    """In whose ticks positions are."""
    index: Int64
    """Rows of the batch; int64[n]."""
    position: Int64
    """Where on the axis each begins, ticks; int64[n]."""
    cut: Int64
    """Ticks to leave out at the start of each, where the line went back; int64[n]."""
    lost: Bools
    """Whether packets are missing right before it, or it was moved on a little; bool[n]."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """How packets are placed from some media time on."""

    since: int
    """That media time."""
    offset: int
    """Added to media time."""
    floor: int
    """Up to here the axis was filled before: what would be below is left out."""


@dataclass(slots=True)
class _State:
    """How one stretch is being placed."""

    span: int
    """Of the last packets."""
    rules: list[_Rule]
    """The last ones, in order of media time: what comes late goes by the rule of its own time."""
    media: int = -_FAR
    """The latest media time that was placed."""
    media_end: int = -_FAR
    """Behind the last media that was placed."""
    end: int = -_FAR
    """Behind what was placed, on the axis."""

    @property
    def offset(self) -> int:
        """What is added to media time now."""
        return self.rules[-1].offset

    def by_rule(self, media: Int64, ticks: Int64) -> tuple[Int64, Int64]:
        """Where packets go, and how much of each would fall on what is there; int64[n] each."""
        since = np.array([rule.since for rule in self.rules[1:]], np.int64)
        which = np.searchsorted(since, media, "right")
        position = media + np.array([rule.offset for rule in self.rules], np.int64)[which]
        floor = np.array([rule.floor for rule in self.rules], np.int64)[which]
        return position, np.clip(floor - position, 0, ticks)

    def move(self, media: int, offset: int) -> int:
        """From this media time on, which is later than all that was placed, another offset; by how
        much it is moved on."""
        last = self.rules[-1]
        # What is still to come for the hole before it moves as well: it fits in between.
        since = min(media, self.media_end) if self.media_end > last.since else media
        # What is there already stays, where the line goes back.
        floor = max(last.floor, min(self.end, since + last.offset))
        self.rules.append(_Rule(since, offset, floor))
        return offset - last.offset

    def note(self, media: Int64, ticks: Int64, position: Int64) -> None:
        """This was placed."""
        if len(media):
            self.media = max(self.media, int(media.max()))
            self.media_end = max(self.media_end, int((media + ticks).max()))
            self.end = max(self.end, int((position + ticks).max()))


class Placer:
    """The second time over a stream: everything in its place.

    ``lines`` are the survey's. Positions are in ticks of a stretch's own RTP clock.
    """

    def __init__(self, lines: dict[int, Line]) -> None:
        self._sequencer = Sequencer()
        self._lines = lines
        self._states: OrderedDict[int, _State] = OrderedDict()
        self.reanchored = 0
        """How often what is placed was put back on its line."""
        self.late = 0
        """Packets that came more than half a second behind their line."""
        self.most_delayed_ns = 0
        """How far behind its line a packet came at most."""

    def place(self, batch: Batch, quiet: Quiet) -> Iterator[Placed]:
        """Where the next packets go. ``quiet`` says which rows, of one stretch and in order, hold
        nothing worth hearing."""
        for run in self._sequencer.runs(batch):
            yield self._place(run, quiet)

    def _place(self, run: Run, quiet: Quiet) -> Placed:
        line = self._lines.get(run.stretch)
        delay = np.full(len(run.media), float(run.delay_ns[0])) if line is None else None
        if line is not None:
            delay = line.at(run.media)
        assert delay is not None
        behind = run.delay_ns - delay
        self.late += int((behind > JUMP_NS).sum())
        self.most_delayed_ns = max(self.most_delayed_ns, int(behind.max()))

        target = np.rint(delay * run.clock_hz / NS).astype(np.int64)
        state = self._states.get(run.stretch)
        if line is None and state is not None:
            target[:] = state.offset
        if state is None or state.span != run.span:
            first = _Rule(-_FAR, int(target[0]), -_FAR)
            state = self._states[run.stretch] = _State(run.span, [first])
            if len(self._states) > _LANES * 4:
                self._states.popitem(last=False)
        self._states.move_to_end(run.stretch)
        moved_on = self._follow(run, target, state, quiet)
        position, cut = state.by_rule(run.media, run.ticks)
        state.note(run.media, run.ticks, position)
        del state.rules[:-_RULES]
        return Placed(run.stretch, run.clock_hz, run.index, position, cut, run.lost | moved_on)

    def _follow(self, run: Run, target: Int64, state: _State, quiet: Quiet) -> Bools:
        """Make new rules where the line is left behind; before which packets a little hole comes
        of it, bool[n]."""
        loose = LOOSE_NS * run.clock_hz // NS
        tight = TIGHT_NS * run.clock_hz // NS
        moved_on = np.zeros(len(target), np.bool_)
        after_gap = run.media > _highest_before(run.media + run.ticks, state.media_end)
        # What came late goes between what is there already: only what is new may move.
        new = np.flatnonzero(run.media > _highest_before(run.media, state.media))
        at, noted = 0, 0
        while at < len(new):
            rows = new[at:]
            off = np.abs(target[rows] - state.offset)
            may = rows[off > loose]
            if len(may) == 0:
                break
            must = rows[off > tight][:1]
            easy = _first_easy(run, may[may < must[0]] if len(must) else may, after_gap, quiet)
            if easy is None and len(must) == 0:
                break
            move = int(must[0]) if easy is None else easy
            before = slice(noted, move)
            media, ticks = run.media[before], run.ticks[before]
            state.note(media, ticks, state.by_rule(media, ticks)[0])
            moved = state.move(int(run.media[move]), int(target[move]))
            moved_on[move] = 0 < moved <= 2 * tight and not after_gap[move]
            at, noted = int(np.searchsorted(new, move)) + 1, move
            self.reanchored += 1
        return moved_on


def _highest_before(values: Int64, before: int) -> Int64:
    """Of each, the highest of those before it, and of what was there before; int64[n]."""
    return np.maximum.accumulate(np.concatenate(([before], values[:-1])))


def _first_easy(run: Run, rows: Int64, after_gap: Bools, quiet: Quiet) -> int | None:
    """The first of these rows where a move is not heard: behind a gap, or where it is quiet."""
    for block in np.split(rows, range(_EASY_ROWS, len(rows), _EASY_ROWS)):
        if len(block) == 0:
            continue
        first = max(0, int(block[0]) - 1)
        hushed = quiet(run.stretch, run.index, slice(first, int(block[-1]) + 1))
        both = hushed[block - first] & hushed[np.maximum(block - 1, 0) - first]
        easy = np.flatnonzero(after_gap[block] | both)
        if len(easy):
            return int(block[easy[0]])
    return None
