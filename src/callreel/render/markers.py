"""What happened when in a recording, for people who listen: in the file's own time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from callreel.render.axis import Axis
from callreel.render.survey import JournalSurvey, StreamSurvey

MAX_MARKERS = 500
EDGE_MS = 100
"""A shorter gap at the very beginning or end is no loss: a recording starts between packets."""


class FileTime:
    """Where in the file something is that happened at an arrival time."""

    def __init__(self, found: JournalSurvey, *, rate_hz: int, cut: int, frames: int) -> None:
        """``cut`` and ``frames``: samples that trimming took from the start, and of the file."""
        spans = found.spans()
        self._axis = Axis(spans)
        self._start = spans[0].start
        self._rate_hz, self._cut, self._frames = rate_hz, cut, frames

    def ms(self, at_ns: int) -> int:
        """Milliseconds; within the file whatever comes in."""
        at = max(self._start, at_ns * self._rate_hz // 1_000_000_000)
        position = self._axis.length(self._start, at) - self._cut
        return min(max(0, position), self._frames) * 1000 // self._rate_hz


def inner_gaps(stream: Mapping[str, Any], *, whole_ms: int) -> list[Mapping[str, Any]]:
    """The listed gaps of a stream's report, without what is no loss at either end."""
    return [
        gap
        for gap in stream["gaps"]["listed"]
        if gap["length_ms"] >= EDGE_MS
        or (gap["start_ms"] > 0 and gap["start_ms"] + gap["length_ms"] < whole_ms)
    ]


def gap_count(streams: Iterable[Mapping[str, Any]], *, whole_ms: int) -> int:
    """Gaps of all streams, without what is no loss at either end."""
    return sum(
        one["gaps"]["count"] - len(one["gaps"]["listed"]) + len(inner_gaps(one, whole_ms=whole_ms))
        for one in streams
    )


def markers(
    found: JournalSurvey,
    time: FileTime,
    streams: Iterable[Mapping[str, Any]],
    *,
    cut_ms: int,
    whole_ms: int,
) -> list[dict[str, Any]]:
    """Pauses, holds, keys, gaps and changes of codec, in order, the first so many.

    ``streams`` are those of the report; ``cut_ms`` is what trimming took from the start of the
    ``whole_ms`` that there were. Which key it was is not told: it may be part of a secret.
    """
    listed: list[dict[str, Any]] = []
    for pause in found.pauses:
        listed.append(
            {
                "kind": "pause",
                "at_ms": time.ms(pause.start_ns),
                "length_ms": (pause.end_ns - pause.start_ns) // 1_000_000,
                "behavior": pause.behavior.value,
            }
        )
    for number in sorted(found.streams):
        listed += _of_stream(found.streams[number], time, found.end_ns)
    for one in streams:
        for gap in inner_gaps(one, whole_ms=whole_ms):
            at_ms = max(0, gap["start_ms"] - cut_ms)
            listed.append(
                {
                    "kind": "gap",
                    "at_ms": at_ms,
                    "length_ms": gap["length_ms"],
                    "track": one["track"],
                }
            )
    listed.sort(key=lambda one: one["at_ms"])
    return listed[:MAX_MARKERS]


def _of_stream(stream: StreamSurvey, time: FileTime, end_ns: int) -> Iterable[dict[str, Any]]:
    track = stream.track.value
    for begin, end in stream.holds:
        at_ms, until_ms = time.ms(begin), time.ms(end_ns if end is None else end)
        yield {"kind": "hold", "at_ms": at_ms, "length_ms": until_ms - at_ms, "track": track}
    for at_ns in stream.keys:
        yield {"kind": "dtmf", "at_ms": time.ms(at_ns), "track": track}
    for at_ns, codec in stream.spoken[1:]:
        yield {"kind": "codec", "at_ms": time.ms(at_ns), "codec": codec, "track": track}
