"""Many sockets drained at once: whatever comes to each, it is what a drain of it alone gives."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from callreel.capture.anchor import Anchor
from callreel.capture.drops import DropCounter
from callreel.capture.sockets import accept_from, buffer_bytes, open_socket, refuse_all
from callreel.capture.sweep import SLOT_BYTES, Sweeper
from callreel.capture.tap import Tap
from callreel.capture.volley import DEPTH, LANES, Mingled, Packed, Volley

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Party:
    """Two sockets that get the same: one is drained alone, the other in a volley."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.host = HOSTS[family]
        self.alone, self.among = (Tap(open_socket(self.host, 0)) for _ in range(2))
        self.source = socket.socket(family, socket.SOCK_DGRAM)
        self.source.bind((self.host, 0))
        for tap in (self.alone, self.among):
            tap.listen(self.host, now_mono_ns=time.monotonic_ns())

    def send(self, packet: bytes, source: socket.socket | None = None) -> None:
        for tap in (self.alone, self.among):
            (source or self.source).sendto(packet, tap.sock.getsockname()[:2])

    def close(self) -> None:
        for sock in (self.alone.sock, self.among.sock, self.source):
            sock.close()


@pytest.fixture(params=list(HOSTS), ids=["IPv4", "IPv6"])
def parties(request: pytest.FixtureRequest) -> Iterator[list[Party]]:
    found = [Party(request.param) for _ in range(LANES)]
    yield found
    for party in found:
        party.close()


def packet(number: int, size: int) -> bytes:
    return (
        b"\x80\x00" + number.to_bytes(2, "big") + bytes(8) + random.Random(number).randbytes(size)
    )


def compare(parties: Sequence[Party], volley: Volley, anchor: Anchor) -> list[object]:
    """The kinds of what the volley found; it is held against drains of one after the other."""
    family = parties[0].source.family
    sweeper = Sweeper(family)
    found = volley.drain([party.among for party in parties], anchor)
    for party, one in zip(parties, found, strict=True):
        batches, latched = party.alone.drain(sweeper, anchor)
        data = b"".join(batch.data for batch in batches)
        lengths = [length for batch in batches for length in batch.lengths.tolist()]
        if isinstance(one, Packed):
            theirs, their_source = [one.unpacked()], None
            assert one.count == len(lengths)
        else:
            theirs = one.batches if one else []
            their_source = one.latched if one else None
        assert b"".join(batch.data for batch in theirs) == data
        assert [length for batch in theirs for length in batch.lengths.tolist()] == lengths
        assert (their_source and their_source.source) == (latched and latched.source)
        stamps = np.concatenate([[0], *(batch.stamps_ns for batch in theirs)])
        assert (np.diff(stamps) >= 0).all()
        now_ns = time.time_ns()
        assert all(now_ns - 10**10 < stamp <= now_ns for stamp in stamps[1:].tolist())
        # Each packet was sent to the one and then to the other.
        heard_ns = [tap.latch.heard_ns for tap in (party.alone, party.among)]
        assert abs(heard_ns[1] - heard_ns[0]) < 100_000_000
        for tap in (party.alone, party.among):
            assert tap.drained_ns > 0
        assert party.among.lost() == party.alone.lost()
        assert party.among.drops.fill == pytest.approx(party.alone.drops.fill)
        assert party.among.latch.source == party.alone.latch.source
    return [type(one) for one in found]


def test_what_all_bring_nearly_always(parties: list[Party]) -> None:
    volley, anchor = Volley(parties[0].source.family), Anchor()
    for first in (0, 100, 200):
        for n, party in enumerate(parties):
            for number in range(20 + n % 3):
                party.send(packet(first + number, 160))
        kinds = compare(parties, volley, anchor)
        # Sources are latched with the first packets; from then on nothing is looked at one by one.
        assert kinds == [Mingled if first == 0 else Packed] * LANES


def test_lengths_that_differ_from_call_to_call(parties: list[Party]) -> None:
    volley, anchor = Volley(parties[0].source.family), Anchor()
    sizes = (160, 20, 33, 1000, SLOT_BYTES - 12)
    for first in (0, 100):
        for n, party in enumerate(parties):
            for number in range(5):
                party.send(packet(first + number, sizes[n % len(sizes)]))
        kinds = compare(parties, volley, anchor)
    assert kinds.count(Packed) >= LANES // 2


@pytest.mark.parametrize("seed", range(6))
def test_anything_at_all(parties: list[Party], seed: int) -> None:
    """Nothing, much, too much, too long, by strangers, with the filter on, in any lane."""
    chance = random.Random(seed)
    volley, anchor = Volley(parties[0].source.family), Anchor()
    with socket.socket(parties[0].source.family, socket.SOCK_DGRAM) as stranger:
        for first in range(0, 1000, 200):
            for party in parties:
                sizes = chance.choice(((160,), (160,), (20,), (160, 24, 0, SLOT_BYTES)))
                strange = chance.choice((0, 0, 0.1))
                for number in range(chance.choice((0, 1, 5, 20, 21, DEPTH, DEPTH + 1, 2 * DEPTH))):
                    size = chance.choice(sizes)
                    source = stranger if number and chance.random() < strange else None
                    party.send(packet(first + number, size), source)
            compare(parties, volley, anchor)


def test_a_socket_that_dropped_something(parties: list[Party]) -> None:
    """The kernel's counts come with the packets from then on: they are read, and cost nothing."""
    volley, anchor = Volley(parties[0].source.family), Anchor()
    for party in parties:
        party.send(packet(0, 160))
    compare(parties, volley, anchor)
    for tap in (parties[3].alone, parties[3].among):
        refuse_all(tap.sock)
        parties[3].source.sendto(packet(1, 160), tap.sock.getsockname()[:2])
        tap.host = None
        tap.listen(parties[3].host, now_mono_ns=time.monotonic_ns())
    for party in parties:
        party.send(packet(2, 160))
        party.send(packet(3, 160))
    kinds = compare(parties, volley, anchor)
    assert kinds == [Packed] * LANES
    assert [party.among.lost() for party in parties] == [(0, 0, 0)] * LANES


def test_what_the_kernel_drops_is_counted(parties: list[Party]) -> None:
    """Strangers between our packets, and more than fits into the buffer."""
    volley, anchor = Volley(parties[0].source.family), Anchor()
    for party in parties:
        party.send(packet(0, 160))
    compare(parties, volley, anchor)
    flooded, strange = parties[5], parties[7]
    for tap in (flooded.alone, flooded.among):
        tap.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tap.drops = DropCounter(buffer_bytes(tap.sock))
    for tap in (strange.alone, strange.among):
        refuse_all(tap.sock)
        strange.source.sendto(packet(0, 160), tap.sock.getsockname()[:2])
        accept_from(tap.sock, strange.host)
    for number in range(1, 30):
        flooded.send(packet(number, 160))
    strange.send(packet(1, 160))
    compare(parties, volley, anchor)
    for party in parties:
        party.send(packet(40, 160))
    kinds = compare(parties, volley, anchor)
    assert kinds == [Packed] * LANES
    overflowed, refused, _ = flooded.among.lost()
    assert overflowed > 10
    assert refused == 0
    assert strange.among.lost() == (0, 1, 0)
