"""How often a source may fail, with a hand-moved clock."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.service.throttle import FailureThrottle, counted_as

THERE = "192.0.2.7"


def a_throttle(burst: int = 3, **more: int) -> FailureThrottle:
    return FailureThrottle(burst=burst, salt=b"s" * 32, refill_s=3.0, **more)


def test_a_burst_then_one_every_refill() -> None:
    throttle = a_throttle()
    for number in range(3):
        assert throttle.refused_for_s(THERE, "u", f"p{number}", now=100.0) is None
        throttle.failed(THERE, "u", f"p{number}", now=100.0)
    assert throttle.refused_for_s(THERE, "u", "p", now=100.0) == pytest.approx(3.0)
    assert throttle.refused_for_s(THERE, "u", "p", now=102.0) == pytest.approx(1.0)
    assert throttle.refused_for_s(THERE, "u", "p", now=103.0) is None
    throttle.failed(THERE, "u", "p", now=103.0)
    assert throttle.refused_for_s(THERE, "u", "p", now=103.0) == pytest.approx(3.0)
    assert throttle.refused_for_s("192.0.2.8", "u", "p", now=103.0) is None


def test_what_is_refused_does_not_cost_more() -> None:
    throttle = a_throttle(burst=1)
    throttle.failed(THERE, "u", "p", now=0.0)
    for tenth in range(29):
        assert throttle.refused_for_s(THERE, "u", "p", now=tenth / 10) is not None
    assert throttle.refused_for_s(THERE, "u", "p", now=3.0) is None


def test_it_grows_back_to_the_burst_and_no_further() -> None:
    throttle = a_throttle(burst=2)
    throttle.failed(THERE, "u", "p", now=0.0)
    assert throttle.refused_for_s(THERE, "u", "p", now=1_000_000.0) is None
    throttle.failed(THERE, "u", "p", now=1_000_000.0)
    throttle.failed(THERE, "u", "p", now=1_000_000.0)
    assert throttle.refused_for_s(THERE, "u", "p", now=1_000_000.0) == pytest.approx(3.0)


def test_nobody_locks_out_a_program_behind_the_same_address() -> None:
    throttle = a_throttle()
    throttle.succeeded(THERE, "program", "token")
    for _ in range(10):
        throttle.failed(THERE, "stranger", "guess", now=0.0)
    assert throttle.refused_for_s(THERE, "stranger", "guess", now=0.0) is not None
    assert throttle.refused_for_s(THERE, "program", "token", now=0.0) is None
    # Neither another password of that program, nor the same from elsewhere.
    assert throttle.refused_for_s(THERE, "program", "guess", now=0.0) is not None
    for _ in range(10):
        throttle.failed("192.0.2.8", "stranger", "guess", now=0.0)
    assert throttle.refused_for_s("192.0.2.8", "program", "token", now=0.0) is not None


def test_what_was_good_and_is_dead_waits_like_the_rest() -> None:
    throttle = a_throttle(burst=1)
    throttle.succeeded(THERE, "program", "token")
    throttle.failed(THERE, "stranger", "guess", now=0.0)
    assert throttle.refused_for_s(THERE, "program", "token", now=0.0) is None
    throttle.failed(THERE, "program", "token", now=0.0)  # it was rotated meanwhile
    assert throttle.refused_for_s(THERE, "program", "token", now=0.0) is not None


def test_user_and_password_are_not_run_together() -> None:
    throttle = a_throttle(burst=1)
    throttle.succeeded(THERE, "ab", "c")
    throttle.failed(THERE, "x", "y", now=0.0)
    assert throttle.refused_for_s(THERE, "a", "bc", now=0.0) is not None
    assert throttle.refused_for_s(THERE, "ab", "c", now=0.0) is None


def test_somebody_is_told_once_a_siege() -> None:
    throttle = a_throttle(burst=2)
    told = [throttle.failed(THERE, "u", "p", now=now) for now in (0.0, 0.0, 3.0, 6.0)]
    assert told == [False, True, False, False]
    assert throttle.refused_for_s(THERE, "u", "p", now=100.0) is None
    assert [throttle.failed(THERE, "u", "p", now=100.0) for _ in range(2)] == [False, True]


def test_memory_is_bounded_and_the_oldest_make_room() -> None:
    throttle = a_throttle(burst=1, most_sources=100, most_known=100)
    for number in range(1000):
        throttle.failed(f"10.0.{number // 256}.{number % 256}", "u", "p", now=0.0)
        throttle.succeeded("10.1.1.1", f"u{number}", "p")
    assert len(throttle) == 100
    assert len(throttle._known) == 100
    assert throttle.refused_for_s("10.0.0.0", "u", "p", now=0.0) is None
    assert throttle.refused_for_s("10.0.3.231", "u", "p", now=0.0) is not None
    throttle.failed("10.1.1.1", "u", "p", now=0.0)
    assert throttle.refused_for_s("10.1.1.1", "u0", "p", now=0.0) is not None
    assert throttle.refused_for_s("10.1.1.1", "u999", "p", now=0.0) is None


def test_secrets_are_not_kept() -> None:
    throttle = a_throttle()
    throttle.succeeded(THERE, "user-in-clear", "token-in-clear")
    throttle.failed(THERE, "user-in-clear", "guess-in-clear", now=0.0)
    assert "in-clear" not in repr(throttle.__dict__)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "unknown", False),
    ],
)
def test_which_addresses_are_one_source(one: str, other: str, same: bool) -> None:
    assert (counted_as(one) == counted_as(other)) is same


@given(st.text(max_size=200))
def test_any_source_can_be_counted(source: str) -> None:
    assert len(counted_as(source)) <= 64


@given(
    st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=80),
    st.integers(1, 5),
)
def test_no_pace_beats_the_limit(steps: list[tuple[float, bool]], burst: int) -> None:
    """Within any run, no more failures are looked at than the burst and what grew back."""
    throttle = a_throttle(burst=burst)
    now, looked_at = 0.0, 0
    for pause_s, good_before in steps:
        now += pause_s
        if good_before:
            throttle.succeeded(THERE, "program", "token")
        if throttle.refused_for_s(THERE, "u", "guess", now=now) is None:
            throttle.failed(THERE, "u", "guess", now=now)
            looked_at += 1
    assert looked_at <= burst + now / 3.0 + 1e-6
