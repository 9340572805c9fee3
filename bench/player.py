"""A media worker that plays: CPU a packet, beside a bare loop that sends as many.

``python -m bench player --help``. One process plays all parties and counts what it hears; each call
is played one prompt over and over. The floor sends packets of the same length every 20 ms, from as
many sockets, with ``sendto`` and nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.figures import show
from bench.sweep import Worker, raise_file_limit
from callreel.calls.media import Codec, Stream
from callreel.calls.model import Track
from callreel.calls.voice import Prompt
from callreel.capture.protocol import Op, Request

PACKET_BYTES = 172
FRAME_S = 0.02
PROMPT_SECONDS = 3600


def main() -> int:
    """Run; 1 if a packet is missing."""
    options = argparse.ArgumentParser(prog="python -m bench player")
    options.add_argument("--calls", type=int, default=500, help="calls that are played to")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--record", action="store_true", help="record them all")
    options.add_argument("--port", type=int, default=14000, help="first of 4 ports a call")
    asked = options.parse_args()
    raise_file_limit()
    folder = Path(tempfile.mkdtemp(prefix="callreel-bench-"))
    parties = Parties(asked.calls)
    try:
        floor = run_floor(parties, asked.seconds)
        ours, flawless = run_worker(parties, folder, asked.seconds, asked.port, asked.record)
    finally:
        parties.end()
        shutil.rmtree(folder)
    show("playing, of the floor's", f"{ours / floor:.2f} times the CPU a packet")
    return 0 if flawless else 1


class Parties:
    """The process that plays all parties: it counts what each of them hears."""

    def __init__(self, count: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_hear, args=(theirs, count), daemon=True)
        self._process.start()
        self.ports: list[int] = self._pipe.recv()
        """Where each is reached."""

    def heard(self) -> tuple[int, int]:
        """Packets since this was last asked, and how many of them did not follow the one before."""
        self._pipe.send(None)
        found: tuple[int, int] = self._pipe.recv()
        return found

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def run_floor(parties: Parties, seconds: float) -> float:
    """The bare loop; its CPU a packet, in µs."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_send, args=(there, parties.ports, seconds))
    process.start()
    cpu_s, sent = here.recv()
    process.join()
    heard, _ = parties.heard()
    cpu_us: float = cpu_s / sent * 1e6
    print(f"{len(parties.ports)} calls, {seconds:.0f} s, a bare loop of sendto")
    show("packets sent, heard", f"{sent}, {heard}")
    show("CPU of the loop", f"{cpu_us:.1f} us a packet, {100 * cpu_s / seconds:.0f} % of a core")
    return cpu_us


def run_worker(
    parties: Parties, folder: Path, seconds: float, port: int, record: bool
) -> tuple[float, bool]:
    """The media worker; its CPU a packet, in µs, and whether every packet came, in order."""
    calls = len(parties.ports)
    prompt = folder / "prompt.s16"
    noise = np.random.default_rng(1).integers(-8000, 8000, 8000).astype("<i2").tobytes()
    prompt.write_bytes(noise * PROMPT_SECONDS)
    worker = Worker(folder, port, port + 4 * calls - 1, 500)
    try:
        for number, party in enumerate(parties.ports):
            call_id = f"{number:032x}"
            codecs = (Codec(0, "PCMU", 8000),)
            stream = Stream(0, Track.INBOUND, "127.0.0.1", party, codecs)
            worker.ask(Request(Op.OPEN, call_id=call_id, streams=(stream,)))
            worker.ask(Request(Op.ATTEND, call_id=call_id))
            worker.ask(
                Request(Op.PLAY, call_id=call_id, play_id="1", token="1", sounds=(Prompt(prompt),))
            )
            if record:
                tracks = (Track.OUTBOUND,)
                worker.ask(Request(Op.START, call_id=call_id, recording_id=call_id, tracks=tracks))
        time.sleep(0.5)
        parties.heard()
        before_s, before = worker.cpu_s(), worker.ask(Request(Op.LIST))["played"]
        time.sleep(seconds)
        cpu_s, state = worker.cpu_s() - before_s, worker.ask(Request(Op.LIST))
    finally:
        worker.end()
    time.sleep(0.2)
    heard, disordered = parties.heard()
    sent = state["played"] - before
    print(f"{calls} calls, {seconds:.0f} s, each is played a prompt" + ", recorded" * record)
    cpu_us = cpu_s / sent * 1e6
    show("packets sent, heard", f"{sent}, {heard}")
    show("out of order or missing", f"{disordered}")
    show("not taken by the kernel", f"{state['unsent']}")
    show("due in that time", f"{round(calls * seconds / FRAME_S)}")
    show("CPU of the worker", f"{cpu_us:.1f} us a packet, {100 * cpu_s / seconds:.0f} % of a core")
    return cpu_us, not disordered and not state["unsent"]


def _hear(pipe: Connection, count: int) -> None:
    """The parties. Each is looked at five times a second."""
    socks = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        socks.append(sock)
    pipe.send([sock.getsockname()[1] for sock in socks])
    last: list[int | None] = [None] * count
    heard = disordered = 0
    while True:
        asked = pipe.poll(0.2)
        for number, sock in enumerate(socks):
            while True:
                try:
                    packet = sock.recv(2048)
                except BlockingIOError:
                    break
                heard += 1
                sequence = int.from_bytes(packet[2:4], "big")
                before = last[number]
                disordered += before is not None and sequence != (before + 1) & 0xFFFF
                last[number] = sequence
        if asked:
            pipe.recv()
            pipe.send((heard, disordered))
            heard = disordered = 0
            last = [None] * count


def _send(pipe: Connection, ports: Sequence[int], seconds: float) -> None:
    """The floor."""
    pairs = []
    for port in ports:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind(("127.0.0.1", 0))
        pairs.append((sock, ("127.0.0.1", port)))
    packet = bytes(PACKET_BYTES)
    started_s, started = time.process_time(), time.monotonic()
    frames = round(seconds / FRAME_S)
    for frame in range(frames):
        for sock, to in pairs:
            sock.sendto(packet, to)
        if (early_s := started + (frame + 1) * FRAME_S - time.monotonic()) > 0:
            time.sleep(early_s)
    pipe.send((time.process_time() - started_s, frames * len(pairs)))


if __name__ == "__main__":
    sys.exit(main())
