"""The ports that media comes to, and when one is used again."""

from __future__ import annotations

import pytest

from callreel.capture.sockets import PortRange


@pytest.mark.parametrize(("first", "begins"), [(0, 10_000), (2, 10_004), (7, 10_004)])
def test_ports_are_handed_out_in_turn_from_anywhere(first: int, begins: int) -> None:
    ports = PortRange(10_000, 10_009, first=first)
    taken = [ports.take() for _ in range(3)]
    assert taken[0] == begins
    ports.give_back(begins)
    rest = [ports.take() for _ in range(len(ports))]
    assert sorted(taken + rest[:-1]) == [10_000, 10_002, 10_004, 10_006, 10_008]
    assert rest[-1] == begins
