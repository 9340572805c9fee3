"""What a stream that is being recorded is like now, for whoever looks on: level and loss.

Nothing is kept and nothing is computed while nobody looks: the first look begins it, and it ends
some seconds after the last.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from callreel.audio.codec import COMFORT_NOISE, TELEPHONE_EVENT, format_for
from callreel.audio.level import dbfs
from callreel.calls.media import Codec, StreamState
from callreel.capture.streams import LiveCall, Source
from callreel.capture.sweep import Batch
from callreel.wire.rtp import PacketTable, gather, parse_slab

WATCHED_NS = 10_000_000_000
"""So long after the last look what comes is still noted."""
STALE_NS = 1_500_000_000
"""So long a level is told again while nothing new has come."""
MAX_BATCHES = 32
FLOOR_DBFS = -96.0
"""What silence is told as: the quietest that 16 bits can say."""
_MAX_STRAY = 3000
"""Sequence numbers further apart than this are a stream that began anew (RFC 3550 §A.1)."""


class Watch:
    """What came to one stream since the last look, and what was lost since the first."""

    __slots__ = ("_batches", "_last", "_seen", "_seen_ns", "lost", "packets", "until_ns")

    def __init__(self, now_ns: int) -> None:
        self.until_ns = now_ns + WATCHED_NS
        """When nobody looks any more, arrival time."""
        self.packets = 0
        """Since the first look."""
        self.lost = 0
        """Since the first look."""
        self._batches: list[Batch] = []
        self._last: int | None = None
        self._seen: tuple[float | None, str] = (None, "")
        self._seen_ns = now_ns

    def note(self, batches: list[Batch]) -> None:
        """These came."""
        self._batches += batches
        del self._batches[:-MAX_BATCHES]

    def look(
        self, now_ns: int, codecs: tuple[Codec, ...], *, encrypted: bool
    ) -> tuple[float | None, str]:
        """The level since the last look, in dBFS, and the codec that was spoken last.

        None where nothing came, or where it cannot be heard: SRTP, and codecs without a decoder.
        Those who look soon after each other see the same.
        """
        self.until_ns = now_ns + WATCHED_NS
        if self._batches:
            self._seen, self._seen_ns = self._look(codecs, encrypted=encrypted), now_ns
        elif now_ns - self._seen_ns > STALE_NS:
            self._seen = (None, "")
        return self._seen

    def _look(self, codecs: tuple[Codec, ...], *, encrypted: bool) -> tuple[float | None, str]:
        batches, self._batches = self._batches, []
        table = parse_slab(
            np.concatenate([batch.lengths for batch in batches]),
            b"".join(batch.data for batch in batches),
        )
        rows = np.flatnonzero(table.ok)
        if not len(rows):
            return None, ""
        self._count(table.sequence[rows])
        known = {codec.payload_type: codec for codec in codecs}
        types = table.payload_type[rows]
        name = ""
        for number in reversed(types.tolist()):
            codec = known.get(number)
            if codec is not None and codec.name not in (COMFORT_NOISE, TELEPHONE_EVENT):
                name = codec.name
                break
        return (None if encrypted else _level(table, rows, types, known)), name

    def _count(self, sequence: NDArray[np.uint16]) -> None:
        numbers = sequence.astype(np.int64)
        first = int(numbers[0]) if self._last is None else self._last
        # Around the number that was expected, so that 65535 is followed by 65536.
        steps = (numbers - first + 32768) % 65536 - 32768
        self.packets += len(numbers)
        if abs(int(steps.max())) < _MAX_STRAY and abs(int(steps.min())) < _MAX_STRAY:
            new = np.unique(steps if self._last is None else steps[steps > 0])
            if len(new):
                begin = int(new[0]) if self._last is None else 1
                self.lost += int(new[-1]) - begin + 1 - len(new)
        self._last = int(numbers[np.argmax(steps)])


def _level(
    table: PacketTable,
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    known: dict[int, Codec],
) -> float | None:
    power, samples = 0.0, 0
    for number in np.unique(types).tolist():
        codec = known.get(number)
        if codec is None:
            continue
        form = format_for(codec.name, codec.clock_rate_hz, codec.channels)
        if form is None or not form.is_stateless:
            continue  # what must be heard from its beginning is too dear for a look
        of_it = rows[types == number]
        count = table.payload_bytes[of_it]
        heard = form.decoder().decode(
            gather(table.octets, table.payload_start[of_it], count), count
        )
        power += float(np.square(heard, dtype=np.float64).sum())
        samples += len(heard)
    return max(FLOOR_DBFS, dbfs(math.sqrt(power / samples))) if samples else None


def observe(call: LiveCall, now_ns: int) -> list[StreamState]:
    """Look at the streams of a call: its own, what is relayed to it, and what we play to it."""
    return [_look(source, now_ns) for source in call.sources()]


def _look(source: Source, now_ns: int) -> StreamState:
    live = source.live
    shown = live.attendant if source.is_ours and live.attendant is not None else live
    kept = bool(shown.keepers)
    if shown.watch is None and kept:
        shown.watch = Watch(now_ns)
    level, codec = None, ""
    if shown.watch is not None:
        level, codec = shown.watch.look(
            now_ns, live.stream.codecs, encrypted=live.stream.srtp is not None
        )
    agreed = [one.name for one in live.stream.codecs]
    return StreamState(
        number=source.number,
        track=source.track,
        codec=codec or next((n for n in agreed if n not in (COMFORT_NOISE, TELEPHONE_EVENT)), ""),
        participant="" if source.is_ours else live.stream.participant,
        secure=live.stream.srtp is not None,
        sending=source.sending,
        kept=kept,
        packets=shown.watch.packets if shown.watch else 0,
        lost=shown.watch.lost if shown.watch else 0,
        level_dbfs=level,
    )
