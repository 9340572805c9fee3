"""What a relayed call costs and waits: bridged, recorded calls through a real media worker.

One process plays all parties: each sends 20 ms of G.711 fifty times a second, with the wall clock
in its payload, and hears what comes back with the kernel's stamp on it. The difference is the delay
that was added: waiting for the relay, relaying, and twice the loopback. First a bare loop of
``recvmmsg`` and ``sendmmsg`` relays between them, without filters, sources or journals: the floor.
Then the worker does, and records every call in stereo. CPU time is the relaying process's own; what
the kernel does to deliver a packet is charged to whoever sends it, and so is in both figures.

With ``--srtp`` the first party of each call speaks SRTP and the second does not, so that the worker
undoes and does it for each packet.
"""

from __future__ import annotations

import argparse
import multiprocessing
import select
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.figures import show
from bench.sweep import Worker, raise_file_limit
from callreel.calls.media import Codec, Srtp, Stream
from callreel.calls.model import Track
from callreel.capture.outgoing import Outgoing
from callreel.capture.protocol import Op, Request
from callreel.capture.sockets import SO_TIMESTAMPNS
from callreel.capture.sweep import BATCH, Sweeper
from callreel.wire.sdes import Key, Suite
from callreel.wire.srtp import Protector, Unprotector

FRAME_S = 0.02
PHASES = 20
"""Parties are spread over this many instants of each 20 ms, as calls that began apart are."""
PACKET_BYTES = 172
WARM_UP_S = 1.0
_HEAD = struct.Struct(">BBHIIq")
_BUFFER_BYTES = 1 << 20
BOTH = (Track.INBOUND, Track.OUTBOUND)


@dataclass(slots=True)
class Heard:
    """What the parties heard of one run."""

    sent: int = 0
    """Packets they sent."""
    received: int = 0
    """Packets that came."""
    disordered: int = 0
    """Parties that did not hear each packet once and in order."""
    refused: int = 0
    """Packets that the kernel did not take from them."""
    late_ms: float = 0.0
    """How late a burst was sent at worst."""
    delay_ms: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """From sending to arrival, of each packet but those of the first second."""


def main() -> int:
    """Measure and print; 1 if a packet was lost."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--calls", type=int, default=100, help="bridged calls, of two parties each"
    )
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--sweep-ms", type=int, default=500)
    options.add_argument(
        "--srtp",
        choices=[one.value for one in Suite],
        help="one leg of each call is SRTP in this suite, the other is not",
    )
    options.add_argument("--port", type=int, default=14000, help="first of 8 ports a call")
    asked = options.parse_args()
    raise_file_limit()
    folder = Path(tempfile.mkdtemp(prefix="callreel-bench-"))
    parties = Parties(2 * asked.calls)
    try:
        floor = run_floor(parties, min(asked.seconds, 10.0))
        suite = None if asked.srtp is None else Suite(asked.srtp)
        ours = run_worker(parties, folder, asked.seconds, asked.sweep_ms, asked.port, suite)
    finally:
        parties.end()
        shutil.rmtree(folder)
    show("added, of the floor's", f"{ours / floor:.2f} times the CPU a packet")
    return 0 if parties.flawless else 1


class Parties:
    """The process that plays all parties. The first and second are in a call, and so on."""

    def __init__(self, count: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_play, args=(theirs, count), daemon=True)
        self._process.start()
        self.ports: list[int] = self._pipe.recv()
        """Where each is reached."""
        self.flawless = True
        """Whether every packet so far was heard once, in order."""

    def talk(self, targets: Sequence[int], seconds: float, suite: Suite | None = None) -> Heard:
        """Have each send to its target for so long; with a ``suite`` every other one by SRTP."""
        self._pipe.send((list(targets), seconds, suite))
        heard: Heard = self._pipe.recv()
        self.flawless &= heard.sent == heard.received and not heard.disordered
        return heard

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def run_floor(parties: Parties, seconds: float) -> float:
    """The bare loop; its CPU a packet, in µs."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_relay, args=(there, parties.ports), daemon=True)
    process.start()
    targets = here.recv()
    heard = parties.talk(targets, seconds)
    here.send(None)
    cpu_s: float = here.recv()
    process.join()
    cpu_us = cpu_s / heard.received * 1e6
    print(f"{len(targets) // 2} bridged calls, {seconds:.0f} s, a bare loop without recording")
    _show(heard, cpu_us, cpu_s / seconds)
    return cpu_us


def key_of(number: int, suite: Suite) -> Key:
    """What a party sends with; what it is sent is protected with that of the next one."""
    return Key(suite, (number.to_bytes(4, "big") * 11)[: suite.key_bytes])


def run_worker(
    parties: Parties,
    folder: Path,
    seconds: float,
    sweep_ms: int,
    port: int,
    suite: Suite | None = None,
) -> float:
    """The media worker, all calls recorded; its CPU a packet, in µs."""
    calls = len(parties.ports) // 2
    # Twice the room that is needed: other programs have ports too.
    worker = Worker(folder, port, port + 8 * calls - 1, sweep_ms)
    try:
        targets = []
        for number, party in enumerate(parties.ports):
            srtp = None
            if suite is not None and number % 2 == 0:
                receive, send = key_of(number, suite), key_of(number + 1, suite)
                srtp = Srtp(receive, send, sealed="none")
            codecs = (Codec(0, "PCMU", 8000),)
            stream = Stream(0, Track.INBOUND, "127.0.0.1", party, codecs, srtp=srtp)
            opened = worker.ask(Request(Op.OPEN, call_id=f"{number:032x}", streams=(stream,)))
            targets.append(opened["ports"]["0"])
        for number in range(0, 2 * calls, 2):
            call_id, other_id = f"{number:032x}", f"{number + 1:032x}"
            worker.ask(Request(Op.BRIDGE, call_id=call_id, other_call_id=other_id))
            worker.ask(Request(Op.START, call_id=call_id, recording_id=call_id, tracks=BOTH))
        before_s = worker.cpu_s()
        heard = parties.talk(targets, seconds, suite)
        time.sleep(2 * sweep_ms / 1000)
        cpu_s = worker.cpu_s() - before_s
        kept = sum(
            worker.ask(Request(Op.STOP, recording_id=f"{number:032x}"))["packets"]
            for number in range(0, 2 * calls, 2)
        )
    finally:
        worker.end()
    print(
        f"{calls} bridged calls, {seconds:.0f} s, all recorded in stereo, swept each {sweep_ms} ms"
        + ("" if suite is None else f", one leg of each {suite.value}")
    )
    cpu_us = cpu_s / heard.received * 1e6
    _show(heard, cpu_us, cpu_s / seconds)
    show("recorded", f"{kept} packets of {heard.sent}")
    parties.flawless &= kept == heard.sent
    return cpu_us


def _show(heard: Heard, cpu_us: float, share: float) -> None:
    show("packets in, packets out", f"{heard.sent}, {heard.received}")
    show("parties that missed some", f"{heard.disordered}")
    if heard.refused:
        show("not taken from the parties", f"{heard.refused}")
    p50, p99, p999 = np.percentile(heard.delay_ms, [50, 99, 99.9])
    show(
        "added delay",
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms, "
        f"at most {heard.delay_ms.max():.2f} ms",
    )
    show("sent late, at most", f"{heard.late_ms:.1f} ms")
    show("CPU of the relay", f"{cpu_us:.1f} us a packet, {100 * share:.0f} % of a core")


def _play(pipe: Connection, count: int) -> None:
    """The parties: send on time, hear what came in between."""
    socks = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        socks.append(sock)
    pipe.send([sock.getsockname()[1] for sock in socks])
    while True:
        targets, seconds, suite = pipe.recv()
        pipe.send(_talk(socks, [("127.0.0.1", port) for port in targets], seconds, suite))


def _talk(
    socks: Sequence[socket.socket],
    targets: Sequence[tuple[str, int]],
    seconds: float,
    suite: Suite | None,
) -> Heard:
    heard = Heard()
    secure = range(0, 0 if suite is None else len(socks), 2)
    protectors = {number: Protector(key_of(number, suite)) for number in secure if suite}
    unprotectors = {number: Unprotector(key_of(number + 1, suite)) for number in secure if suite}
    tag_bytes = 0 if suite is None else suite.tag_bytes
    sweeper = Sweeper(socket.AF_INET)
    came: list[list[NDArray[np.uint8]]] = [[] for _ in socks]
    stamps: list[list[NDArray[np.int64]]] = [[] for _ in socks]
    padding = b"\xd5" * (PACKET_BYTES - _HEAD.size)
    frames = round(seconds / FRAME_S)
    phases = [range(phase, len(socks), PHASES) for phase in range(PHASES)]
    pack, wall_ns, monotonic = _HEAD.pack, time.time_ns, time.monotonic

    def hear(number: int) -> None:
        while True:
            n = sweeper.receive(socks[number].fileno())
            if not n:
                return
            shape = sweeper.uniform(n)
            size = PACKET_BYTES + (tag_bytes if number in secure else 0)
            if shape is None or shape[0] != size:
                heard.disordered += 1
                continue
            batch = sweeper.take_uniform(n, shape)
            data = batch.data
            if number in secure:
                unprotect = unprotectors[number].rtp
                clear = [unprotect(data[at : at + size]) for at in range(0, n * size, size)]
                data = b"".join(one for one in clear if isinstance(one, bytes))
                if len(data) != n * PACKET_BYTES:
                    heard.disordered += 1
                    continue
            came[number].append(np.frombuffer(data, np.uint8).reshape(n, PACKET_BYTES))
            stamps[number].append(batch.stamps_ns)
            if n < BATCH:
                return

    started = monotonic() + 0.05
    for burst in range(frames * PHASES):
        frame, phase = divmod(burst, PHASES)
        due = started + burst * FRAME_S / PHASES
        if (early_s := due - monotonic()) > 0:
            time.sleep(early_s)
        heard.late_ms = max(heard.late_ms, (monotonic() - due) * 1000)
        for number in phases[phase]:
            # Even numbers from 0 on by pairs: who sends what is told by the SSRC.
            packet = pack(0x80, 0, frame & 0xFFFF, frame * 160, number, wall_ns()) + padding
            if number in secure:
                packet = protectors[number].rtp(packet) or b""
            try:
                socks[number].sendto(packet, targets[number])
                heard.sent += 1
            except OSError:
                heard.refused += 1
        if frame % 10 == 9:
            # Each party hears five times a second, when it is not its turn to speak.
            for number in phases[phase]:
                hear(number)
    time.sleep(0.3)
    delays = []
    for number in range(len(socks)):
        hear(number)
        if not came[number]:
            heard.disordered += 1
            continue
        packets = np.concatenate(came[number])
        sequence = packets[:, 2:4].copy().view(">u2")[:, 0]
        ssrc = packets[:, 8:12].copy().view(">u4")[:, 0]
        in_order = np.array_equal(sequence, np.arange(frames) & 0xFFFF)
        heard.disordered += not (in_order and (ssrc == (number ^ 1)).all())
        heard.received += len(packets)
        sent_ns = packets[:, 12:20].copy().view(">i8")[:, 0].astype(np.int64)
        delay = (np.concatenate(stamps[number]) - sent_ns) / 1e6
        delays.append(delay[round(WARM_UP_S / FRAME_S) :])
    heard.delay_ms = np.concatenate(delays)
    return heard


def _relay(pipe: Connection, ports: Sequence[int]) -> None:
    """The floor: from each socket to the party that the socket beside it is for."""
    sweeper = Sweeper(socket.AF_INET)
    out = Outgoing(sweeper)
    epoll = select.epoll()
    epoll.register(pipe.fileno(), select.EPOLLIN)
    socks = []
    ways: dict[int, tuple[int, bytes]] = {}
    for _ in ports:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind(("127.0.0.1", 0))
        epoll.register(sock.fileno(), select.EPOLLIN)
        socks.append(sock)
    for number, sock in enumerate(socks):
        to = struct.pack("=H", socket.AF_INET) + struct.pack("!H", ports[number ^ 1])
        to += socket.inet_aton("127.0.0.1") + bytes(8)
        ways[sock.fileno()] = (socks[number ^ 1].fileno(), to)
    pipe.send([sock.getsockname()[1] for sock in socks])
    started_s = time.process_time()
    while True:
        for fd, _ in epoll.poll():
            if fd == pipe.fileno():
                pipe.send(time.process_time() - started_s)
                return
            n = sweeper.receive(fd, 32)
            if n:
                through, to = ways[fd]
                out.send(through, to, n, PACKET_BYTES)


if __name__ == "__main__":
    sys.exit(main())
