"""How often sockets are emptied, with a link that fills them on paper."""

from __future__ import annotations

from hypothesis import given, strategies as st

from callreel.capture.period import SHORTEST_NS, SweepPeriod

BOUND_NS = 500_000_000
LARGE = 416_000
SMALL = 8 * 832


def fill_after(period_ns: int, packets_a_second: int, buffer_bytes: int) -> float:
    return min(1.0, period_ns / 1e9 * packets_a_second * 832 / buffer_bytes)


def settled(packets_a_second: int, buffer_bytes: int, period: SweepPeriod) -> list[float]:
    """How full the buffer was at each of a hundred sweeps."""
    fills = []
    for _ in range(100):
        fills.append(fill_after(period.ns, packets_a_second, buffer_bytes))
        period.swept(fills[-1])
    return fills


def test_usual_streams_are_swept_at_the_bound() -> None:
    period = SweepPeriod(BOUND_NS)
    settled(50, LARGE, period)
    assert period.ns == BOUND_NS


def test_small_buffers_are_swept_before_they_are_full() -> None:
    period = SweepPeriod(BOUND_NS)
    fills = settled(50, SMALL, period)
    assert fills[0] == 1.0
    assert max(fills[5:]) < 0.6, "it settles where nothing is lost"
    assert period.ns < 200_000_000


def test_once_it_is_quiet_it_goes_back_to_the_bound() -> None:
    period = SweepPeriod(BOUND_NS)
    settled(50, SMALL, period)
    settled(0, SMALL, period)
    assert period.ns == BOUND_NS


def test_what_is_lost_makes_it_sooner_at_once() -> None:
    period = SweepPeriod(BOUND_NS)
    period.swept(1.0)
    assert period.ns == BOUND_NS // 2


@given(st.lists(st.floats(0, 1)), st.integers(20_000_000, 5_000_000_000))
def test_it_never_leaves_its_bounds(fills: list[float], bound_ns: int) -> None:
    period = SweepPeriod(bound_ns)
    for fill in fills:
        period.swept(fill)
        assert SHORTEST_NS <= period.ns <= bound_ns
