"""The recording's time axis: sums of samples upon it, and which of it the file holds. Pure.

Positions are samples from the recording's start; they may be a little below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from callreel.calls.model import PauseBehavior

Samples = NDArray[np.int16]

MAX_LISTED_GAPS = 200


class Canvas:
    """A window of the axis that moves on; samples put on it are added to what is there.

    Positions from ``start`` up to ``start + limit`` can be drawn on.
    """

    def __init__(self, start: int, *, limit: int) -> None:
        self.start = start
        """Where the window begins; what lies before has been taken."""
        self.end = start
        """Behind the last sample that was put anywhere."""
        self._limit = limit
        self._sums: NDArray[np.int32] = np.zeros(1 << 16, np.int32)

    def add(self, position: int, samples: Samples) -> int:
        """Add samples at a position; how many fell outside of the window."""
        at = position - self.start
        head = min(max(0, -at), len(samples))
        stop = max(head, min(len(samples), self._limit - at))
        if stop > head:
            self._reserve(at + stop)
            self._sums[at + head : at + stop] += samples[head:stop]
            self.end = max(self.end, position + stop)
        return len(samples) - (stop - head)

    def take(self, until: int) -> NDArray[np.int32]:
        """The sums up to a position, zero where there is nothing; the window then begins there."""
        n = until - self.start
        self._reserve(n)
        taken = self._sums[:n].copy()
        self._sums[: -n or None] = self._sums[n:].copy()
        self._sums[max(0, len(self._sums) - n) :] = 0
        self.start = until
        self.end = max(self.end, until)
        return taken

    def _reserve(self, samples: int) -> None:
        if samples > len(self._sums):
            more = np.zeros(max(samples, 2 * len(self._sums)) - len(self._sums), np.int32)
            self._sums = np.concatenate((self._sums, more))


class Cover:
    """Which of the axis is covered by packets: finds the gaps."""

    def __init__(self, start: int, *, limit: int, ignore: int) -> None:
        self._canvas = Canvas(start, limit=limit)
        self._ignore = ignore
        self._open = 0
        """Length of the gap that the last taken piece ended with."""
        self.count = 0
        """Gaps longer than ``ignore`` samples."""
        self.samples = 0
        """Samples in them."""
        self.listed: list[tuple[int, int]] = []
        """The first so many: where in the file, and how long, samples."""

    def mark(self, start: int, end: int) -> None:
        """There are packets from here to there."""
        if end > start:
            self._canvas.add(start, np.ones(end - start, np.int16))

    def take(self, until: int, kept: Sequence[slice], file_position: int) -> None:
        """Look at the axis up to a position, of which the file keeps these parts, from there."""
        covered = self._canvas.take(until) > 0
        for part in kept:
            self._look(covered[part], file_position)
            file_position += part.stop - part.start

    def finish(self, file_position: int) -> None:
        """The file ends here."""
        self._close(file_position)

    def _look(self, covered: NDArray[np.bool_], at: int) -> None:
        if not covered.any():
            self._open += len(covered)
            return
        edges = np.flatnonzero(np.diff(covered.view(np.int8), prepend=1, append=1))
        begin, end = edges[0::2].tolist(), edges[1::2].tolist()
        if not begin or begin[0] > 0:
            self._close(at)
        for a, b in zip(begin, end, strict=True):
            self._open += b - a
            if b < len(covered):
                self._close(at + b)

    def _close(self, at: int) -> None:
        if self._open > self._ignore:
            self.count += 1
            self.samples += self._open
            if len(self.listed) < MAX_LISTED_GAPS:
                self.listed.append((at - self._open, self._open))
        self._open = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the axis between two pauses, or a pause's end and the recording's."""

    start: int
    """Where it begins, samples."""
    end: int
    """Where the pause begins."""
    behavior: PauseBehavior
    """Of the pause that follows."""


def join(spans: Sequence[Span]) -> list[Span]:
    """Spans in order that do not overlap, so that no audio falls to two of them.

    A packet may begin before its span, by as much as it was delayed, or end behind it.
    """
    joined: list[Span] = []
    for span in spans:
        start = max(span.start, joined[-1].end) if joined else span.start
        joined.append(Span(start, max(start, span.end), span.behavior))
    return joined


class Axis:
    """What of the axis goes into the file: all but the pauses that are skipped."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._skipped = [
            (span.end, after.start)
            for span, after in pairwise(spans)
            if span.behavior is PauseBehavior.SKIP
        ]

    def kept(self, start: int, end: int) -> list[slice]:
        """The parts of ``[start, end)`` that the file keeps, counted from ``start``."""
        parts: list[slice] = []
        at = start
        for skip_start, skip_end in self._skipped:
            if skip_end <= at:
                continue
            if skip_start >= end:
                break
            if skip_start > at:
                parts.append(slice(at - start, skip_start - start))
            at = max(at, skip_end)
        if at < end:
            parts.append(slice(at - start, end - start))
        return parts

    def length(self, start: int, end: int) -> int:
        """Samples of ``[start, end)`` that the file keeps."""
        return sum(part.stop - part.start for part in self.kept(start, end))
