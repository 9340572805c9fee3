"""The supervisor with real children: deaths, restarts, takeovers, ends in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from callreel.base.errors import UsageError
from callreel.calls.media import Codec, Stream
from callreel.calls.model import Track
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent, WorkerEventKind
from callreel.capture.settings import WorkerSettings
from callreel.server.supervisor import MAX_SOCKET_PATH_BYTES, supervise, worker_socket
from callreel.testing.packets import NumberedSource, journal_events, kept_numbers

CALL = "c" * 32
ONE = "1" * 32
STREAM = Stream(0, Track.INBOUND, "127.0.0.1", 40000, (Codec(0, "PCMU", 8000),))

RUN = """
import json, sys
from pathlib import Path
from callreel.server.supervisor import supervise
control, workers, folder = json.loads(sys.argv[1])
sys.exit(supervise(control_argv=control, worker_argvs=workers, runtime_dir=Path(folder)))
"""

NOTES = """
import os, signal, socket, sys, time
def note(text):
    with open(sys.argv[1], "a") as file: file.write(text + "\\n")
"""
"""What small children have in common: they write what happens to them into a file."""

CONTROL = (
    NOTES
    + """
from callreel.server.supervisor import announce_ready
def stop(*_):
    note("control ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda *_: note("control told to reread"))
lifeline = socket.socket(fileno=int(os.environ["CALLREEL_LIFELINE_FD"]))
announce_ready()
note(f"control {os.getpid()}")
lifeline.recv(1)
note("control lost its supervisor")
"""
)

WORKER = (
    NOTES
    + """
def stop(*_):
    note("worker ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, stop)
note("worker " + os.environ["CALLREEL_GENERATION"])
while True: time.sleep(1)
"""
)


class House:
    """A supervisor in a process of its own."""

    def __init__(
        self, folder: Path, control: Sequence[str], workers: Sequence[Sequence[str]]
    ) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        value = json.dumps([list(control), [list(argv) for argv in workers], str(self.runtime)])
        self.errors = (folder / "errors").open("wb")
        self.process = subprocess.Popen([sys.executable, "-c", RUN, value], stderr=self.errors)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.25)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()

    @property
    def log(self) -> str:
        return (self.folder / "errors").read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Unix socket paths are short; pytest's own folders may not be.
    with tempfile.TemporaryDirectory(prefix="cr") as name:
        yield Path(name)


Build = Callable[[Sequence[str], Sequence[Sequence[str]]], House]


@pytest.fixture
def build(folder: Path) -> Iterator[Build]:
    made: list[House] = []

    def start(control: Sequence[str], workers: Sequence[Sequence[str]]) -> House:
        made.append(House(folder, control, workers))
        return made[-1]

    yield start
    for house in made:
        house.close()


def child(script: str, notes: Path) -> list[str]:
    return [sys.executable, "-c", script, str(notes)]


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def lines(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


def both_up(notes: Path) -> bool:
    text = "\n".join(lines(notes))
    return "control " in text and "worker " in text


def test_sigterm_ends_control_first_and_workers_after(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    house = build(child(CONTROL, notes), [child(WORKER, notes)])
    until(lambda: both_up(notes))
    assert house.runtime.stat().st_mode & 0o777 == 0o700
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(10) == 0
    assert lines(notes)[2:] == ["control ended", "worker ended"]
    assert not worker_socket(house.runtime, 0).exists()


def test_sighup_goes_to_control(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    house = build(child(CONTROL, notes), [child(WORKER, notes)])
    until(lambda: both_up(notes))
    house.process.send_signal(signal.SIGHUP)
    until(lambda: "control told to reread" in lines(notes))
    assert house.process.poll() is None


def test_a_second_signal_kills_all_at_once(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    deaf = (
        NOTES
        + """
import subprocess
signal.signal(signal.SIGTERM, lambda *_: note("not yet"))
grandchild = subprocess.Popen(["sleep", "1000"])
note(f"control {os.getpid()} {grandchild.pid}")
while True: time.sleep(1)
"""
    )
    house = build(child(deaf, notes), [child(WORKER, notes)])
    until(lambda: both_up(notes))
    house.process.send_signal(signal.SIGINT)
    until(lambda: "not yet" in lines(notes))
    house.process.send_signal(signal.SIGINT)  # the same order, told to us and to our group
    time.sleep(0.3)
    assert house.process.poll() is None
    house.process.send_signal(signal.SIGINT)
    assert house.process.wait(10) == 1
    (control,) = [line.split()[1:] for line in lines(notes) if line.startswith("control")]
    for pid in control:
        until(lambda pid=pid: is_gone(int(pid)))  # type: ignore[misc]
    assert "worker ended" not in lines(notes)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def test_who_dies_is_started_again(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    house = build(child(CONTROL, notes), [child(WORKER, notes)])
    until(lambda: both_up(notes))
    (first,) = [int(line.split()[1]) for line in lines(notes) if line.startswith("control")]
    os.kill(first, signal.SIGSEGV)
    until(lambda: len([line for line in lines(notes) if line.startswith("control ")]) == 2)
    assert house.process.poll() is None
    assert "control process died of SIGSEGV" in house.log


def test_control_that_ends_in_order_ends_the_house(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    house = build(child(NOTES + "time.sleep(0.3)", notes), [child(WORKER, notes)])
    assert house.process.wait(10) == 0
    assert lines(notes) == ["worker 1", "worker ended"]


@pytest.mark.parametrize("status", [2, 78])
def test_a_bad_configuration_is_not_tried_again(build: Build, folder: Path, status: int) -> None:
    notes = folder / "notes"
    script = NOTES + f"note('tried'); sys.exit({status})"
    house = build(child(script, notes), [child(WORKER, notes)])
    assert house.process.wait(10) == status
    assert [line for line in lines(notes) if line == "tried"] == ["tried"]


def test_the_same_status_later_is_a_death(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    script = (
        NOTES
        + """
from callreel.server.supervisor import announce_ready
announce_ready()
note("tried")
sys.exit(2)
"""
    )
    build(child(script, notes), [])
    until(lambda: len(lines(notes)) >= 3)


def test_what_cannot_be_started_is_tried_again(build: Build, folder: Path) -> None:
    house = build([str(folder / "missing")], [])
    until(lambda: house.log.count("cannot start the control process") >= 2)
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(10) == 0


def test_control_notices_that_its_supervisor_is_gone(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    house = build(child(CONTROL, notes), [])
    until(lambda: bool(lines(notes)))
    house.process.kill()
    until(lambda: "control lost its supervisor" in lines(notes))


def test_a_runtime_folder_with_too_long_a_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shorter path"):
        supervise(
            control_argv=["true"],
            worker_argvs=[["true"]],
            runtime_dir=tmp_path / ("x" * MAX_SOCKET_PATH_BYTES),
        )


def worker_argv(folder: Path, sweep_ms: int) -> list[str]:
    low = 26000 + os.getpid() % 300 * 20
    return WorkerSettings(
        "127.0.0.1", low, low + 19, journal_root=folder / "journals", sweep_ms=sweep_ms
    ).to_argv()


async def until_event(
    events: list[WorkerEvent], kind: WorkerEventKind, count: int = 1
) -> WorkerEvent:
    async with asyncio.timeout(10):
        while True:
            found = [event for event in events if event.kind is kind]
            if len(found) >= count:
                return found[-1]
            await asyncio.sleep(0.005)


async def test_a_killed_worker_loses_nothing_that_was_unswept(build: Build, folder: Path) -> None:
    notes = folder / "notes"
    # Swept so rarely that all is in the sockets still when the worker dies.
    house = build(child(CONTROL, notes), [worker_argv(folder, 5000)])
    until(lambda: worker_socket(house.runtime, 0).exists())
    events: list[WorkerEvent] = []
    pool = WorkerPool(
        [worker_socket(house.runtime, 0)], on_event=events.append, advertised_host="127.0.0.1"
    )
    async with pool:
        ports = await pool.open(CALL, [STREAM])
        await pool.start(ONE, CALL, [Track.INBOUND])
        with NumberedSource() as source:
            wanted = source.send(ports[0].rtp_port, 10)
            for generation in (2, 3):
                (state,) = await pool.states()
                os.kill(state.pid, signal.SIGKILL)
                wanted += source.send(ports[0].rtp_port, 10)
                await until_event(events, WorkerEventKind.WORKER_BACK, generation - 1)
                (state,) = await pool.states()
                assert state.generation == generation
                assert await pool.open(CALL, [STREAM]) == ports
                wanted += source.send(ports[0].rtp_port, 10)
            assert [capture.recording_id for capture in await pool.captures()] == [ONE]
            stopped = await pool.stop(ONE)
        assert stopped.packets == len(wanted)
        assert kept_numbers(folder / "journals", ONE) == wanted
        headers = [
            (event["segment"], event["generation"])
            for event in journal_events(folder / "journals", ONE)
            if event["event"] == "segment"
        ]
        assert headers == [(1, 1), (2, 2), (3, 3)]
        await pool.close(CALL)
        assert "media worker 0 died of SIGKILL" in house.log
        # What was given back for good is not given to the next one.
        (state,) = await pool.states()
        os.kill(state.pid, signal.SIGKILL)
        await until_event(events, WorkerEventKind.WORKER_BACK, 3)
        (state,) = await pool.states()
        assert state.calls == ()
        assert WorkerEventKind.CALL_LOST not in {event.kind for event in events}


async def test_many_calls_are_taken_over(build: Build, folder: Path) -> None:
    house = build(
        child(CONTROL, folder / "notes"),
        [
            WorkerSettings(
                "127.0.0.1", 10000, 19999, journal_root=folder / "journals", sweep_ms=5000
            ).to_argv()
        ],
    )
    until(lambda: worker_socket(house.runtime, 0).exists())
    events: list[WorkerEvent] = []
    pool = WorkerPool(
        [worker_socket(house.runtime, 0)], on_event=events.append, advertised_host="127.0.0.1"
    )
    both = [STREAM, Stream(1, Track.OUTBOUND, "127.0.0.1", 40002, STREAM.codecs)]
    async with pool:
        ports = {f"{number:032x}": await pool.open(f"{number:032x}", both) for number in range(300)}
        (state,) = await pool.states()
        os.kill(state.pid, signal.SIGKILL)
        await until_event(events, WorkerEventKind.WORKER_BACK)
        (state,) = await pool.states()
        assert {call.call_id: dict(call.ports) for call in state.calls} == {
            call_id: {number: address.rtp_port for number, address in addresses.items()}
            for call_id, addresses in ports.items()
        }
        house.process.kill()
        house.process.wait()
        # The worker sees that its supervisor is gone, and goes on for whoever commands it.
        assert len((await pool.states())[0].calls) == 300
    until(lambda: is_gone(state.pid))
