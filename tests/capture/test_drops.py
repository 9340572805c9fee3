"""Overflow or stranger: what the kernel's one counter is taken to mean."""

from __future__ import annotations

import pytest

from callreel.capture.drops import DropCounter

BUFFER = 416_000
FULL = {"datagrams": 400, "length_bytes": 400 * 172}
FEW = {"datagrams": 25, "length_bytes": 25 * 172}


def test_within_a_drain_they_are_strangers() -> None:
    drops = DropCounter(BUFFER)
    drops.drained(0, 7, **FULL)
    assert (drops.overflowed, drops.refused) == (0, 7)


def test_after_a_drain_that_found_the_queue_full_they_are_overflow() -> None:
    drops = DropCounter(BUFFER)
    drops.drained(0, 0, **FULL)
    drops.drained(90, 92, **FEW)
    assert (drops.overflowed, drops.refused) == (90, 2)


def test_how_full_it_was() -> None:
    drops = DropCounter(BUFFER)
    drops.drained(0, 0, datagrams=100, length_bytes=17_200)
    assert 0.15 < drops.fill < 0.25
    drops.drained(0, 0, **FULL)
    drops.drained(1, 1, **FEW)
    assert drops.fill == 1.0, "something was lost"
    drops.drained(1, 1, **FEW)
    assert drops.fill < 0.1


def test_after_a_drain_that_found_few_they_are_strangers() -> None:
    drops = DropCounter(BUFFER)
    drops.drained(0, 0, **FEW)
    drops.drained(90, 90, **FEW)
    drops.read(95)
    assert (drops.overflowed, drops.refused) == (0, 95)


def test_what_was_refused_while_nothing_was_kept_does_not_count() -> None:
    drops = DropCounter(BUFFER)
    drops.drained(0, 0, **FULL)
    drops.restart(1000)
    drops.drained(1003, 1003, **FEW)
    assert (drops.overflowed, drops.refused) == (0, 3)


def test_the_counter_wraps() -> None:
    drops = DropCounter(BUFFER)
    drops.restart((1 << 32) - 5)
    drops.drained((1 << 32) - 5, 3, **FEW)
    assert drops.refused == 8


@pytest.mark.parametrize(("queued", "lost"), [(300_000, 60), (1_000, 0)])
def test_a_successor_counts_on(queued: int, lost: int) -> None:
    drops = DropCounter(BUFFER)
    drops.take_over(40, queued_bytes=queued)
    drops.drained(40, 40, **(FULL if queued > BUFFER // 2 else FEW))
    drops.read(100)
    assert drops.overflowed == lost
    assert drops.overflowed + drops.refused == 60
    assert drops.total == 100


def test_a_datagram_queued_before_the_counter_was_read_says_nothing_new() -> None:
    drops = DropCounter(BUFFER)
    drops.read(1000)
    drops.drained(990, 1004, **FEW)
    assert (drops.overflowed, drops.refused, drops.total) == (0, 1004, 1004)
    drops.drained(1001, 1003, **FEW)
    assert (drops.refused, drops.total) == (1004, 1004)
