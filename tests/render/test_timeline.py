from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from callreel.render.timeline import Batch, Placed, Placer, Survey
from callreel.testing.link import NS, Flow, Link, Sender, join
from callreel.wire.rtp import parse_slab

RATE = 8000
MS = RATE // 1000


def batches(flow: Flow, size: int = 400) -> Iterator[Batch]:
    table = parse_slab(flow.lengths, flow.data)
    for start in range(0, len(flow), size):
        part = slice(start, start + size)
        yield Batch(
            span=0,
            arrival_ns=flow.arrival_ns[part],
            sequence=table.sequence[part],
            timestamp=table.timestamp[part],
            ssrc=table.ssrc[part],
            ticks=table.payload_bytes[part],
            clock_hz=np.full(len(table.ssrc[part]), RATE, np.int32),
        )


def surveyed(flow: Flow, size: int = 400) -> Survey:
    survey = Survey()
    for batch in batches(flow, size):
        survey.feed(batch)
    return survey


def loud(stretch: int, index: NDArray[np.int64], part: slice) -> NDArray[np.bool_]:
    return np.zeros(len(index[part]), np.bool_)


def place(flow: Flow, size: int = 400) -> tuple[Survey, Placer, NDArray[np.int64]]:
    """Where each packet begins, by row of the flow; -1 billion for those left out."""
    survey = surveyed(flow, size)
    placer = Placer(survey.lines())
    position = np.full(len(flow), -(10**9), np.int64)
    for number, batch in enumerate(batches(flow, size)):
        for placed in placer.place(batch, loud):
            assert isinstance(placed, Placed)
            position[number * size + placed.index] = placed.position
    return survey, placer, position


def sent(seconds: float, sender: Sender | None = None, *, start_ns: int = 0) -> Flow:
    return (sender or Sender()).send(np.zeros(round(seconds * RATE), np.int16), start_ns=start_ns)


def test_packets_of_a_perfect_link_begin_at_their_arrival() -> None:
    flow = sent(10, start_ns=NS)
    survey, placer, position = place(flow)
    assert (position == RATE + np.arange(len(flow)) * 160).all()
    assert survey.sequencer.expected() == survey.sequencer.counts.received == 500
    assert survey.sequencer.lost() == placer.reanchored == placer.late == 0


@pytest.mark.parametrize("size", [1, 7, 400])
def test_sequence_and_timestamp_wrap_around(size: int) -> None:
    flow = sent(10, Sender(sequence=65500, timestamp=2**32 - 4000))
    survey, _, position = place(flow, size)
    assert (position == np.arange(len(flow)) * 160).all()
    assert survey.sequencer.lost() == 0
    assert survey.sequencer.counts.jumps == 0


@pytest.mark.parametrize("size", [3, 400])
def test_jitter_and_overtaking_move_nothing(size: int) -> None:
    flow = Link(jitter_ms=100, delay_ms=30).carry(sent(60))
    survey, placer, position = place(flow, size)
    media = parse_slab(flow.lengths, flow.data).timestamp.astype(np.int64)
    off = position - media - 30 * MS
    assert len(np.unique(off)) <= 4
    assert np.abs(off).max() <= 5 * MS
    assert survey.sequencer.counts.reordered > 500
    assert survey.sequencer.lost() == 0
    assert placer.late == 0


def test_loss_and_duplicates_are_counted_and_move_nothing() -> None:
    whole = sent(60)
    flow = Link(loss=0.1, duplicate=0.05, jitter_ms=1).carry(whole)
    survey, _, position = place(flow, 50)
    counts = survey.sequencer.counts
    left_out = position == -(10**9)
    media = parse_slab(flow.lengths, flow.data).timestamp.astype(np.int64)
    assert len(np.unique(media)) == len(flow) - counts.duplicated
    assert counts.duplicated == left_out.sum() > 50
    # The very last to be lost are missed by nobody.
    expected = (int(media.max()) - int(media.min())) // 160 + 1
    assert survey.sequencer.lost() == expected - len(np.unique(media)) > 200
    assert np.abs(position - media)[~left_out].max() <= 1 * MS


def test_what_is_lost_at_the_wrap_is_counted() -> None:
    flow = sent(4, Sender(sequence=65436))
    kept = np.delete(np.arange(len(flow)), np.arange(95, 105))
    assert surveyed(flow.pick(kept)).sequencer.lost() == 10


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_a_drifting_clock_is_followed(ppm: float) -> None:
    flow = Link(jitter_ms=40).carry(sent(1800, Sender(ppm=ppm)))
    survey, placer, position = place(flow)
    media = parse_slab(flow.lengths, flow.data).timestamp.astype(np.int64)
    true = media / (1 + ppm / 1e6)
    assert np.abs(position - true).max() <= 9 * MS
    assert placer.reanchored > 40
    drift = survey.drift_ppm(survey.lines())
    assert drift == pytest.approx(ppm, abs=5)


def test_a_new_ssrc_is_placed_by_its_own_arrival() -> None:
    first = sent(5)
    second = sent(5, Sender(ssrc=9, sequence=4000, timestamp=123456789), start_ns=5 * NS)
    survey, _, position = place(join(first, second))
    assert (position == np.arange(500) * 160).all()
    assert survey.sequencer.counts.ssrc_changes == 1
    assert survey.sequencer.lost() == 0
    assert survey.sequencer.counts.ssrcs == [0x1234, 9]


def test_two_sources_at_once_do_not_disturb_each_other() -> None:
    one = sent(5)
    two = sent(5, Sender(ssrc=9, sequence=4000, timestamp=99), start_ns=7_000_000)
    flow = join(one, two)
    survey, _, position = place(flow, 37)
    own = parse_slab(flow.lengths, flow.data).ssrc == 9
    assert (position[~own] == np.arange(250) * 160).all()
    assert (position[own] == 7 * MS + np.arange(250) * 160).all()
    assert survey.sequencer.lost() == survey.sequencer.counts.jumps == 0


@pytest.mark.parametrize("leap", [10**9, -(10**9), 8 * 5000, 2**31])
def test_a_timestamp_jump_is_no_jump_in_the_recording(leap: int) -> None:
    first = sent(5)
    sender = Sender().after(250)
    second = sent(5, replace(sender, timestamp=(sender.timestamp + leap) % 2**32), start_ns=5 * NS)
    survey, _, position = place(join(first, second))
    assert (position == np.arange(500) * 160).all()
    assert survey.sequencer.counts.jumps == 1


def test_silence_suppression_leaves_a_gap_of_the_right_length() -> None:
    first = sent(5)
    second = sent(5, Sender().after(250, ticks=15 * RATE), start_ns=15 * NS + 30_000_000)
    third = sent(5, Sender().after(500, ticks=40 * RATE), start_ns=40 * NS)
    survey, _, position = place(join(first, second, third))
    # The second talkspurt was 30 ms late on the network; the third was not.
    assert position[250] in range(15 * RATE, 15 * RATE + 31 * MS)
    assert position[500] == 40 * RATE
    assert survey.sequencer.counts.jumps == 0


@pytest.mark.parametrize("held_ms", [100, 400, 30_000])
def test_a_sender_that_stops_its_clock_is_placed_by_arrival(held_ms: int) -> None:
    first = sent(20)
    second = sent(20, Sender().after(1000), start_ns=20 * NS + held_ms * 1_000_000)
    _, _, position = place(join(first, second), 130)
    assert (position[:1000] == np.arange(1000) * 160).all()
    assert (position[1000:] == (1000 + np.arange(1000)) * 160 + held_ms * MS).all()


@pytest.mark.parametrize("stall_s", [0.3, 1, 6])
def test_a_stalled_network_tears_nothing_apart(stall_s: float) -> None:
    flow = sent(40)
    back = round((20 + stall_s) * NS)
    stalled = (flow.arrival_ns > 20 * NS) & (flow.arrival_ns < back)
    flow = replace(flow, arrival_ns=np.where(stalled, back, flow.arrival_ns))
    survey, placer, position = place(flow, 130)
    assert np.abs(position - np.arange(2000) * 160).max() <= 2 * MS
    assert survey.sequencer.lost() == 0
    assert placer.late == pytest.approx(max(0, (stall_s - 0.5) * 50), abs=2)


def test_a_straggler_still_finds_its_place() -> None:
    flow = sent(20)
    order = [*range(100), *range(101, 200), 100, *range(200, 1000)]
    arrival = flow.arrival_ns.copy()
    arrival[100] = arrival[199] + 1
    flow = replace(flow, arrival_ns=arrival).pick(np.array(order))
    survey, placer, position = place(flow, 130)
    assert position[199] == 100 * 160
    assert (position == np.array(order) * 160).all()
    assert (survey.sequencer.counts.reordered, placer.late) == (1, 1)


def test_a_sender_that_starts_its_numbers_over_has_lost_nothing() -> None:
    first = sent(5, Sender(sequence=30000))
    second = sent(5, Sender(sequence=5, timestamp=777), start_ns=5 * NS)
    survey, _, position = place(join(first, second))
    assert survey.sequencer.lost() == 0
    assert (position == np.arange(500) * 160).all()


def test_packet_lengths_may_change() -> None:
    flows, sender, at = [], Sender(), 0
    for packet_ms in (20, 10, 60, 30, 20):
        sender = replace(sender, packet_ms=packet_ms)
        flows.append(sent(6, sender, start_ns=at))
        sender = sender.after(6000 // packet_ms)
        at += 6 * NS
    flow = join(*flows)
    survey, placer, position = place(flow, 130)
    assert (position == flow.arrival_ns * MS // 1_000_000).all()
    assert survey.sequencer.lost() == survey.sequencer.counts.jumps == placer.reanchored == 0


def test_silence_is_where_the_clock_is_set_right() -> None:
    flow = sent(300, Sender(ppm=100))
    survey = surveyed(flow)

    def errors(quiet_from: int) -> tuple[int, int]:
        placer = Placer(survey.lines())
        worst = 0
        for number, batch in enumerate(batches(flow)):
            hush = number >= quiet_from

            def quiet(
                stretch: int, index: NDArray[np.int64], part: slice, hush: bool = hush
            ) -> NDArray[np.bool_]:
                return np.full(len(index[part]), hush)

            for placed in placer.place(batch, quiet):
                true = batch.arrival_ns[placed.index] * RATE // NS
                worst = max(worst, int(np.abs(placed.position - true).max()))
        return worst, placer.reanchored

    assert errors(quiet_from=0)[0] <= 3 * MS
    assert 5 * MS <= errors(quiet_from=10**6)[0] <= 7 * MS


def test_going_back_cuts_what_would_fall_on_what_is_there() -> None:
    flow = sent(300, Sender(ppm=200))
    survey = surveyed(flow)
    placer = Placer(survey.lines())
    end = -1 * MS
    for batch in batches(flow):
        for placed in placer.place(batch, loud):
            for position, cut in zip(placed.position.tolist(), placed.cut.tolist(), strict=True):
                assert position + cut >= end
                end = position + 160
    assert placer.reanchored > 5
    assert end == pytest.approx(300 * RATE / 1.0002, abs=8 * MS)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 10**10),
            st.integers(0, 65535),
            st.integers(0, 2**32 - 1) | st.sampled_from([0, 160, 320, 2**32 - 160]),
            st.integers(0, 3) | st.integers(0, 2**32 - 1),
            st.sampled_from([0, 80, 160]),
        ),
        min_size=1,
        max_size=60,
    ),
    size=st.integers(1, 20),
)
def test_of_garbage_every_packet_is_placed_once(
    rows: list[tuple[int, int, int, int, int]], size: int
) -> None:
    arrival, sequence, timestamp, ssrc, ticks = (np.array(c) for c in zip(*rows, strict=True))
    arrival = np.sort(arrival)

    def parts() -> Iterator[Batch]:
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            yield Batch(
                0,
                arrival[part],
                sequence[part].astype(np.uint16),
                timestamp[part].astype(np.uint32),
                ssrc[part].astype(np.uint32),
                ticks[part],
                np.full(len(ticks[part]), RATE, np.int32),
            )

    survey = Survey()
    for batch in parts():
        survey.feed(batch)
    assert survey.sequencer.counts.received == len(rows)
    assert survey.sequencer.lost() >= 0
    placer = Placer(survey.lines())
    seen = 0
    for batch in parts():
        for placed in placer.place(batch, loud):
            seen += len(placed.index)
            assert (placed.cut >= 0).all()
            assert (placed.cut <= batch.ticks[placed.index]).all()
    audio = int((ticks > 0).sum())
    assert audio - survey.sequencer.counts.duplicated <= seen <= audio


def spaces(flow: Flow, size: int) -> list[tuple[int, int]]:
    """What of the axis each packet fills, ticks."""
    placer = Placer(surveyed(flow, size).lines())
    return [
        (start, end)
        for batch in batches(flow, size)
        for placed in placer.place(batch, loud)
        for start, end in zip(
            (placed.position + placed.cut).tolist(),
            (placed.position + batch.ticks[placed.index]).tolist(),
            strict=True,
        )
        if start < end
    ]


@pytest.mark.parametrize("size", [25, 400, 10_000])
@pytest.mark.parametrize("ppm", [-300.0, 300.0])
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_packets_of_a_sender_are_never_laid_upon_each_other(
    size: int, ppm: float, loss: float
) -> None:
    # The line is left behind just where one packet overtakes another, and batches end there.
    flow = Link(seed=3, jitter_ms=30, loss=loss).carry(sent(120, Sender(ppm=ppm)))
    filled = sorted(spaces(flow, size))
    assert len(filled) > 5000
    assert [pair for pair in pairwise(filled) if pair[1][0] < pair[0][1]] == []


def test_what_fills_a_hole_behind_which_the_line_was_left_fits_in() -> None:
    flow = Sender(ppm=300).send(np.zeros(60 * RATE, np.int16))
    # The first to move is behind a hole; what belongs there comes in the next batch.
    late = np.arange(499, 2999, 500)
    arrival = flow.arrival_ns.copy()
    arrival[late] += 30_000_000
    order = np.argsort(arrival, kind="stable")
    flow = replace(flow, arrival_ns=arrival).pick(order)
    filled = sorted(spaces(flow, 500))
    assert len(filled) == 3000
    assert [pair for pair in pairwise(filled) if pair[1][0] < pair[0][1]] == []
