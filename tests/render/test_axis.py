from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from callreel.calls.model import PauseBehavior
from callreel.render.axis import Axis, Canvas, Cover, Span, join

SKIP, SILENCE = PauseBehavior.SKIP, PauseBehavior.SILENCE


@given(
    st.lists(st.tuples(st.integers(-20, 400), st.integers(0, 60)), max_size=20),
    st.lists(st.integers(1, 150), max_size=4),
)
def test_a_canvas_adds_up_what_is_put_on_it(
    strokes: list[tuple[int, int]], steps: list[int]
) -> None:
    canvas = Canvas(-10, limit=300)
    wanted = np.zeros(600, np.int32)
    outside = 0
    for position, length in strokes:
        index = np.arange(position, position + length)
        fits = (index >= -10) & (index < 290)
        np.add.at(wanted, index[fits] + 10, 1)
        outside += canvas.add(position, np.ones(length, np.int16)) - int((~fits).sum())
    assert outside == 0
    taken = [canvas.take(-10 + until) for until in [*np.cumsum(steps).tolist(), 600]]
    assert (np.concatenate(taken) == wanted).all()


def test_a_canvas_goes_on_after_it_was_taken_from() -> None:
    canvas = Canvas(0, limit=100)
    canvas.add(40, np.full(20, 5, np.int16))
    assert canvas.take(50).sum() == 50
    assert canvas.add(45, np.full(10, 1, np.int16)) == 5
    assert canvas.add(145, np.full(10, 1, np.int16)) == 5
    assert canvas.take(60).tolist() == [6] * 5 + [5] * 5
    assert canvas.take(150).sum() == 5
    assert canvas.end == 150


def gaps(covered: NDArray[np.bool_], cuts: list[int], ignore: int) -> Cover:
    cover = Cover(0, ignore=ignore)
    for at in np.flatnonzero(covered).tolist():
        cover.mark(at, at + 1)
    before = 0
    for cut in [*cuts, len(covered)]:
        cover.take(cut, [slice(0, cut - before)], before)
        before = cut
    cover.finish(len(covered))
    return cover


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1),
    st.lists(st.integers(0, 100), max_size=4),
    st.integers(0, 4),
)
def test_gaps_are_found_wherever_the_axis_is_cut(
    runs: list[tuple[bool, int]], cuts: list[int], ignore: int
) -> None:
    covered = np.repeat([on for on, _ in runs], [n for _, n in runs])
    wanted: list[tuple[int, int]] = []
    for at, on in enumerate(covered.tolist()):
        if not on:
            if wanted and sum(wanted[-1]) == at:
                wanted[-1] = (wanted[-1][0], wanted[-1][1] + 1)
            else:
                wanted.append((at, 1))
    wanted = [gap for gap in wanted if gap[1] > ignore]
    cover = gaps(covered, sorted(min(c, len(covered)) for c in cuts), ignore)
    assert cover.listed == wanted
    assert (cover.count, cover.samples) == (len(wanted), sum(n for _, n in wanted))


def test_skipped_pauses_are_left_out_and_silent_ones_are_not() -> None:
    spans = [Span(0, 10, SKIP), Span(20, 30, SILENCE), Span(40, 50, SKIP), Span(60, 70, SILENCE)]
    axis = Axis(spans)
    assert axis.kept(0, 70) == [slice(0, 10), slice(20, 50), slice(60, 70)]
    assert axis.kept(5, 15) == [slice(0, 5)]
    assert axis.kept(12, 18) == []
    assert axis.kept(15, 65) == [slice(5, 35), slice(45, 50)]
    pieces = [axis.kept(a, a + 1) for a in range(70)]
    assert sum(map(bool, pieces)) == 50


def test_spans_do_not_share_audio() -> None:
    joined = join([Span(-3, 12, SKIP), Span(8, 9, SKIP), Span(11, 20, SILENCE)])
    assert [(span.start, span.end) for span in joined] == [(-3, 12), (12, 12), (12, 20)]
