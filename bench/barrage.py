"""RTP by the hundred thousand a second from one process: ``sendmmsg`` from one socket to many.

One packet in Python costs more than its way through the kernel, and a generator that cannot keep
up says nothing of who is measured. Here a burst's headers are made by numpy and sent by a call for
each 64. All streams of a process come from one socket, each with an SSRC of its own; the wall clock
is read before and after each such call, so that it is known to the chunk what was sent when.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from bench.rtp_load import PHASES, TONES_HZ, Stream
from callreel.capture.outgoing import libc_sendmmsg
from callreel.capture.sweep import HEADER
from callreel.phone.sender import FRAME_S
from callreel.phone.sources import FRAME_SAMPLES, encode_source, parse_source

CHUNK = 64
"""Packets sent by one call."""
_HEAD = np.dtype(
    [("first", "u1"), ("second", "u1"), ("sequence", ">u2"), ("timestamp", ">u4"), ("ssrc", ">u4")]
)
_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Barraged:
    """What a process sent, and when. Rows are chunks: the streams of one are sent together."""

    chunk_of: NDArray[np.int64]
    """In which chunk each stream is; int64[streams]."""
    before_ns: NDArray[np.int64]
    """Wall time just before each chunk; int64[chunks, frames]."""
    after_ns: NDArray[np.int64]
    """Wall time just after it; the same shape."""
    refused: int
    """Packets that the kernel did not take."""
    lateness_ms: NDArray[np.float64]
    """How late each burst began after its due time."""
    cpu_s: float
    """CPU time it took."""

    @property
    def packets(self) -> int:
        """Sent in all."""
        return len(self.chunk_of) * int(self.before_ns.shape[1])

    def between(self, stream: int, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Packets that a stream surely sent within an interval, and those it may have."""
        chunk = self.chunk_of[stream]
        before, after = self.before_ns[chunk], self.after_ns[chunk]
        surely = np.count_nonzero((before >= start_ns) & (after <= end_ns))
        perhaps = np.count_nonzero((after >= start_ns) & (before <= end_ns))
        return int(surely), int(perhaps)


class Barrage:
    """Packets to many addresses, one to each. ``remotes`` are IPv4; ``payloads``, one for each
    frame that there is, are sent in turn."""

    def __init__(
        self,
        sock: socket.socket,
        remotes: Sequence[tuple[str, int]],
        payloads: Sequence[Sequence[bytes]],
        rng: random.Random,
    ) -> None:
        n = len(remotes)
        self._fd = sock.fileno()
        self._send = libc_sendmmsg()
        self._heads = np.zeros(n, _HEAD)
        self._heads["first"] = 0x80
        self._heads["sequence"] = [rng.getrandbits(16) for _ in remotes]
        self._heads["timestamp"] = [rng.getrandbits(32) for _ in remotes]
        self._heads["ssrc"] = [rng.getrandbits(32) for _ in remotes]
        names = b"".join(
            struct.pack("=H", socket.AF_INET)
            + struct.pack(">H", port)
            + socket.inet_aton(host)
            + bytes(8)
            for host, port in remotes
        )
        self._names = np.frombuffer(bytearray(names), np.uint8)
        # All frames of all sources in a row, to be pointed at.
        length = len(payloads[0][0])
        self._audio = np.frombuffer(b"".join(b"".join(one) for one in payloads), np.uint8)
        firsts = np.cumsum([0, *(len(one) for one in payloads[:-1])])
        at = np.array([firsts[row % len(payloads)] for row in range(n)])
        self._period = np.array([len(payloads[row % len(payloads)]) for row in range(n)])
        self._base = self._audio.ctypes.data + at * length
        self._length = length
        self._iovecs = np.zeros((n, 2, 2), np.uintp)
        self._iovecs[:, 0, 0] = self._heads.ctypes.data + np.arange(n) * _HEAD.itemsize
        self._iovecs[:, 0, 1] = _HEAD.itemsize
        self._iovecs[:, 1, 1] = length
        self._messages = np.zeros(n, HEADER)
        self._messages["name"] = self._names.ctypes.data + np.arange(n) * 16
        self._messages["namelen"] = 16
        self._messages["iov"] = self._iovecs.ctypes.data + np.arange(n) * 32
        self._messages["iovlen"] = 2
        self._address = self._messages.ctypes.data
        self._n = n
        self.refused = 0
        """Packets that the kernel did not take, ever."""

    def fire(self, frame: int, stamps: array[int]) -> None:
        """Send the next packet to each, the ``frame``-th; a wall-clock stamp before each chunk,
        and one after the last."""
        self._iovecs[:, 1, 0] = self._base + frame % self._period * self._length
        now = time.time_ns
        for first in range(0, self._n, CHUNK):
            many = min(CHUNK, self._n - first)
            stamps.append(now())
            at = self._address + first * HEADER.itemsize
            while many:
                sent: int = self._send(self._fd, at, many, 0)
                if sent <= 0:
                    self.refused += 1
                    sent = 1
                many -= sent
                at += sent * HEADER.itemsize
        stamps.append(now())
        self._heads["sequence"] += 1
        self._heads["timestamp"] += FRAME_SAMPLES


class BarrageProcess:
    """As ``LoadProcess``, for streams that are only sent."""

    def __init__(self, stream_count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        port = self._pipe.recv()
        self.streams = [Stream(port) for _ in range(stream_count)]
        """Its streams; all of one port."""

    def start(self, at_monotonic: float) -> None:
        """Begin to send to each stream's remote."""
        self._pipe.send(([stream.remote for stream in self.streams], at_monotonic))

    def finish(self) -> Barraged:
        """Stop sending; what was sent."""
        self._pipe.send(None)
        sent: Barraged = self._pipe.recv()
        self._process.join()
        return sent

    def kill(self) -> None:
        """End the process whatever it is doing."""
        self._process.kill()
        self._process.join()


def _main(pipe: Connection) -> None:
    with contextlib.suppress(OSError):
        # It is the world outside: that does not wait for whoever is measured.
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        pipe.send(sock.getsockname()[1])
        told = pipe.recv()
        if told is not None:
            pipe.send(_send(pipe, sock, *told))


def _send(
    pipe: Connection, sock: socket.socket, remotes: Sequence[tuple[str, int]], at_monotonic: float
) -> Barraged:
    rng = random.Random(os.getpid())
    payloads = []
    for hz in TONES_HZ:
        source = encode_source(parse_source(f"tone:{hz}"), "PCMU")
        payloads.append([source.frame(number) for number in range(50)])
    # Streams of one phase are neighbours, and even and odd ones alternate among them.
    members = [
        [row for row in range(len(remotes)) if row // len(TONES_HZ) % PHASES == phase]
        for phase in range(PHASES)
    ]
    phases = [Barrage(sock, [remotes[row] for row in rows], payloads, rng) for rows in members]
    stamps = [array("q") for _ in phases]
    lateness_ms = array("d")
    cpu_started = time.process_time()
    for burst in itertools.count():
        frame, phase = divmod(burst, PHASES)
        if phase == 0 and pipe.poll():
            pipe.recv()
            break
        due = at_monotonic + burst * FRAME_S / PHASES
        if (early_s := due - time.monotonic()) > 0:
            time.sleep(early_s)
        lateness_ms.append((time.monotonic() - due) * 1000)
        phases[phase].fire(frame, stamps[phase])
    cpu_s = time.process_time() - cpu_started
    frames = burst // PHASES
    chunk_of = np.zeros(len(remotes), np.int64)
    before: list[NDArray[np.int64]] = []
    after: list[NDArray[np.int64]] = []
    for rows, noted in zip(members, stamps, strict=True):
        chunk_of[rows] = sum(len(one) for one in before) + np.arange(len(rows)) // CHUNK
        table = np.frombuffer(noted, np.int64).reshape(frames, -1).T
        before.append(table[:-1])
        after.append(table[1:])
    return Barraged(
        chunk_of,
        np.concatenate(before),
        np.concatenate(after),
        sum(one.refused for one in phases),
        np.array(lateness_ms),
        cpu_s,
    )
