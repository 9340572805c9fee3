"""What a receiver counts: numbers by hand, and packets in any order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from callreel.phone.reception import JUMP_MS, LATE_MS, Placed, Reception
from callreel.wire.rtp import RtpPacket


def packet(number: int, *, ssrc: int = 7, sequence: int = 0, timestamp: int = 0) -> RtpPacket:
    return RtpPacket(
        payload_type=0,
        sequence=(sequence + number) & 0xFFFF,
        timestamp=(timestamp + number * 160) & 0xFFFFFFFF,
        ssrc=ssrc,
    )


def feed(reception: Reception, numbers: list[int], **first: int) -> list[Placed | None]:
    return [
        reception.receive(packet(n, **first), arrival=100 + n * 0.02, ticks=160) for n in numbers
    ]


def test_a_clean_stream() -> None:
    reception = Reception()
    placed = feed(reception, list(range(100)), sequence=65_500, timestamp=(1 << 32) - 4_000)
    assert (reception.expected, reception.received, reception.lost) == (100, 100, 0)
    assert (reception.duplicated, reception.reordered, reception.late) == (0, 0, 0)
    assert reception.jitter_ms == pytest.approx(0, abs=1e-6)
    media = [one.media for one in placed if one is not None]
    assert [b - a for a, b in pairwise(media)] == [160] * 99
    assert {one.stretch for one in placed if one is not None} == {1}


def test_lost_twice_and_out_of_order() -> None:
    reception = Reception()
    placed = feed(reception, [0, 1, 3, 2, 2, 5, 6, 0])
    assert reception.expected == 7
    assert reception.lost == 1
    assert reception.duplicated == 2
    assert reception.reordered == 1
    assert placed[4] is None
    assert placed[7] is None


def test_nothing_came() -> None:
    reception = Reception()
    assert (reception.expected, reception.lost, reception.report()) == (0, 0, None)


def test_jitter_is_that_of_the_rfc() -> None:
    reception = Reception()
    reception.receive(packet(0), arrival=0.0, ticks=160)
    reception.receive(packet(1), arrival=0.02 + 0.016, ticks=160)
    assert reception.jitter_ms == pytest.approx(1.0)  # 16 ms / 16
    reception.receive(packet(2), arrival=0.04 + 0.016, ticks=160)
    assert reception.jitter_ms == pytest.approx(15 / 16)
    assert reception.most_jitter_ms == pytest.approx(1.0)


def test_late_is_behind_the_earliest_arrival_line() -> None:
    reception = Reception()
    for number, delay_ms in enumerate((30, 0, LATE_MS - 1, LATE_MS + 1, 0)):
        arrival = number * 0.02 + delay_ms / 1000
        reception.receive(packet(number), arrival=arrival, ticks=160)
    assert reception.late == 1


def test_a_slow_clock_makes_nothing_late() -> None:
    reception = Reception()
    for number in range(50_000):  # 1,000 s at 200 ppm: 200 ms behind
        reception.receive(packet(number), arrival=number * 0.02 * 1.0002, ticks=160)
    assert reception.late == 0


def test_a_leap_of_media_time_begins_a_stretch() -> None:
    reception = Reception()
    first = reception.receive(packet(0), arrival=0.0, ticks=160)
    leap = JUMP_MS * 8 + 161
    second = reception.receive(packet(1, timestamp=leap), arrival=0.02, ticks=160)
    assert first is not None
    assert second is not None
    assert (first.stretch, second.stretch) == (1, 2)


def test_silence_suppression_and_losses_begin_none() -> None:
    reception = Reception()
    reception.receive(packet(0), arrival=0.0, ticks=160)
    silent = reception.receive(packet(1, timestamp=80_000), arrival=10.02, ticks=160)
    held_up = reception.receive(packet(101, timestamp=80_000), arrival=10.04, ticks=160)
    assert silent == Placed(1, 80_160)
    assert held_up == Placed(1, 80_000 + 101 * 160)
    assert reception.lost == 99


def test_another_source_is_no_loss() -> None:
    reception = Reception()
    feed(reception, [0, 1, 2], sequence=100)
    feed(reception, [0, 1, 3], ssrc=8, sequence=40_000)
    assert (reception.sources, reception.ssrc) == (2, 8)
    assert (reception.expected, reception.lost) == (7, 1)


def test_a_source_that_starts_over_is_no_loss() -> None:
    reception = Reception()
    feed(reception, [0, 1, 2], sequence=30_000)
    feed(reception, [0, 1, 2], sequence=100)
    assert (reception.expected, reception.lost, reception.duplicated) == (6, 0, 0)


def test_events_are_counted_but_not_timed() -> None:
    reception = Reception()
    for number in range(10):
        event = RtpPacket(101, number, 5000, 7)
        assert reception.receive(event, arrival=number * 0.02, ticks=0, is_audio=False)
    assert (reception.received, reception.lost, reception.jitter_ms) == (10, 0, 0)


def test_reports() -> None:
    reception = Reception()
    feed(reception, [0, 1, 2, 3], sequence=65_534)
    first = reception.report()
    assert first is not None
    assert (first.fraction_lost, first.lost) == (0, 0)
    assert first.highest_sequence & 0xFFFF == 1
    assert first.highest_sequence >> 16 == 2
    feed(reception, [4, 7], sequence=65_534)
    second = reception.report()
    assert second is not None
    assert (second.fraction_lost, second.lost) == (128, 2)
    third = reception.report()
    assert third is not None
    assert (third.fraction_lost, third.lost) == (0, 2)


@given(st.permutations(range(40)), st.integers(0, 65_535), st.integers(0, (1 << 32) - 1))
def test_any_order_ends_in_the_same_counts(order: list[int], sequence: int, timestamp: int) -> None:
    reception = Reception()
    placed = feed(reception, order, sequence=sequence, timestamp=timestamp)
    assert all(placed)
    assert (reception.expected, reception.lost, reception.duplicated) == (40, 0, 0)
    again = feed(reception, order, sequence=sequence, timestamp=timestamp)
    assert not any(again)
    assert (reception.lost, reception.duplicated) == (0, 40)


@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, (1 << 32) - 1),
                          st.integers(0, 2), st.floats(0, 100)), max_size=60))  # fmt: skip
def test_nonsense_is_counted_and_nothing_else(packets: list[tuple[int, int, int, float]]) -> None:
    reception = Reception()
    for sequence, timestamp, ssrc, arrival in packets:
        reception.receive(RtpPacket(0, sequence, timestamp, ssrc), arrival=arrival, ticks=160)
        reception.report()
    assert reception.received == len(packets)
    assert 0 <= reception.lost <= reception.expected
