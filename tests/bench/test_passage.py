"""What a relay loses, delays or mixes up must be found, and only what it is to blame for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from bench.passage import compare
from bench.rtp_load import Heard, Sent

FRAME_NS = 20_000_000
FRAMES = 60
START_NS = 1_800_000_000_000_000_000
DELAY_NS = 3_000_000
UP_NS = START_NS + 50 * FRAME_NS


def call(calls: int = 1) -> Sent:
    """Calls of two streams, each of which hears the other 3 ms later."""
    before = START_NS + np.arange(FRAMES, dtype=np.int64) * FRAME_NS
    before = np.repeat(before[None, :], 2 * calls, axis=0)
    heard = [
        Heard(
            np.full(FRAMES, number ^ 1, np.int64),
            np.arange(FRAMES, dtype=np.int64),
            before[number] + DELAY_NS,
        )
        for number in range(2 * calls)
    ]
    return Sent(before, before + 10_000, np.zeros(before.shape, np.bool_), np.zeros(1), 0.0, heard)


def heard_by(listener: int, change: Callable[[Heard], Heard]) -> Sent:
    """One call, in which what a party heard was changed."""
    sent = call()
    return replace(
        sent, heard=[change(h) if n == listener else h for n, h in enumerate(sent.heard)]
    )


def picked(heard: Heard, which: list[int]) -> Heard:
    return Heard(heard.stream[which], heard.frame[which], heard.arrived_ns[which])


def test_all_that_was_sent_came_and_when() -> None:
    for way in compare([call(2), call()], START_NS):
        assert (way.sent, way.heard, way.wrong) == (3 * FRAMES, 3 * FRAMES, [])
        assert way.delay_ms.shape == (3 * FRAMES,)
        assert (way.delay_ms == 3.0).all()
        assert way.ours == way.senders == {40: 0, 60: 0}
        assert way.longest_heard_ms == 20.0
        assert way.longest_sent_ms == pytest.approx(20.01)


def test_what_does_not_come_is_missing_on_its_way_only() -> None:
    gone = [n for n in range(FRAMES) if n not in (7, 8, 20)]
    there, back = compare([heard_by(1, lambda heard: picked(heard, gone))], UP_NS)
    assert (there.sent, there.heard) == (FRAMES, FRAMES - 3)
    assert there.wrong == ["process 0, stream 1: 3 packets that were sent did not come"]
    assert there.ours == {40: 1, 60: 0}, "60 ms between two packets, and 40, which is no longer"
    assert there.senders == {40: 0, 60: 0}
    assert back.wrong == []
    assert back.heard == FRAMES


def test_again_and_out_of_order() -> None:
    order = [*range(10), 9, 11, 10, *range(12, FRAMES)]
    _, back = compare([heard_by(0, lambda heard: picked(heard, order))], UP_NS)
    assert (back.heard, back.repeated, back.disordered) == (FRAMES, 1, 1)
    assert len(back.wrong) == 2


@pytest.mark.parametrize(("stream", "frame"), [(0, 5), (-1, 5), (1, -1), (1, FRAMES)])
def test_what_is_not_the_other_partys(stream: int, frame: int) -> None:
    def change(heard: Heard) -> Heard:
        streams, frames = heard.stream.copy(), heard.frame.copy()
        streams[5], frames[5] = stream, frame
        return Heard(streams, frames, heard.arrived_ns)

    _, back = compare([heard_by(0, change)], UP_NS)
    assert (back.heard, back.strange) == (FRAMES - 1, 1)
    assert len(back.wrong) == 2


def test_nothing_at_all() -> None:
    there, back = compare([heard_by(1, lambda heard: picked(heard, []))], UP_NS)
    assert (there.sent, there.heard) == (FRAMES, 0)
    assert len(there.wrong) == 1
    assert back.wrong == []


def late(heard: Heard) -> Heard:
    """From frame 10 on each comes 50 ms later."""
    return Heard(heard.stream, heard.frame, heard.arrived_ns + 50_000_000 * (heard.frame >= 10))


def test_a_gap_is_ours_unless_nothing_was_sent_for_so_long() -> None:
    there, _ = compare([heard_by(1, late)], UP_NS)
    assert (there.ours, there.senders) == ({40: 1, 60: 1}, {40: 0, 60: 0})
    assert there.early == {40: 1, 60: 1}
    assert there.longest_heard_ms == 70.0
    assert there.delay_ms.max() == 53.0
    assert there.wrong == [], "late is not wrong"

    sent = heard_by(1, late)
    later_ns = 50_000_000 * (np.arange(FRAMES) >= 10)
    sent = replace(sent, before_ns=sent.before_ns + later_ns, after_ns=sent.after_ns + later_ns)
    there, _ = compare([sent], UP_NS)
    assert (there.ours, there.senders) == ({40: 0, 60: 0}, {40: 1, 60: 1})
    assert there.early == {40: 0, 60: 0}
    assert there.longest_sent_ms == pytest.approx(70.01)


def test_what_came_before_all_calls_were_up_is_told_apart() -> None:
    def change(heard: Heard) -> Heard:
        later_ns = np.zeros(FRAMES, np.int64)
        later_ns[[3, 55]] = 9_000_000, 6_000_000
        return Heard(heard.stream, heard.frame, heard.arrived_ns + later_ns)

    there, back = compare([heard_by(1, change)], UP_NS)
    assert there.delay_ms.max() == 12.0
    assert there.settled_ms == 9.0
    assert there.worst_at_s == pytest.approx(0.1)
    assert back.settled_ms == 3.0


def test_what_the_kernel_did_not_take_is_not_expected() -> None:
    sent = heard_by(1, lambda heard: picked(heard, [n for n in range(FRAMES) if n not in (7, 8)]))
    sent.refused[0, 7:9] = True
    there, _ = compare([sent], UP_NS)
    assert (there.sent, there.heard, there.wrong) == (FRAMES - 2, FRAMES - 2, [])
    assert (there.ours, there.senders) == ({40: 0, 60: 0}, {40: 1, 60: 0})


def test_nothing_is_expected_before_a_stream_begins() -> None:
    sent = heard_by(1, lambda heard: picked(heard, list(range(10, FRAMES))))
    sent.before_ns[0, :10] = 0
    there, _ = compare([sent], UP_NS)
    assert (there.sent, there.heard, there.wrong) == (FRAMES - 10, FRAMES - 10, [])
    assert there.longest_sent_ms == pytest.approx(20.01)
    assert sent.between(0, 0, START_NS * 2) == (FRAMES - 10, FRAMES - 10)
