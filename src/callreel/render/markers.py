"""What happened when in a recording, for people who listen: in the file's own time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from callreel.render.axis import Axis
from callreel.render.survey import JournalSurvey, StreamSurvey

MAX_MARKERS = 500
EDGE_MS = 100
"""A shorter gap at the beginning, at the end or beside a pause is no loss: a recording starts and
stops between packets."""
_NEAR_MS = 20


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


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which nothing came that somebody would miss."""

    at_ms: int
    """In the file as it is."""
    length_ms: int
    """How long."""
    track: str
    """Of which track."""


def losses(
    found: JournalSurvey,
    time: FileTime,
    streams: Iterable[Mapping[str, Any]],
    *,
    cut_ms: int,
    whole_ms: int,
) -> tuple[list[Gap], int]:
    """The gaps that are not explained by a hold or by a start between packets; how many more there
    are that are not listed.

    ``streams`` are those of the report; ``cut_ms`` is what trimming took from the start of the
    ``whole_ms`` that there were.
    """
    edges = [0, whole_ms - cut_ms]
    for pause in found.pauses:
        edges += [time.ms(pause.start_ns), time.ms(pause.end_ns)]
    gaps, unlisted = [], 0
    for one in streams:
        holds = [
            (time.ms(begin), time.ms(found.end_ns if end is None else end))
            for begin, end in found.streams[one["stream"]].holds
        ]
        unlisted += one["gaps"]["count"] - len(one["gaps"]["listed"])
        for gap in one["gaps"]["listed"]:
            begin, length_ms = gap["start_ms"], gap["length_ms"]
            at_ms = max(0, begin - cut_ms)
            at_edge = any(
                at_ms - _NEAR_MS <= edge <= at_ms + length_ms + _NEAR_MS for edge in edges
            )
            held_ms = sum(
                max(0, min(at_ms + length_ms, until) - max(at_ms, since)) for since, until in holds
            )
            if not (at_edge and length_ms < EDGE_MS) and length_ms - held_ms >= (
                2 * EDGE_MS if held_ms else 0
            ):
                gaps.append(Gap(at_ms, length_ms, one["track"]))
    return gaps, unlisted


def markers(found: JournalSurvey, time: FileTime, gaps: Iterable[Gap]) -> list[dict[str, Any]]:
    """Pauses, holds, keys, gaps and changes of codec, in order, the first so many.

    Which key it was is not told: it may be part of a secret.
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
    for gap in gaps:
        listed.append({"kind": "gap", **asdict(gap)})
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
