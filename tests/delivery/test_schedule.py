"""When the next try is due."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from callreel.calls.model import DeliveryState
from callreel.delivery.model import Outcome, Result
from callreel.delivery.schedule import (
    GIVE_UP_AFTER_S,
    PAUSES_S,
    Decision,
    decide,
    is_held,
    parse_retry_after,
)

T0 = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def answered(status: int, retry_after_s: float | None = None) -> Outcome:
    return Outcome(T0, Result.ANSWERED, 5, status, retry_after_s)


def after(attempt: int, outcome: Outcome, **more: bool) -> float:
    """Seconds to the next try."""
    decision = decide(attempt, outcome, created_at=T0, now=T0, jitter=0.5, **more)
    assert decision.state is DeliveryState.PENDING
    assert decision.next_due is not None
    return (decision.next_due - T0).total_seconds()


def run(outcome: Outcome, *, lasting_s: float, jitter: float) -> list[float]:
    """When each try begins, in seconds, until it is given up."""
    now, starts = T0, []
    for attempt in range(1, 1000):
        starts.append((now - T0).total_seconds())
        now += timedelta(seconds=lasting_s)
        decision = decide(attempt, outcome, created_at=T0, now=now, jitter=jitter)
        if decision.next_due is None:
            assert decision.state is DeliveryState.FAILED
            return starts
        now = decision.next_due
    raise AssertionError("never given up")


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(T0, Result.CONNECTION, 5),
        Outcome(T0, Result.TIMEOUT, 15_000),
        answered(408),
        answered(429),
        answered(500),
        answered(503),
        answered(599),
    ],
)
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_passing_trouble_is_tried_three_times_within_a_minute(
    outcome: Outcome, jitter: float
) -> None:
    starts = run(outcome, lasting_s=15, jitter=jitter)
    assert len([start for start in starts if start < 60]) == 3


@pytest.mark.parametrize(
    "outcome", [answered(400), answered(404), answered(301), Outcome(T0, Result.DENIED, 0)]
)
def test_refusals_pause_long_at_once(outcome: Outcome) -> None:
    assert [after(attempt, outcome) for attempt in range(1, 12)] == [
        *PAUSES_S,
        PAUSES_S[-1],
        PAUSES_S[-1],
    ]


@pytest.mark.parametrize("outcome", [answered(500), answered(404)])
@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_pauses_grow_over_three_days_and_end(outcome: Outcome, jitter: float) -> None:
    starts = run(outcome, lasting_s=0, jitter=jitter)
    assert starts[-1] == GIVE_UP_AFTER_S
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses[:-1] == sorted(pauses[:-1])
    assert 12 <= len(starts) <= 20


def test_delivered_gone_and_impossible_end_it() -> None:
    def decided(outcome: Outcome) -> Decision:
        return decide(1, outcome, created_at=T0, now=T0, jitter=0)

    assert decided(Outcome(T0, Result.DELIVERED, 1, 204)) == Decision(DeliveryState.DELIVERED, None)
    assert decided(answered(410, 5)) == Decision(DeliveryState.FAILED, None)
    assert decided(Outcome(T0, Result.INVALID, 0)) == Decision(DeliveryState.FAILED, None)


def test_after_days_without_power_there_are_still_three_tries() -> None:
    late = T0 + timedelta(days=9)
    for attempt in (1, 2):
        decision = decide(attempt, answered(500), created_at=T0, now=late, jitter=0.5)
        assert decision.next_due is not None
        assert late < decision.next_due < late + timedelta(minutes=1)
    assert decide(3, answered(500), created_at=T0, now=late, jitter=0.5).next_due is None


def test_retry_after_is_honoured_within_bounds() -> None:
    assert after(1, answered(503, 300)) == 300
    assert after(1, answered(503, 1)) == 5  # patience may be asked for, haste not
    assert after(1, answered(503, 1e9)) == 43_200
    assert after(1, answered(404, 1000)) == 1000
    # Another event waits for this one: it must not wait half a day.
    assert after(1, answered(503, 1e9), awaited=True) == 60
    assert after(3, answered(503, 1e9), awaited=True) == 43_200


def test_a_terminal_event_waits_for_at_most_three_tries() -> None:
    assert [is_held(DeliveryState.PENDING, tries) for tries in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert not is_held(DeliveryState.DELIVERED, 1)
    assert not is_held(DeliveryState.FAILED, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Wed, 04 Mar 2026 05:07:07 GMT", 60.0),
        ("Wed, 04 Mar 2026 05:07:07 -0000", 60.0),
        ("Wed, 04 Mar 2020 05:07:07 GMT", 0.0),
        ("99999999999999999999", 999_999_999.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Wed, 99 Mar 2026 05:07:07 GMT", None),
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, T0) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_can_hurt(text: str) -> None:
    seconds = parse_retry_after(text, T0)
    assert seconds is None or seconds >= 0


@given(
    st.integers(1, 60),
    st.sampled_from(Result),
    st.none() | st.integers(300, 599),
    st.none() | st.floats(0, 1e12),
    st.integers(0, 10**6),
    st.floats(0, 1),
)
def test_the_next_try_is_always_ahead(
    attempt: int,
    result: Result,
    status: int | None,
    retry_after_s: float | None,
    age_s: int,
    jitter: float,
) -> None:
    now = T0 + timedelta(seconds=age_s)
    outcome = Outcome(now, result, 1, status, retry_after_s)
    decision = decide(attempt, outcome, created_at=T0, now=now, jitter=jitter)
    assert (decision.next_due is None) == (decision.state is not DeliveryState.PENDING)
    if decision.next_due is not None:
        assert now < decision.next_due <= now + timedelta(hours=14)
