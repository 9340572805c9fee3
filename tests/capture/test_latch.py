"""Which source is taken: the first, until it is silent or signalling says otherwise."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from callreel.capture.latch import SILENCE_NS, Latch

A = b"\2\0\x12\x34\x7f\0\0\1" + bytes(8)
B = b"\2\0\x99\x99\x7f\0\0\1" + bytes(8)
ELSEWHERE = b"\2\0\x12\x34\x0a\0\0\1" + bytes(8)
S = 1_000_000_000


def admit(latch: Latch, *arrivals: tuple[bytes, int]) -> tuple[list[bool], list[int]]:
    sources = np.frombuffer(b"".join(source for source, _ in arrivals), np.uint8).reshape(-1, 16)
    taken, latched = latch.admit(sources, np.array([at for _, at in arrivals], np.int64))
    return taken.tolist(), latched


def test_the_first_is_taken_and_a_second_is_not() -> None:
    latch = Latch()
    assert admit(latch, (A, 0), (B, 1), (A, 2)) == ([True, False, True], [0])
    assert latch.source == A
    assert latch.heard_ns == 2


def test_another_may_follow_after_silence_and_the_first_is_then_a_stranger() -> None:
    latch = Latch()
    admit(latch, (A, 0))
    assert admit(latch, (B, SILENCE_NS - 1)) == ([False], [])
    assert admit(latch, (B, SILENCE_NS), (A, SILENCE_NS + 1)) == ([True, False], [0])


def test_silence_is_found_within_one_drain() -> None:
    latch = Latch()
    arrivals = [(A, 0), (B, S), (A, S), (B, 2 * S), (B, 3 * S), (A, 4 * S), (A, 5 * S)]
    expected = [True, False, True, False, True, False, True]
    assert admit(latch, *arrivals) == (expected, [0, 4, 6])


def test_new_signalling_lets_the_next_one_in() -> None:
    latch = Latch()
    admit(latch, (A, 0))
    latch.forget()
    assert admit(latch, (B, 1), (A, 2)) == ([True, False], [0])


def test_only_the_signalled_address_is_latched() -> None:
    latch = Latch()
    latch.address = b"\x7f\0\0\1"
    assert admit(latch, (ELSEWHERE, 0)) == ([False], [])
    assert admit(latch, (ELSEWHERE, 1), (B, 2)) == ([False, True], [1])
    assert admit(latch, (ELSEWHERE, 9 * S)) == ([False], [])


@given(
    st.lists(st.tuples(st.sampled_from([A, B, ELSEWHERE]), st.integers(0, 3 * S)), max_size=40),
    st.integers(0, 40),
)
def test_how_it_is_cut_into_drains_does_not_matter(
    steps: list[tuple[bytes, int]], cut: int
) -> None:
    arrivals = []
    at = 0
    for source, pause_ns in steps:
        at += pause_ns
        arrivals.append((source, at))
    whole, halves, slow = Latch(), Latch(), Model()
    taken = [] if not arrivals else admit(whole, *arrivals)[0]
    parts = [part for part in (arrivals[:cut], arrivals[cut:]) if part]
    assert [item for part in parts for item in admit(halves, *part)[0]] == taken
    assert [slow.admit(*arrival) for arrival in arrivals] == taken


class Model:
    """The rule, a packet at a time."""

    def __init__(self) -> None:
        self.source: bytes | None = None
        self.heard_ns = 0

    def admit(self, source: bytes, at: int) -> bool:
        if self.source is None or (source != self.source and at - self.heard_ns >= SILENCE_NS):
            self.source = source
        if source != self.source:
            return False
        self.heard_ns = at
        return True
