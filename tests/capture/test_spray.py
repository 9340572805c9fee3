"""Every media port of a worker under fire from addresses that no signalling has named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from callreel.calls.media import Codec, Stream
from callreel.calls.model import Track
from callreel.calls.voice import Silence
from callreel.capture.protocol import WorkerEvent, WorkerEventKind
from callreel.testing.packets import NumberedSource, journal_events, kept_numbers
from callreel.testing.spray import HOSTS, Spray
from callreel.wire.rtp import RtpPacket
from tests.capture.house import BOTH, CALL, ONE, OTHER, PCMU, TWO, Party, free_ports
from tests.capture.test_worker import Process, pool_of

ATTENDED = "e" * 32
THREE = "3" * 32
KEYS = Codec(101, "TELEPHONE-EVENT", 8000)
CALM_S = 0.6
"""How long a call is listened for before its party speaks: only strangers do."""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, 0, free_ports(24))
    yield process
    process.close()


def announced(source: NumberedSource, number: int, track: Track) -> Stream:
    return Stream(number, track, source.host, source.port, (PCMU,))


async def test_no_stranger_is_kept_relayed_or_heard(worker: Process, tmp_path: Path) -> None:
    events: list[WorkerEvent] = []
    settings = worker.settings
    ann, ben, guest = Party(ssrc=0xA), Party(ssrc=0xB), Party(ssrc=0xC)
    one, two = NumberedSource(ssrc=0x1), NumberedSource(ssrc=0x2)
    spray = Spray(settings.port_low, settings.port_high)
    try:
        async with pool_of([worker], events) as pool:
            # Before any socket is there, and until all are closed.
            await asyncio.to_thread(spray.start)
            ports = await pool.open(
                CALL, [announced(one, 0, Track.INBOUND), announced(two, 1, Track.OUTBOUND)]
            )
            await pool.start(ONE, CALL, BOTH)
            to_ann = await pool.open(OTHER, [ann.stream()])
            to_ben = await pool.open("b" * 32, [ben.stream()], beside=OTHER)
            await pool.bridge(OTHER, "b" * 32)
            await pool.start(TWO, OTHER, BOTH)
            to_guest = await pool.open(ATTENDED, [replace(guest.stream(), codecs=(PCMU, KEYS))])
            await pool.attend(ATTENDED)
            await pool.listen(ATTENDED, 60_000)
            await pool.play(ATTENDED, "one", [Silence(60_000)])
            await pool.start(THREE, ATTENDED, BOTH)
            await asyncio.sleep(CALM_S)
            wanted: dict[int, list[int]] = {}
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                for number, source in ((0, one), (1, two)):
                    wanted.setdefault(number, []).extend(source.send(ports[number].rtp_port))
                ann.send(to_ann[0].rtp_port)
                ben.send(to_ben[0].rtp_port)
                guest.send(to_guest[0].rtp_port)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            stopped = {name: await pool.stop(name) for name in (ONE, TWO, THREE)}
            (state,) = await pool.states()
            for call in (CALL, OTHER, "b" * 32, ATTENDED):
                await pool.close(call)
        await asyncio.to_thread(spray.end)
        relayed = {party: party.received() + party.received(rtcp=True) for party in (ann, ben)}
        played = [RtpPacket.parse(data) for data in guest.received()]
    finally:
        spray.end()
        for party in (ann, ben, guest, one, two):
            party.close()

    root = worker.root
    assert kept_numbers(root, ONE, 0) == wanted[0]
    assert kept_numbers(root, ONE, 1) == wanted[1]
    assert kept_numbers(root, THREE, 0) == list(range(guest.next))
    assert stopped[TWO].packets == ann.next + ben.next
    for party, other in ((ann, ben), (ben, ann)):
        heard = [RtpPacket.parse(data) for data in relayed[party]]
        assert [packet.sequence for packet in heard] == list(range(other.next))
        assert {packet.ssrc for packet in heard} == {other.ssrc}
    # One clock for what is played, whatever comes in.
    assert all((b.sequence - a.sequence) & 0xFFFF == 1 for a, b in pairwise(played))
    assert not [event for event in events if event.kind is WorkerEventKind.DIGIT]
    latched = [event.data["host"] for event in events if event.kind is WorkerEventKind.LATCHED]
    assert len(latched) == 5
    assert not set(latched) & set(HOSTS)
    for name, streams in ((ONE, (0, 1)), (TWO, (0, 1001)), (THREE, (0,))):
        drops = [event for event in journal_events(root, name) if event["event"] == "drops"]
        assert all(event["kernel"] == 0 for event in drops), "refused is not lost"
        for number in streams:
            foreign = [int(str(e["foreign"])) for e in drops if e["stream"] == number]
            assert 100 < sum(foreign) < spray.sent, f"stream {number} of {name}"
    told = [event for event in events if event.kind is WorkerEventKind.STRANGERS]
    assert {event.call_id for event in told} == {CALL, OTHER, "b" * 32, ATTENDED}
    assert all(100 <= event.data["packets"] < spray.sent for event in told)
    assert state.strange == 0
    assert spray.sent > 10_000
