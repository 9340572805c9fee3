"""The 200-call bench must find what is wrong, or its success means nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from bench.rtp_load import Sent
from bench.verdict import TRACKS, hold

FRAME_NS = 20_000_000
FRAMES = 100
START_NS = 1_800_000_000_000_000_000

Report = dict[str, Any]


def sent(streams: int = 2) -> Sent:
    """A packet every 20 ms from ``START_NS`` on, each taking 10 us."""
    before = START_NS + np.arange(FRAMES, dtype=np.int64) * FRAME_NS
    before = np.repeat(before[None, :], streams, axis=0)
    none = np.zeros(before.shape, np.bool_)
    return Sent(before, before + 10_000, none, np.zeros(1), 0.0)


def report(received: int = 50, first: int = 10) -> Report:
    """Of a recording from just before packet ``first`` that holds 50."""
    packets = {"expected": received, "received": received, "lost": 0, "dropped_by_kernel": 0}
    return {
        "clean": True,
        "problems": [],
        "started_at": instant(START_NS + first * FRAME_NS - 5_000_000),
        "ended_at": instant(START_NS + (first + 50) * FRAME_NS - 5_000_000),
        "streams": [{"track": track, "packets": dict(packets)} for track in TRACKS],
    }


def instant(ns: int) -> str:
    at = datetime.fromtimestamp(ns // 1000 / 1_000_000, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_what_agrees_is_right() -> None:
    found = hold({0: report(), 1: report(first=20)}, [sent(), sent()])
    assert (found.sent, found.received, found.clean, found.furthest) == (200, 200, 2, 0)
    assert found.wrong == []


def test_one_packet_at_either_end_is_no_loss_and_three_are() -> None:
    assert hold({0: report(received=48)}, [sent()]).wrong == []
    assert len(hold({0: report(received=47)}, [sent()]).wrong) == 2
    assert len(hold({0: report(received=53)}, [sent()]).wrong) == 2


def unclean(report: Report) -> None:
    report["clean"], report["problems"] = False, ["Something was not as it should be."]


def lost(report: Report) -> None:
    report["streams"][1]["packets"]["lost"] = 1


def one_stream(report: Report) -> None:
    del report["streams"][0]


def nothing_sent(report: Report) -> None:
    report["started_at"] = report["ended_at"] = instant(START_NS - 1_000_000_000)
    for stream in report["streams"]:
        stream["packets"] |= {"expected": 0, "received": 0}


@pytest.mark.parametrize("harm", [unclean, lost, one_stream, nothing_sent])
def test_what_is_wrong_is_found(harm: Callable[[Report], None]) -> None:
    harmed = copy.deepcopy(report())
    harm(harmed)
    assert hold({0: harmed, 1: report()}, [sent(), sent()]).wrong
