"""What was heard, placed by media time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from callreel.phone.heard import AHEAD_SAMPLES, Heard


def frame(value: int) -> NDArray[np.int16]:
    return np.full(160, value, np.int16)


def test_a_gap_is_silence() -> None:
    heard = Heard()
    heard.place(1, 70_000, frame(1), arrival_sample=80)
    heard.place(1, 70_320, frame(3), arrival_sample=400)
    samples = heard.take(800)
    assert samples.tolist() == [0] * 80 + [1] * 160 + [0] * 160 + [3] * 160 + [0] * 240


@given(st.permutations(range(1, 11)), st.lists(st.integers(0, 1760), max_size=5))
def test_order_and_the_moments_of_taking_change_nothing(order: list[int], takes: list[int]) -> None:
    heard = Heard()
    heard.place(1, 0, frame(100), arrival_sample=0)
    for number in order:
        # Late packets do not move what is there.
        heard.place(1, number * 160, frame(100 + number), arrival_sample=number * 160 + 30)
    pieces = [heard.take(until) for until in sorted(takes)]
    whole = np.concatenate([*pieces, heard.take(11 * 160)])
    assert whole.tolist() == [100 + n for n in range(11) for _ in range(160)]


def test_a_new_stretch_begins_where_it_came() -> None:
    heard = Heard()
    heard.place(1, 0, frame(1), arrival_sample=0)
    heard.place(2, 999_000, frame(2), arrival_sample=320)
    assert heard.take(480).tolist() == [1] * 160 + [0] * 160 + [2] * 160


def test_a_stretch_put_too_late_is_moved() -> None:
    heard = Heard()
    heard.place(1, 0, frame(1), arrival_sample=1600)  # held up by 200 ms
    heard.place(1, 160, frame(2), arrival_sample=160)
    assert heard.take(480).tolist() == [0] * 160 + [2] * 160 + [0] * 160


def test_out_of_reach_is_counted() -> None:
    heard = Heard()
    heard.place(1, 0, frame(1), arrival_sample=0)
    heard.take(1600)
    heard.place(1, 1520, frame(2), arrival_sample=1700)  # half of it
    heard.place(1, 160, frame(3), arrival_sample=1700)
    heard.place(1, 2 * AHEAD_SAMPLES, frame(4), arrival_sample=2 * AHEAD_SAMPLES)
    assert heard.unplaced_samples == 80 + 160 + 160
    assert heard.take(1760).tolist() == [2] * 80 + [0] * 80


def test_taking_more_than_waits_takes_it_in_pieces() -> None:
    heard = Heard()
    assert len(heard.take(3 * AHEAD_SAMPLES)) == AHEAD_SAMPLES
    assert len(heard.take(3 * AHEAD_SAMPLES)) == AHEAD_SAMPLES
    assert heard.taken_samples == 2 * AHEAD_SAMPLES
