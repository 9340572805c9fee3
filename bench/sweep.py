"""What capture costs: a media worker with journals, against reading packets to throw them away.

One process sends N streams of 20 ms G.711 over loopback to twice as many sockets: N of a real
worker that records them all, and N that a bare loop empties with ``recvmmsg`` at the same period
and forgets. Both run at the same time, so that whatever else the machine does bears on both; with
more streams than can be sent to both at once, they take turns.
Figures are CPU time of the process, user and system, for each packet taken; what the kernel does
to deliver a packet over loopback is charged to the sender and not in them. The first second, in
which sources are latched, is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import random
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.barrage import Barrage
from callreel.calls.media import Codec, Stream
from callreel.calls.model import Track
from callreel.capture.protocol import FrameReader, Op, Request, encode_frame, request_to_json
from callreel.capture.settings import LISTEN_FD, WorkerSettings
from callreel.capture.sockets import open_socket
from callreel.capture.sweep import BATCH, Sweeper

AUDIO = b"\xd5" * 160
STREAMS = (400, 2000, 6000)
TOGETHER = 1000
"""With more streams the sender has no time for both sides at once: they take turns."""
ROUNDS = 4
PARTS = 10
OURS, THEIRS, BOTH = 0, 1, 2
PACKET_S = 0.02
WARM_UP_S = 1.0


def main() -> int:
    """Measure and print; 1 if a packet was lost."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--streams", type=int, default=0, help="default: 400, 2,000 and 6,000")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--sweep-ms", type=int, default=500)
    options.add_argument("--port", type=int, default=14000, help="first of 4 ports a stream")
    asked = options.parse_args()
    raise_file_limit()
    failed = 0
    for streams in [asked.streams] if asked.streams else STREAMS:
        folder = Path(tempfile.mkdtemp(prefix="callreel-bench-"))
        try:
            failed |= measure(folder, streams, asked.seconds, asked.sweep_ms, asked.port)
        finally:
            shutil.rmtree(folder)
    return failed


def measure(folder: Path, streams: int, seconds: float, sweep_ms: int, port: int) -> int:
    """One run. Calls have two streams each, and each call is recorded."""
    calls = max(1, streams // 2)
    # More room than is needed: other programs have ports too.
    worker = Worker(folder, port, port + 4 * calls + 511, sweep_ms)
    try:
        return run(worker, folder, calls, seconds, sweep_ms)
    finally:
        worker.end()


def run(worker: Worker, folder: Path, calls: int, seconds: float, sweep_ms: int) -> int:
    """Record the calls, discard as many packets, compare."""
    targets: list[int] = []
    tracks = (Track.INBOUND, Track.OUTBOUND)
    for number in range(calls):
        call_id = f"{number:032x}"
        wanted = [
            Stream(index, track, "127.0.0.1", 40000, (Codec(0, "PCMU", 8000),))
            for index, track in enumerate(tracks)
        ]
        opened = worker.ask(Request(Op.OPEN, call_id=call_id, streams=tuple(wanted)))
        targets += opened["ports"].values()
        worker.ask(Request(Op.START, call_id=call_id, recording_id=call_id, tracks=tracks))
    here, there = multiprocessing.Pipe()
    discarder = multiprocessing.Process(target=discard, args=(there, 2 * calls, sweep_ms))
    discarder.start()
    lists = targets, here.recv()
    sender_here, sender_there = multiprocessing.Pipe()
    sender = multiprocessing.Process(target=send, args=(sender_there, lists))
    sender.start()
    # Sources are latched with the first packets, once a call: that is not what is measured.
    warm_rounds, _ = sent_for(sender_here, WARM_UP_S, BOTH, sweep_ms)
    here.send(None)
    _, warm_packets = here.recv()
    together = 2 * calls <= TOGETHER
    whose = [BOTH] if together else [OURS, THEIRS] * ROUNDS
    slice_s = seconds if together else seconds / ROUNDS
    rounds, late_ms, ours_s = 0, 0.0, 0.0
    for who in whose:
        before_s = worker.cpu_s()
        some, late = sent_for(sender_here, slice_s, who, sweep_ms)
        late_ms = max(late_ms, late)
        if who != THEIRS:
            rounds += some
            ours_s += worker.cpu_s() - before_s
    here.send(None)
    floor_s, floor_packets = here.recv()
    here.send("end")
    sender_here.send(None)
    sender.join()
    discarder.join()
    kept = 0
    for number in range(calls):
        kept += worker.ask(Request(Op.STOP, recording_id=f"{number:032x}"))["packets"]
    warm = warm_rounds * 2 * calls
    kept -= warm
    warm_lost = warm - warm_packets
    sent = rounds * 2 * calls
    journals = sum(path.stat().st_size for path in folder.rglob("*.seg"))
    ours_us, floor_us = ours_s / kept * 1e6, floor_s / floor_packets * 1e6
    how = "both at once" if together else "in turns"
    print(
        f"{calls} calls of two streams, {rounds * PACKET_S:.1f} s, sweep every {sweep_ms} ms, {how}"
    )
    print(f"sender         {sent} packets to each, at most {late_ms:.0f} ms late")
    print(f"discarded      {floor_packets} packets, {floor_us:.2f} us of CPU a packet")
    print(f"journaled      {kept} packets, {ours_us:.2f} us of CPU a packet, {journals} bytes")
    print(f"ratio          {ours_us / floor_us:.2f}")
    print(f"a call-second  {ours_us / PACKET_S * 2 / 1000:.3f} ms of CPU")
    print(f"lost           {sent - kept} of ours, {sent - floor_packets + warm_lost} of the others")
    return 0 if sent == kept else 1


def sent_for(sender: Connection, seconds: float, who: int, sweep_ms: int) -> tuple[int, float]:
    """Have packets sent for so long, and swept; how many rounds, how late at most."""
    sender.send((seconds, who))
    rounds, late_ms = sender.recv()
    time.sleep(2 * sweep_ms / 1000)
    return rounds, late_ms


class Worker:
    """A real media worker and a blocking connection to it."""

    def __init__(self, folder: Path, low: int, high: int, sweep_ms: int) -> None:
        settings = WorkerSettings(
            "127.0.0.1", low, high, journal_root=folder / "journals", sweep_ms=sweep_ms
        )
        path = os.fspath(folder / "worker.sock")
        self._replies = FrameReader()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen()
            self._process = subprocess.Popen(
                settings.to_argv(),
                env={**os.environ, LISTEN_FD: str(listener.fileno())},
                pass_fds=[listener.fileno()],
            )
            self._sock.connect(path)

    def ask(self, request: Request) -> dict[str, Any]:
        """The answer to a request."""
        self._sock.sendall(encode_frame({"id": 1, **request_to_json(request)}))
        while True:
            for value in self._replies.feed(self._sock.recv(1 << 16)):
                if value.get("id") == 1:
                    if "error" in value:
                        raise SystemExit(json.dumps(value))
                    answer: dict[str, Any] = value["ok"]
                    return answer

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def cpu_s(self) -> float:
        """CPU time of the process so far, in nanosecond steps."""
        clock = ctypes.c_int()
        libc = ctypes.CDLL(None)
        if libc.clock_getcpuclockid(self._process.pid, ctypes.byref(clock)):
            raise SystemExit("cannot read the worker's CPU time")
        return time.clock_gettime(clock.value)

    def end(self) -> None:
        """End the process."""
        self._sock.close()
        self._process.terminate()
        self._process.wait()


def discard(pipe: Connection, streams: int, sweep_ms: int) -> None:
    """The floor: empty the sockets at the same period, and do nothing with what is in them."""
    sockets = [open_socket("127.0.0.1", 0) for _ in range(streams)]
    for sock in sockets:
        # The worker's sockets filter by address too; that happens in the kernel, on delivery.
        sock.setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER
    fds = [sock.fileno() for sock in sockets]
    sweeper = Sweeper(socket.AF_INET)
    selector = selectors.DefaultSelector()
    selector.register(pipe, selectors.EVENT_READ)
    packets = 0
    pipe.send([sock.getsockname()[1] for sock in sockets])
    started_s = time.process_time()
    due = time.monotonic() + sweep_ms / 1000
    while True:
        asked = bool(selector.select(max(0, due - time.monotonic())))
        due += 0 if asked else sweep_ms / 1000
        for fd in fds:
            n = BATCH
            while n == BATCH:
                n = sweeper.receive(fd)
                packets += n
        if asked:
            if pipe.recv() == "end":
                return
            pipe.send((time.process_time() - started_s, packets))
            started_s, packets = time.process_time(), 0


def send(pipe: Connection, lists: tuple[list[int], list[int]]) -> None:
    """A packet to every port of either list or both each 20 ms, spread over that time; how many
    rounds, how late."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        rng = random.Random(1)
        parts = [
            [
                Barrage(sock, [("127.0.0.1", port) for port in ports[part::PARTS]], [[AUDIO]], rng)
                for part in range(PARTS)
            ]
            for ports in lists
        ]
        while (told := pipe.recv()) is not None:
            seconds, who = told
            rounds = round(seconds / PACKET_S)
            started = time.monotonic()
            latest = 0.0
            stamps = array("q")
            for number in range(rounds * PARTS):
                due = started + number * PACKET_S / PARTS
                late = time.monotonic() - due
                latest = max(latest, late)
                if late < 0:
                    time.sleep(-late)
                for list_number, barrages in enumerate(parts):
                    if who in (BOTH, list_number):
                        barrages[number % PARTS].fire(number // PARTS, stamps)
            pipe.send((rounds, latest * 1000))


def raise_file_limit() -> None:
    """As many descriptors as there may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
