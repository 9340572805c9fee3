"""What a worker has no room for is refused with the reason, and what it has is not disturbed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callreel.base.errors import CapacityError
from callreel.capture.memory import MemoryGuard, free_bytes, free_of_group, free_of_machine
from callreel.capture.recorder import Recorder
from callreel.capture.settings import LISTEN_FD, WorkerSettings
from callreel.testing.packets import NumberedSource, kept_numbers
from tests.capture.house import BOTH, CALL, ONE, Bench, free_ports, stream
from tests.capture.test_worker import Process, pool_of

FILES = 104
"""64 are spared, 256 less than the limit would be too few for one socket: see the test."""


class PoorProcess(Process):
    """A worker that may open few files."""

    def start(self) -> None:
        self.settings = replace(self.settings, sweep_ms=50)
        shell = 'ulimit -n "$0" && exec "$@"'
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", shell, str(FILES + 256), *self.settings.to_argv()],
            env={**os.environ, LISTEN_FD: str(self.listener.fileno())},
            pass_fds=[self.listener.fileno()],
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[Process]:
    process = PoorProcess(tmp_path, 0, free_ports(2 * FILES))
    yield process
    process.close()


async def test_few_files(poor: Process) -> None:
    async with pool_of([poor], []) as pool:
        with NumberedSource() as source:
            ports = await pool.open(CALL, [stream()])
            await pool.start(ONE, CALL, BOTH)
            wanted = source.send(ports[0].rtp_port, 5)
            opened = 0
            with pytest.raises(CapacityError, match="file descriptor"):
                for number in range(FILES):
                    await pool.open(f"{number:032x}", [stream()])
                    opened += 1
            # Two sockets each: the limit is that of sockets in the supervisor.
            assert opened == FILES // 2 - 1
            wanted += source.send(ports[0].rtp_port, 5)
            await pool.stop(ONE)
            assert kept_numbers(poor.root, ONE) == wanted
            await pool.close(f"{0:032x}")
            await pool.open("d" * 32, [stream()])


def test_a_call_that_is_open_is_promised_a_journal(tmp_path: Path) -> None:
    settings = WorkerSettings("127.0.0.1", *free_ports(20), journal_root=tmp_path)
    limit = 64 + 2 * (2 + 1)
    recorder = Recorder(settings, on_event=lambda _: None, fd_limit=limit, socket_limit=limit)
    calls = [f"{number:032x}" for number in range(2)]
    for call in calls:
        recorder.open(call, [stream()])
    with pytest.raises(CapacityError):
        recorder.open("d" * 32, [stream()])
    for call in calls:
        recorder.start(call, call, BOTH)
        recorder.close(call)
    recorder._players.close()


def test_little_memory(tmp_path: Path) -> None:
    bench = Bench(tmp_path, free_ports(8))
    bench.recorder.open(CALL, [stream()])
    bench.recorder.start(ONE, CALL, BOTH)
    poor = replace(bench.settings, memory_reserve_mib=1 << 20)
    recorder = Recorder(poor, on_event=lambda _: None)
    with pytest.raises(CapacityError, match="MiB of memory are left"):
        recorder.open("d" * 32, [stream()])
    assert recorder.state(0).calls == ()
    recorder._players.close()
    bench.close()


def test_what_the_machine_says() -> None:
    said = "MemTotal:       24607340 kB\nMemFree:          512000 kB\nMemAvailable:    1048576 kB\n"
    assert free_of_machine(said) == 1 << 30
    assert free_of_machine("nonsense") is None


@pytest.mark.parametrize(
    ("limit", "used", "stat", "free"),
    [
        ("1000000\n", "400000\n", "anon 7\ninactive_file 100000\n", 700_000),
        ("1000000\n", "400000\n", "", 600_000),
        ("max\n", "400000\n", "inactive_file 100000\n", None),
        ("", "", "", None),
    ],
)
def test_what_a_control_group_says(limit: str, used: str, stat: str, free: int | None) -> None:
    assert free_of_group(limit, used, stat) == free


def test_this_machine_says_something() -> None:
    found = free_bytes()
    assert found is not None
    assert found > 0


def test_no_reserve_is_no_limit() -> None:
    MemoryGuard(0).check()
    MemoryGuard(1).check()
    with pytest.raises(CapacityError):
        MemoryGuard(1 << 60).check()
