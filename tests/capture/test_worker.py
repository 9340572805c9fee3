"""A real worker process, asked by the control process's pool over its Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.calls.media import CaptureState, Codec, NoAnswer, Stream
from callreel.calls.model import PauseBehavior, Track
from callreel.calls.voice import DigitHeard, FellSilent, Played, Prompt, Silence, VoiceMedia
from callreel.capture import client as client_module
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent, WorkerEventKind, media_heard
from callreel.capture.settings import LISTEN_FD, WorkerSettings
from callreel.testing.packets import NumberedSource, kept_numbers
from callreel.wire.rtp import RtpPacket
from callreel.wire.telephone_event import EventPayload
from tests.capture.house import OTHER, Party

CALL = "c" * 32
ONE = "1" * 32
BOTH = (Track.INBOUND, Track.OUTBOUND)


def stream(number: int = 0, track: Track = Track.INBOUND) -> Stream:
    return Stream(number, track, "127.0.0.1", 40000, (Codec(0, "PCMU", 8000),))


class Process:
    """A worker process with no supervisor."""

    def __init__(self, folder: Path, index: int, ports: tuple[int, int]) -> None:
        self.path = folder / f"{index}.sock"
        self.root = folder / "journals"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(os.fspath(self.path))
        self.listener.listen()
        self.settings = WorkerSettings(
            "127.0.0.1", *ports, journal_root=self.root, sweep_ms=50, index=index
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.settings.to_argv(),
            env={**os.environ, LISTEN_FD: str(self.listener.fileno())},
            pass_fds=[self.listener.fileno()],
            stderr=subprocess.DEVNULL,
        )

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.end()
        self.listener.close()


LOW = 20000 + os.getpid() % 300 * 40


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Process]]:
    made = [Process(tmp_path, index, (LOW + 8 * index, LOW + 8 * index + 7)) for index in range(2)]
    yield made
    for process in made:
        process.close()


def pool_of(workers: list[Process], events: list[WorkerEvent]) -> WorkerPool:
    return WorkerPool(
        [worker.path for worker in workers], on_event=events.append, advertised_host="192.0.2.7"
    )


async def until_told(events: list[WorkerEvent], kind: WorkerEventKind) -> WorkerEvent:
    async with asyncio.timeout(10):
        while True:
            for event in events:
                if event.kind is kind:
                    return event
            await asyncio.sleep(0.005)


async def test_a_recording_from_end_to_end(workers: list[Process]) -> None:
    events: list[WorkerEvent] = []
    async with pool_of(workers, events) as pool:
        addresses = await pool.open(CALL, [stream(0), stream(1, Track.OUTBOUND)])
        assert {address.host for address in addresses.values()} == {"192.0.2.7"}
        assert all(address.rtcp_port == address.rtp_port + 1 for address in addresses.values())
        with NumberedSource() as source:
            source.send(addresses[0].rtp_port, 5)
            started = await pool.start(ONE, CALL, BOTH)
            wanted = source.send(addresses[0].rtp_port, 5)
            paused = await pool.pause(ONE, PauseBehavior.SKIP)
            assert list(await pool.captures()) == [CaptureState(ONE, CALL, True)]
            source.send(addresses[0].rtp_port, 5)
            resumed = await pool.resume(ONE)
            wanted += source.send(addresses[0].rtp_port, 5)
            latched = await until_told(events, WorkerEventKind.LATCHED)
            assert latched.data["port"] == source.port
            stopped = await pool.stop(ONE)
        assert started.started_at < paused < resumed < stopped.stopped_at
        assert stopped.packets == 10
        assert kept_numbers(workers[0].root, ONE) == wanted
        await pool.close(CALL)
        assert await pool.captures() == []
        assert (await pool.stop(ONE)) == stopped


async def test_calls_are_spread_by_their_streams(workers: list[Process]) -> None:
    async with pool_of(workers, []) as pool:
        await pool.open(CALL, [stream(0), stream(1), stream(2)])
        ids = [f"{number:032x}" for number in range(3)]
        await asyncio.gather(*(pool.open(call_id, [stream()]) for call_id in ids))
        calls = [len(state.calls) for state in await pool.states()]
        assert sorted(calls) == [1, 3]
        # One pair is left to the one, one to the other: three are too many for either.
        with pytest.raises(CapacityError):
            await pool.open("d" * 32, [stream(0), stream(1), stream(2)])
        await pool.open("d" * 32, [stream(0)])
        await pool.open("e" * 32, [stream(0)])
        with pytest.raises(CapacityError):
            await pool.open("f" * 32, [stream(0)])
        assert "f" * 32 not in pool.calls


async def test_a_new_control_process_learns_what_is_going_on(workers: list[Process]) -> None:
    async with pool_of(workers, []) as pool:
        addresses = await pool.open(CALL, [stream()])
        await pool.start(ONE, CALL, BOTH)
    async with pool_of(workers, []) as pool:
        assert list(pool.calls) == [CALL]
        assert list(await pool.captures()) == [CaptureState(ONE, CALL, False)]
        assert await pool.open(CALL, [stream()]) == addresses
        with NumberedSource() as source:
            source.send(addresses[0].rtp_port, 5)
            assert (await pool.stop(ONE)).packets == 5


async def heard(party: Party, count: int) -> list[int]:
    """The next packets that a party hears, once there are so many."""
    found: list[int] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += party.heard()
            await asyncio.sleep(0.001)
    return found


async def test_a_bridge_outlives_the_control_process(workers: list[Process]) -> None:
    with Party(ssrc=1) as caller, Party(ssrc=2) as callee:
        async with pool_of(workers, []) as pool:
            port = (await pool.open(CALL, [caller.stream()]))[0].rtp_port
            # The other worker has less to do; and yet.
            other = (await pool.open(OTHER, [callee.stream()], beside=CALL))[0].rtp_port
            assert sorted(len(state.calls) for state in await pool.states()) == [0, 2]
            await pool.bridge(CALL, OTHER)
            await pool.bridge(CALL, OTHER)
            said = caller.send(port, 3)
            assert await heard(callee, 3) == said
            await pool.start(ONE, CALL, BOTH)
        said = caller.send(port, 3)
        answered = callee.send(other, 3)
        assert await heard(callee, 3) == said
        assert await heard(caller, 3) == answered
        async with pool_of(workers, []) as pool:
            assert await pool.bridges() == {CALL: OTHER, OTHER: CALL}
            assert (await pool.stop(ONE)).packets == 6
            await pool.unbridge(CALL)
            await pool.unbridge(CALL)
            await pool.unbridge("e" * 32)
            assert await pool.bridges() == {}
            assert sum(state.relayed for state in await pool.states()) == 9
        assert kept_numbers(workers[0].root, ONE, 1001) == answered


async def test_calls_that_cannot_be_bridged(workers: list[Process]) -> None:
    async with pool_of(workers, []) as pool:
        await pool.open(CALL, [stream(0)])
        await pool.open(OTHER, [stream(0)])
        for one, two in ((CALL, OTHER), (CALL, "e" * 32), ("e" * 32, CALL)):
            with pytest.raises(MachineError):
                await pool.bridge(one, two)
        with pytest.raises(UsageError):
            await pool.bridge(CALL, CALL)
        with pytest.raises(MachineError):
            await pool.open("f" * 32, [stream(0)], beside="e" * 32)
        # Beside one whose worker has no room there is none, whatever others have.
        with pytest.raises(CapacityError):
            await pool.open("f" * 32, [stream(number) for number in range(4)], beside=CALL)
        assert await pool.open(CALL, [stream(0)], beside="e" * 32)


async def test_errors_are_the_callers_own(workers: list[Process]) -> None:
    async with pool_of(workers, []) as pool:
        with pytest.raises(MachineError):
            await pool.start(ONE, CALL, BOTH)
        with pytest.raises(MachineError):
            await pool.stop(ONE)
        await pool.close(CALL)
        await pool.open(CALL, [stream()])
        with pytest.raises(UsageError):
            await pool.start("../../etc/passwd", CALL, BOTH)
        with pytest.raises(UsageError):
            await pool.update(CALL, [stream(0), stream(0)])
        assert pool.healthy


async def test_garbage_on_the_control_socket_disturbs_nothing(workers: list[Process]) -> None:
    async with pool_of(workers, []) as pool:
        addresses = await pool.open(CALL, [stream()])
        await pool.start(ONE, CALL, BOTH)
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0\0\0\4nope",
            b"\0\0\0\2[]",
            b"\0\0\0\2{}",
            b"\0\0\0\x0a" + b"[" * 10,
            b"\0\1\x86\xa0" + b"[" * 100_000,
            b"\xff" * 70_000,
            b"\0\0",
        ):
            for worker in workers:
                reader, writer = await asyncio.open_unix_connection(worker.path)
                writer.write(garbage)
                writer.write_eof()
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
        reader, writer = await asyncio.open_unix_connection(workers[0].path)
        for body in (b'{"id":1,"op":"stop"}', b'{"id":2,"op":[]}', b'{"id":3,"op":"open"}'):
            writer.write(len(body).to_bytes(4, "big") + body)
            head = await reader.readexactly(4)
            assert b'"usage"' in await reader.readexactly(int.from_bytes(head, "big"))
        writer.close()
        with NumberedSource() as source:
            source.send(addresses[0].rtp_port, 5)
            assert (await pool.stop(ONE)).packets == 5
        assert pool.healthy


async def test_a_worker_that_is_gone_fails_what_is_asked_of_it(
    workers: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "DEADLINE_S", 0.3)
    events: list[WorkerEvent] = []
    async with pool_of(workers, events) as pool:
        await pool.open(CALL, [stream()])
        workers[0].end()
        await until_told(events, WorkerEventKind.WORKER_LOST)
        with pytest.raises(MachineError):
            await pool.start(ONE, CALL, BOTH)
        # New calls go to those that answer.
        await pool.open("d" * 32, [stream()])


async def test_what_was_asked_meanwhile_is_asked_of_the_successor(workers: list[Process]) -> None:
    events: list[WorkerEvent] = []
    async with pool_of(workers[:1], events) as pool:
        await pool.open(CALL, [stream()])
        workers[0].process.send_signal(signal.SIGSTOP)
        asked = asyncio.create_task(pool.open("d" * 32, [stream()]))
        await asyncio.sleep(0.01)
        workers[0].end()
        workers[0].start()
        assert len(await asked) == 1
        lost = await until_told(events, WorkerEventKind.CALL_LOST)
        # There is no supervisor here that would have held its sockets.
        assert lost.call_id == CALL
        assert list(pool.calls) == ["d" * 32]


async def test_a_stop_that_is_answered_late_keeps_nothing_of_what_came_since(
    workers: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "DEADLINE_S", 0.3)
    async with pool_of(workers[:1], []) as pool:
        addresses = await pool.open(CALL, [stream()])
        await pool.start(ONE, CALL, BOTH)
        with NumberedSource() as source:
            wanted = source.send(addresses[0].rtp_port, 5)
            workers[0].process.send_signal(signal.SIGSTOP)
            wanted += source.send(addresses[0].rtp_port, 5)
            with pytest.raises(NoAnswer):
                await pool.stop(ONE)
            told = datetime.now(UTC)
            source.send(addresses[0].rtp_port, 5)
            # Longer than what a worker takes for an ordinary delay.
            await asyncio.sleep(1.1)
            asked = asyncio.create_task(pool.stop(ONE, until=told))
            await asyncio.sleep(0.05)
            workers[0].process.send_signal(signal.SIGCONT)
            stopped = await asked
    assert kept_numbers(workers[0].root, ONE) == wanted
    assert told - timedelta(seconds=0.2) < stopped.stopped_at <= told
    assert stopped.packets == len(wanted)


async def test_a_call_whose_close_was_not_answered_is_closed_all_the_same(
    workers: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "DEADLINE_S", 0.2)
    async with pool_of(workers[:1], []) as pool:
        await pool.open(CALL, [stream()])
        workers[0].process.send_signal(signal.SIGSTOP)
        with pytest.raises(NoAnswer):
            await pool.close(CALL)
        assert list(pool.calls) == []
        workers[0].process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            while (await pool.states())[0].calls:
                await asyncio.sleep(0.01)
        assert list(pool.calls) == []
        # It is as any other afterwards.
        await pool.open(CALL, [stream()])
        assert list(pool.calls) == [CALL]


async def test_sigterm_sweeps_once_more(workers: list[Process]) -> None:
    async with pool_of(workers, []) as pool:
        addresses = await pool.open(CALL, [stream()])
        await pool.start(ONE, CALL, BOTH)
        with NumberedSource() as source:
            wanted = source.send(addresses[0].rtp_port, 5)
        assert workers[0].end(signal.SIGTERM) == 0
    assert kept_numbers(workers[0].root, ONE) == wanted


def test_bad_settings_end_with_their_own_status(tmp_path: Path) -> None:
    good = WorkerSettings("127.0.0.1", 20000, 20010, journal_root=tmp_path).to_argv()
    for argument in ("", "{}", "[]", good[-1].replace("20010", "19999"), good[-1]):
        argv = [*good[:-1], argument]
        done = subprocess.run(argv, check=False, capture_output=True, timeout=20)
        assert done.returncode == 78
        assert b"Traceback" not in done.stderr


async def test_played_to_and_heard(workers: list[Process], tmp_path: Path) -> None:
    events: list[WorkerEvent] = []
    path = tmp_path / "prompt.s16"
    path.write_bytes(bytes(2 * 800))
    with Party() as party:
        async with pool_of(workers, events) as pool:
            codecs = (Codec(0, "PCMU", 8000), Codec(101, "TELEPHONE-EVENT", 8000))
            stream = replace(party.stream(), codecs=codecs)
            port = (await pool.open(CALL, [stream]))[0].rtp_port
            assert await pool.attended() == {}
            media: VoiceMedia = pool
            await media.attend(CALL)
            assert await pool.attended() == {CALL: ""}
            assert len(await heard(party, 5)) >= 5
            with pytest.raises(MachineError, match="cannot read"):
                await pool.play(CALL, "none", [Prompt(tmp_path / "missing")])
            await pool.play(CALL, "one", [Prompt(path)])
            assert await pool.attended() == {CALL: "one"}
            played = await until_told(events, WorkerEventKind.PLAYED)
            assert media_heard(played) == Played(CALL, "one")
            events.clear()
            await pool.play(CALL, "two", [Silence(60_000)])
            await pool.listen(CALL, 100)
            fell = await until_told(events, WorkerEventKind.FELL_SILENT)
            assert media_heard(fell) == FellSilent(CALL, spoke=False)
            await pool.stop_playing(CALL)
            assert await pool.attended() == {CALL: ""}
            key = RtpPacket(101, 1, 1, 1, EventPayload(7, False, 160).serialize())
            party.send_bytes(key.serialize(), port)
            pressed = await until_told(events, WorkerEventKind.DIGIT)
            assert media_heard(pressed) == DigitHeard(CALL, "7")
            await pool.close(CALL)
            with pytest.raises(MachineError):
                await pool.play(CALL, "three", [])
            assert not [event for event in events if event.kind is WorkerEventKind.PLAYED]
            latched = await until_told(events, WorkerEventKind.LATCHED)
            assert media_heard(latched) is None


async def test_a_worker_that_was_stopped_makes_up_for_it(workers: list[Process]) -> None:
    with Party() as party:
        async with pool_of(workers, []) as pool:
            await pool.open(CALL, [party.stream()])
            await pool.attend(CALL)
            before = await packets_of(party, 5)
            (pid,) = [state.pid for state in await pool.states() if state.calls]
            os.kill(pid, signal.SIGSTOP)
            stopped = time.monotonic()
            await asyncio.sleep(0.5)
            before += [RtpPacket.parse(data) for data in party.received()]
            away_s = time.monotonic() - stopped
            os.kill(pid, signal.SIGCONT)
            after = await packets_of(party, 60)
    for last, now in pairwise([*before, *after]):
        assert (now.sequence - last.sequence) & 0xFFFF == 1
        assert (now.timestamp - last.timestamp) & 0xFFFFFFFF == 160
    # By then it has caught up: as many as there were in that time.
    assert len(after) >= away_s / 0.02


async def packets_of(party: Party, count: int) -> list[RtpPacket]:
    """What a party hears, once there is so much of it."""
    found: list[RtpPacket] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += [RtpPacket.parse(data) for data in party.received()]
            await asyncio.sleep(0.001)
    return found


async def test_what_nobody_was_there_to_be_told_is_told_to_the_next(
    workers: list[Process],
) -> None:
    with Party() as party:
        async with pool_of(workers, []) as pool:
            await pool.open(CALL, [party.stream()])
            await pool.attend(CALL)
            await pool.play(CALL, "one", [Silence(300)])
        events: list[WorkerEvent] = []
        await packets_of(party, 25)
        async with pool_of(workers, events) as pool:
            played = await until_told(events, WorkerEventKind.PLAYED)
            assert media_heard(played) == Played(CALL, "one")
            assert await pool.attended() == {CALL: ""}


async def test_what_was_cut_off_is_never_told(workers: list[Process]) -> None:
    events: list[WorkerEvent] = []
    with Party() as party, Party() as other:
        async with pool_of(workers, events) as pool:
            await pool.open(CALL, [party.stream()])
            await pool.open(OTHER, [other.stream()], beside=CALL)
            await pool.attend(CALL)
            for number in range(20):
                # Over just as it is cut off: either may come first.
                await pool.play(CALL, f"a{number}", [Silence(20)])
                await asyncio.sleep(0.001 * number)
                await pool.play(CALL, f"b{number}", [Silence(20_000)])
                await pool.stop_playing(CALL)
                await pool.play(CALL, f"c{number}", [Silence(20_000)])
                await pool.bridge(CALL, OTHER)
                await pool.unbridge(CALL)
            events.clear()
            await pool.play(CALL, "last", [])
            await until_told(events, WorkerEventKind.PLAYED)
            assert [media_heard(event) for event in events] == [Played(CALL, "last")]
            # A second telling is not passed on.
            with pytest.raises(MachineError):
                await pool.play(CALL, "none", [Prompt(Path("/nonexistent"))])
            await pool.play(CALL, "last", [])
            await until_told(events, WorkerEventKind.PLAYED)
