"""A recorder on loopback and a supervisor that is played; sweeps and relaying on command."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from callreel.calls.media import Codec, Stream
from callreel.calls.model import Track
from callreel.capture.protocol import WorkerEvent, WorkerEventKind
from callreel.capture.recorder import Recorder
from callreel.capture.settings import WorkerSettings
from callreel.testing.packets import NumberedSource, kept_numbers
from tests.ports import WORKER

CALL = "c" * 32
OTHER = "d" * 32
ONE = "1" * 32
TWO = "2" * 32
BOTH = (Track.INBOUND, Track.OUTBOUND)
PCMU = Codec(0, "PCMU", 8000)


def stream(number: int = 0, track: Track = Track.INBOUND, host: str = "127.0.0.1") -> Stream:
    return Stream(number, track, host, 40000, (PCMU,), label=str(number))


class Keep:
    """Plays the supervisor: keeps duplicates of what it is given."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[bytes, list[int]]] = {}

    def hold(self, key: str, blob: bytes, fds: Sequence[int]) -> None:
        self.release(key)
        self.held[key] = (blob, [os.dup(fd) for fd in fds])

    def state(self, key: str, blob: bytes) -> None:
        self.held[key] = (blob, self.held[key][1])

    def release(self, key: str) -> None:
        for fd in self.held.pop(key, (b"", []))[1]:
            os.close(fd)


class Bench:
    """A recorder on loopback, and what it tells."""

    def __init__(self, root: Path, ports: tuple[int, int], host: str = "127.0.0.1") -> None:
        self.root = root
        self.events: list[WorkerEvent] = []
        self.keep = Keep()
        self.settings = WorkerSettings(host, *ports, journal_root=root)
        self.recorder = self.new_recorder(1)

    def new_recorder(self, generation: int) -> Recorder:
        return Recorder(
            self.settings,
            on_event=self.events.append,
            keeper=self.keep,
            generation=generation,
            fd_limit=400,
            socket_limit=400,
        )

    def sweep(self, times: int = 1) -> None:
        for _ in range(times):
            self.recorder.sweep(time.monotonic_ns() + 2_000_000_000, calls=1000)

    def relay(self) -> None:
        """Relay until nothing is left to do."""
        waiting = select.poll()
        waiting.register(self.recorder.relay_fileno(), select.POLLIN)
        while waiting.poll(0):
            self.recorder.relay()

    def play(self, seconds: float) -> None:
        """Play, relay and hear for so long, as a worker does."""
        until_ns = time.monotonic_ns() + round(seconds * 1e9)
        while (left_ns := until_ns - time.monotonic_ns()) > 0:
            self.step(left_ns / 1e9)

    def step(self, timeout_s: float = 1.0) -> None:
        """Wait for something to play or to relay, and do some of it."""
        waiting = select.poll()
        waiting.register(self.recorder.relay_fileno(), select.POLLIN)
        waiting.register(self.recorder.players_fileno(), select.POLLIN)
        for fd, _ in waiting.poll(timeout_s * 1000):
            if fd == self.recorder.relay_fileno():
                self.recorder.relay()
            else:
                self.recorder.play_on()

    def play_until(self, kind: WorkerEventKind, count: int = 1) -> list[WorkerEvent]:
        """Play until so many of these were told."""
        until_ns = time.monotonic_ns() + 10_000_000_000
        while len(self.told(kind)) < count:
            assert time.monotonic_ns() < until_ns, f"no {kind}"
            self.step()
        return self.told(kind)

    def close(self) -> None:
        for call in self.recorder.state(0).calls:
            self.recorder.close(call.call_id)
        for key in list(self.keep.held):
            self.keep.release(key)
        self.recorder._players.close()

    def kept(self, recording_id: str = ONE, number: int = 0) -> list[int]:
        return kept_numbers(self.root, recording_id, number)

    def told(self, kind: WorkerEventKind) -> list[WorkerEvent]:
        return [event for event in self.events if event.kind is kind]

    def restart(self) -> None:
        """The worker is killed: nothing of it is left but what the supervisor holds."""
        for call in self.recorder._calls.values():
            for live in call.streams.values():
                live.rtp.sock.close()
                live.rtcp.sock.close()
        self.recorder._players.close()
        self.recorder = self.new_recorder(2)
        for key, (blob, fds) in list(self.keep.held.items()):
            self.recorder.take_over(key, blob, [os.dup(fd) for fd in fds])
        self.recorder.go_on()


def free_ports(count: int, host: str = "127.0.0.1") -> tuple[int, int]:
    """A range of that many ports, free a moment ago, the first one even."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for low in range(20000 + WORKER % 4 * 3000 + os.getpid() % 100 * 20, 32000, 2 * count):
        try:
            for port in range(low, low + count):
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return low, low + count - 1
    raise AssertionError("no free ports")


class Party(NumberedSource):
    """Somebody on the phone: sends numbered packets, and hears what is sent to it."""

    def __init__(self, host: str = "127.0.0.1", *, ssrc: int = 0x11223344) -> None:
        super().__init__(host, ssrc=ssrc)
        self.rtcp = socket.socket(self.sock.family, socket.SOCK_DGRAM)
        while True:
            try:
                self.rtcp.bind((host, self.port + 1))
                break
            except (OSError, OverflowError):
                self.sock.close()
                self.sock = socket.socket(self.rtcp.family, socket.SOCK_DGRAM)
                self.sock.bind((host, 0))
                self.port = int(self.sock.getsockname()[1])
        for sock in (self.sock, self.rtcp):
            sock.setblocking(False)

    def stream(self, number: int = 0) -> Stream:
        """As its SDP tells it."""
        return Stream(number, Track.INBOUND, self.host, self.port, (PCMU,), participant=self.name)

    @property
    def name(self) -> str:
        return f"sip:{self.ssrc:x}@example.org"

    def send_bytes(self, data: bytes, port: int, *, rtcp: bool = False) -> None:
        (self.rtcp if rtcp else self.sock).sendto(data, (self.host, port))

    def received(self, *, rtcp: bool = False) -> list[bytes]:
        """The datagrams that have come."""
        found: list[bytes] = []
        sock = self.rtcp if rtcp else self.sock
        while True:
            try:
                found.append(sock.recv(4096))
            except BlockingIOError:
                return found

    def heard(self) -> list[int]:
        """The sequence numbers of the packets that have come."""
        return [int.from_bytes(data[2:4], "big") for data in self.received()]

    def close(self) -> None:
        super().close()
        self.rtcp.close()
