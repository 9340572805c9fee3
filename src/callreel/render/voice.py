"""One stream's audio on the recording's time axis, at the file's sampling rate. Pure.

Packets are put on a canvas of the rate that their codec was sampled at, so that positions are whole
samples. When a piece of the axis is taken, lost packets are concealed and the piece is brought to
the file's rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from callreel.audio.concealment import CONCEALED_MS, HISTORY_MS, conceal
from callreel.audio.mixing import mix
from callreel.audio.resampling import Resampler
from callreel.render.axis import Canvas, Cover
from callreel.render.timeline import Placed
from callreel.render.walk import Decoded

Samples = NDArray[np.int16]

SHORTEST_GAP_MS = 10
_LIMIT_S = 720


class Voice:
    """What one stream says. Positions are samples of the file, from the recording's start."""

    def __init__(self, start: int, *, rate_hz: int, sampled_at_hz: Iterable[int]) -> None:
        self._rate_hz = rate_hz
        self._at = start
        self._layers = {rate: _Layer(start, rate, rate_hz) for rate in sorted(sampled_at_hz)}
        self._last: tuple[int, int] | None = None
        """The stretch that was drawn last and where it ended, ticks."""
        self.cover = Cover(start, ignore=SHORTEST_GAP_MS * rate_hz // 1000)
        """Which of the axis there were packets for."""
        self.concealed = 0
        """Samples that were made up in place of lost packets."""
        self.unplaced = 0
        """Samples that had no place."""

    @property
    def end(self) -> int:
        """Behind the last sample that was drawn."""
        return max((layer.end for layer in self._layers.values()), default=self._at)

    def draw(self, placed: Placed, ticks: NDArray[np.int64], decoded: Decoded) -> None:
        """Put packets, which last so many ticks each, in their places."""
        if len(ticks) == 0:
            return
        ends = placed.position + ticks
        self._note_lost(placed, ends, decoded)
        size = ticks * decoded.factor
        source = np.cumsum(size) - size
        factor = int(decoded.factor[0])
        if bool((decoded.factor == factor).all()):
            self._put(placed.position, placed.cut, ticks, source, factor, placed, decoded)
        else:
            for value in np.unique(decoded.factor).tolist():
                of_it = decoded.factor == value
                self._put(
                    placed.position[of_it],
                    placed.cut[of_it],
                    ticks[of_it],
                    source[of_it],
                    value,
                    placed,
                    decoded,
                )
        self._last = placed.stretch, int(ends.max())

    def take(self, until: int) -> Samples:
        """The samples up to a position; what comes later for that has no place."""
        layers = list(self._layers.values())
        if not layers:
            taken = np.zeros(until - self._at, np.int16)
        else:
            pieces = [layer.take(until, self.cover) for layer in layers]
            taken = pieces[0] if len(pieces) == 1 else mix(*pieces)
            self.concealed = sum(layer.concealed for layer in layers)
        self._at = until
        return taken

    def _note_lost(self, placed: Placed, ends: NDArray[np.int64], decoded: Decoded) -> None:
        """Remember where packets are missing, as long as they may still come."""
        for row in np.flatnonzero(placed.lost).tolist():
            if row:
                before = int(ends[row - 1])
            elif self._last is not None and self._last[0] == placed.stretch:
                before = self._last[1]
            else:
                continue
            factor = int(decoded.factor[row])
            position = int(placed.position[row])
            if position > before:
                layer = self._layers[placed.clock_hz * factor]
                layer.lost.append((before * factor, position * factor))

    def _put(
        self,
        position: NDArray[np.int64],
        cut: NDArray[np.int64],
        ticks: NDArray[np.int64],
        source: NDArray[np.int64],
        factor: int,
        placed: Placed,
        decoded: Decoded,
    ) -> None:
        layer = self._layers[placed.clock_hz * factor]
        start = (position + cut) * factor
        source = source + cut * factor
        length = (ticks - cut) * factor
        # Packets that follow each other on the axis as they do in the slab are drawn as one.
        broken = (start[1:] != (start + length)[:-1]) | (source[1:] != (source + length)[:-1])
        first = np.concatenate(([0], np.flatnonzero(broken) + 1))
        last = np.concatenate((first[1:] - 1, [len(ticks) - 1]))
        for at, begin, end in zip(
            start[first].tolist(),
            source[first].tolist(),
            (source[last] + length[last]).tolist(),
            strict=True,
        ):
            outside = layer.canvas.add(at, decoded.samples[begin:end])
            self.unplaced += layer.to_file(outside)
            self.cover.mark(layer.to_file(at), layer.to_file(at + end - begin))


class _Layer:
    """What of a voice was sampled at one rate."""

    def __init__(self, start: int, rate_hz: int, file_hz: int) -> None:
        self._rate_hz = rate_hz
        self._file_hz = file_hz
        self._at = start
        self._resampler: Resampler | None = None
        self._ready: Samples = np.zeros(0, np.int16)
        self._skip = 0
        if rate_hz != file_hz:
            self._resampler = Resampler(rate_hz, file_hz)
            # Both rates have a sample at each whole second.
            native, self._skip = start // file_hz * rate_hz, start % file_hz
        else:
            native = start
        self.canvas = Canvas(native, limit=_LIMIT_S * rate_hz)
        """At the layer's own rate."""
        self._before: Samples = np.zeros(HISTORY_MS * rate_hz // 1000, np.int16)
        self.lost: list[tuple[int, int]] = []
        """Where packets were missing when those after them were put in place; own samples."""
        self.concealed = 0
        """Samples made up, of the file."""

    def to_file(self, samples: int) -> int:
        """A position of the layer's, in the file's samples."""
        return samples * self._file_hz // self._rate_hz

    def to_own(self, samples: int) -> int:
        """A position of the file's, in the layer's samples."""
        return samples * self._rate_hz // self._file_hz

    @property
    def end(self) -> int:
        """Behind the last sample that was drawn, in samples of the file."""
        return -(-self.canvas.end * self._file_hz // self._rate_hz)

    def take(self, until: int, cover: Cover) -> Samples:
        """The samples up to a position of the file."""
        count = until - self._at
        self._at = until
        if self._resampler is None:
            return self._native(until, cover)
        ready = [self._ready]
        native = self._native(self.to_own(until) + self._resampler.lookahead, cover)
        made = self._resampler.push(native)
        if self._skip:
            skipped = min(self._skip, len(made))
            made, self._skip = made[skipped:], self._skip - skipped
        ready.append(made)
        whole = np.concatenate(ready)
        self._ready = whole[count:]
        return whole[:count]

    def _native(self, until: int, cover: Cover) -> Samples:
        start = self.canvas.start
        taken = self.canvas.take(until)
        if self.lost:
            self.lost.sort()
            due = [hole for hole in self.lost if hole[0] < until]
            self.lost = self.lost[len(due) :]
            for hole in due:
                self._conceal(taken, start, hole, cover)
        self._before = np.concatenate((self._before, taken[-len(self._before) :]))[
            -len(self._before) :
        ]
        return taken

    def _conceal(self, taken: Samples, start: int, hole: tuple[int, int], cover: Cover) -> None:
        """Fill what is still missing of a hole that begins in ``taken``."""
        for a, b in cover.missing(self.to_file(hole[0]), self.to_file(hole[1])):
            at = max(self.to_own(a) - start, 0)
            length = self.to_own(b) - start - at
            length = min(length, CONCEALED_MS * self._rate_hz // 1000)
            if length <= 0 or at >= len(taken):
                continue
            need = len(self._before)
            history = taken[max(0, at - need) : at]
            if len(history) < need:
                history = np.concatenate((self._before[len(history) :], history))
            made = conceal(history, length, self._rate_hz)
            fits = made[: len(taken) - at]
            taken[at : at + len(fits)] = fits
            if len(fits) < len(made):
                self.canvas.add(start + len(taken), made[len(fits) :])
            self.concealed += self.to_file(length)
