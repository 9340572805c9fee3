"""A bridge, and a call that is played to, while their worker is killed, under the real
supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from callreel.calls.model import Track
from callreel.calls.voice import Prompt
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent, WorkerEventKind
from callreel.server.supervisor import worker_socket
from callreel.testing.packets import kept_numbers
from callreel.wire.rtp import RtpPacket
from tests.capture.house import CALL, ONE, OTHER, Party
from tests.capture.test_worker import heard
from tests.server.test_supervisor import CONTROL, House, child, until, until_event, worker_argv


@pytest.fixture
def house() -> Iterator[House]:
    # Unix socket paths are short; pytest's own folders may not be.
    with tempfile.TemporaryDirectory(prefix="cr") as name:
        folder = Path(name)
        made = House(folder, child(CONTROL, folder / "notes"), [worker_argv(folder, 20)])
        yield made
        made.close()


async def test_a_killed_worker_ends_no_conversation(house: House) -> None:
    path = worker_socket(house.runtime, 0)
    root = house.folder / "journals"
    until(path.exists)
    events: list[WorkerEvent] = []
    with Party(ssrc=1) as caller, Party(ssrc=2) as callee:
        async with WorkerPool([path], on_event=events.append, advertised_host="127.0.0.1") as pool:
            port = (await pool.open(CALL, [caller.stream()]))[0].rtp_port
            other = (await pool.open(OTHER, [callee.stream()], beside=CALL))[0].rtp_port
            await pool.bridge(CALL, OTHER)
            await pool.start(ONE, CALL, [Track.INBOUND, Track.OUTBOUND])
            for generation in (2, 3):
                (state,) = await pool.states()
                os.kill(state.pid, signal.SIGSTOP)
                # What comes while there is nobody to relay it waits in the sockets.
                said, answered = caller.send(port, 5), callee.send(other, 5)
                os.kill(state.pid, signal.SIGKILL)
                said += caller.send(port, 5)
                assert await heard(callee, 10) == said
                assert await heard(caller, 5) == answered
                await until_event(events, WorkerEventKind.WORKER_BACK, generation - 1)
                assert await pool.bridges() == {CALL: OTHER, OTHER: CALL}
                # What was relayed is in memory until the next sweep.
                until(lambda: kept_numbers(root, ONE, 0)[-10:] == said)  # noqa: B023
                until(lambda: kept_numbers(root, ONE, 1001)[-5:] == answered)  # noqa: B023
            assert (await pool.stop(ONE)).packets == 30
            # One that was parted before is not joined again.
            await pool.unbridge(CALL)
            (state,) = await pool.states()
            os.kill(state.pid, signal.SIGKILL)
            await until_event(events, WorkerEventKind.WORKER_BACK, 3)
            assert await pool.bridges() == {}
            assert set(pool.calls) == {CALL, OTHER}
            assert kept_numbers(root, ONE, 0) == list(range(20))
            assert kept_numbers(root, ONE, 1001) == list(range(10))


async def test_a_killed_worker_goes_on_playing(house: House) -> None:
    path = worker_socket(house.runtime, 0)
    until(path.exists)
    events: list[WorkerEvent] = []
    prompt = house.folder / "prompt.s16"
    prompt.write_bytes(b"\x10\x20" * 160 * 200)
    with Party(ssrc=1) as party:
        async with WorkerPool([path], on_event=events.append, advertised_host="127.0.0.1") as pool:
            await pool.open(CALL, [party.stream()])
            await pool.attend(CALL)
            await pool.play(CALL, "one", [Prompt(prompt)])
            before = await packets(party, 20)
            (state,) = await pool.states()
            os.kill(state.pid, signal.SIGKILL)
            await until_event(events, WorkerEventKind.WORKER_BACK, 1)
            assert await pool.attended() == {CALL: "one"}
            played = await until_event(events, WorkerEventKind.PLAYED, 1)
            assert played is not None
            after = [packet for packet in await packets(party, 20) if packet not in before]
            silence = await packets(party, 2)
            everything = [*before, *after, *silence]
            assert {packet.ssrc for packet in everything} == {before[0].ssrc}
            numbers = [packet.sequence for packet in everything]
            assert len(set(numbers)) == len(numbers)
            steps = [
                (
                    (now.sequence - last.sequence) & 0xFFFF,
                    ((now.timestamp - last.timestamp) & 0xFFFFFFFF) / 160,
                )
                for last, now in pairwise(everything)
            ]
            # Time is what it always was; what was not sent meanwhile is missing, and nothing else.
            assert all(sequence == ticks for sequence, ticks in steps)
            assert sum(sequence != 1 for sequence, _ in steps) <= 1
            assert silence[-1].payload == b"\xff" * 160


async def packets(party: Party, count: int) -> list[RtpPacket]:
    """What a party hears, once there is so much of it."""
    found: list[RtpPacket] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += [RtpPacket.parse(data) for data in party.received()]
            await asyncio.sleep(0.001)
    return found
