"""Integrity reports held against what was sent: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

EDGE_PACKETS = 1
"""At either end of a recording a packet's stamp may lie before the instant and it after, or the
other way round."""
TRACKS = ("inbound", "outbound")
"""Of the first stream of a call and of the second."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Verdict:
    """Sums over all reports, and what is wrong."""

    sent: int = 0
    """Packets sent between the starts and the stops that the reports name."""
    expected: int = 0
    """By the reports."""
    received: int = 0
    """By the reports."""
    lost: int = 0
    """By the reports."""
    dropped_by_kernel: int = 0
    """By the reports."""
    clean: int = 0
    """Reports that are."""
    furthest: int = 0
    """Packets by which sent and received differ in the stream where they differ most."""
    wrong: list[str] = field(default_factory=list)
    """A sentence each."""


class Sent(Protocol):
    """What a process sent, and when."""

    def between(self, stream: int, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Packets that a stream surely sent within an interval, and those it may have."""


def hold(reports: Mapping[int, Mapping[str, Any]], sent: Sequence[Sent]) -> Verdict:
    """``reports`` by call; call ``n`` was sent by process ``n % len(sent)``, its streams in turn.

    Within ``EDGE_PACKETS`` at either end the two may differ.
    """
    found = Verdict()
    for number, report in sorted(reports.items()):
        found.clean += bool(report["clean"])
        if not report["clean"]:
            found.wrong += [f"call {number}: {sentence}" for sentence in report["problems"]]
        if [stream["track"] for stream in report["streams"]] != list(TRACKS):
            found.wrong.append(f"call {number}: its report is not about one stream a track")
            continue
        place, which = divmod(number, len(sent))
        start_ns, end_ns = _ns(report["started_at"]), _ns(report["ended_at"])
        for which_of_two, stream in enumerate(report["streams"]):
            packets = stream["packets"]
            found.expected += packets["expected"]
            found.received += packets["received"]
            found.lost += packets["lost"]
            found.dropped_by_kernel += packets["dropped_by_kernel"]
            surely, perhaps = sent[which].between(2 * place + which_of_two, start_ns, end_ns)
            found.sent += surely
            off = max(surely - packets["received"], packets["received"] - perhaps, 0)
            found.furthest = max(found.furthest, off)
            if off > 2 * EDGE_PACKETS or not perhaps:
                found.wrong.append(
                    f"call {number}, {stream['track']}: {surely} to {perhaps} packets "
                    f"were sent, {packets['received']} received"
                )
    if found.lost:
        found.wrong.append(f"{found.lost} packets were lost")
    return found


def _ns(text: str) -> int:
    """Of an ISO 8601 instant, to the microsecond."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1) * 1000
