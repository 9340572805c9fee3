"""The recording's time axis: samples upon it, and which of it the file holds. Pure.

Positions are samples from the recording's start; they may be a little below zero.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from callreel.audio.mixing import saturate
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
        """Behind the last sample that was put anywhere; there is silence from here on."""
        self._limit = limit
        self._window: Samples = np.zeros(1 << 16, np.int16)

    def add(self, position: int, samples: Samples) -> int:
        """Add samples at a position; how many fell outside of the window."""
        at = position - self.start
        head = min(max(0, -at), len(samples))
        stop = max(head, min(len(samples), self._limit - at))
        if stop > head:
            self._reserve(at + stop)
            begin, end, fresh = at + head, at + stop, self.end - self.start
            # Two senders at once on one stream, or a packet that was put where another was.
            if begin < fresh:
                over = min(end, fresh)
                mixed = self._window[begin:over].astype(np.int32)
                mixed += samples[head : head + over - begin]
                self._window[begin:over] = saturate(mixed)
            if end > fresh:
                begin = max(begin, fresh)
                self._window[begin:end] = samples[begin - at : stop]
            self.end = max(self.end, position + stop)
        return len(samples) - (stop - head)

    def take(self, until: int) -> Samples:
        """The samples up to a position, zero where there is nothing; the window begins there
        then."""
        n = until - self.start
        self._reserve(n)
        used = max(0, self.end - self.start)
        taken = self._window[:n].copy()
        left = max(0, used - n)
        self._window[:left] = self._window[n : n + left].copy()
        self._window[left:used] = 0
        self.start = until
        self.end = max(self.end, until)
        return taken

    def _reserve(self, samples: int) -> None:
        if samples > len(self._window):
            more = np.zeros(max(samples, 2 * len(self._window)) - len(self._window), np.int16)
            self._window = np.concatenate((self._window, more))


class Cover:
    """Which of the axis is covered by packets: finds the gaps."""

    def __init__(self, start: int, *, ignore: int) -> None:
        self._at = start
        self._marked: list[tuple[int, int]] = []
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
            self._marked.append((start, end))

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of an interval that has not been taken no packet covers."""
        self._merge()
        found = []
        first = bisect_right(self._marked, (start, start)) - 1
        for a, b in self._marked[max(0, first) :]:
            if a >= end:
                break
            if b <= start:
                continue
            if a > start:
                found.append((start, a))
            start = max(start, b)
        if start < end:
            found.append((start, end))
        return found

    def take(self, until: int, kept: Sequence[slice], file_position: int) -> None:
        """Look at the axis up to a position, of which the file keeps these parts, from there."""
        self._merge()
        for part in kept:
            self._look(self._at + part.start, self._at + part.stop, file_position)
            file_position += part.stop - part.start
        self._marked = [(max(a, until), b) for a, b in self._marked if b > until]
        self._at = until

    def finish(self, file_position: int) -> None:
        """The file ends here."""
        self._close(file_position)

    def _merge(self) -> None:
        """Put what was marked in order, overlaps made one."""
        self._marked.sort()
        merged: list[tuple[int, int]] = []
        for a, b in self._marked:
            if merged and a <= merged[-1][1]:
                if b > merged[-1][1]:
                    merged[-1] = (merged[-1][0], b)
            else:
                merged.append((a, b))
        self._marked = merged

    def _look(self, start: int, end: int, file_position: int) -> None:
        at = start
        for a, b in self._marked:
            if b <= start:
                continue
            if a >= end:
                break
            self._open += max(0, a - at)
            self._close(file_position + max(a, start) - start)
            at = b
        self._open += max(0, end - at)

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
