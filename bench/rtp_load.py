"""RTP load from processes of its own: packets every 20 ms for each stream, every one stamped.

The wall clock is read before each packet, so that afterwards the packets sent between any two
instants can be counted, to the packet, and compared with what a recorder says of them.
"""

from __future__ import annotations

import itertools
import multiprocessing
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

from callreel.phone.sender import FRAME_S
from callreel.phone.sources import FRAME_SAMPLES, encode_source, parse_source

PHASES = 10
"""Streams are spread over this many instants of each 20 ms, as calls that began apart are."""
TONES_HZ = (440, 880)
"""Even streams play the first, odd ones the second."""
_HEADER = struct.Struct(">BBHII")
_SEND_BUFFER_BYTES = 1 << 20


@dataclass(slots=True)
class Stream:
    """One stream as the driver sees it: a ``callreel.phone.sender.OutgoingStream``."""

    port: int
    """Where packets come from, as announced."""
    remote: tuple[str, int] | None = None
    """Where they go."""
    held: bool = False
    """Not looked at: nothing is put on hold here."""
    packets_sent: int = 0
    """Known at the end only."""

    def close(self) -> None:
        """Its socket belongs to the sender process, which closes it in the end."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a process sent, and when."""

    before_ns: NDArray[np.int64]
    """Wall time just before each packet; int64[streams, frames]."""
    after_ns: NDArray[np.int64]
    """Wall time just after it; the same shape."""
    refused: NDArray[np.int64]
    """Packets that the kernel did not take, by stream; int64[streams]."""
    lateness_ms: NDArray[np.float64]
    """How late each burst began after its due time."""
    cpu_s: float
    """CPU time it took."""

    def between(self, stream: int, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Packets that a stream surely sent within an interval, and those it may have."""
        before, after = self.before_ns[stream], self.after_ns[stream]
        surely = np.count_nonzero((before >= start_ns) & (after <= end_ns))
        perhaps = np.count_nonzero((after >= start_ns) & (before <= end_ns))
        return int(surely), int(perhaps)


class LoadProcess:
    """A sender process and the driver's end of its pipe."""

    def __init__(self, stream_count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, stream_count), daemon=True)
        self._process.start()
        theirs.close()
        self.streams = [Stream(port) for port in self._pipe.recv()]
        """Its streams, their sockets bound."""

    def start(self, at_monotonic: float) -> None:
        """Begin to send to each stream's remote."""
        self._pipe.send(([stream.remote for stream in self.streams], at_monotonic))

    def finish(self) -> Sent:
        """Stop sending; what was sent."""
        self._pipe.send(None)
        sent: Sent = self._pipe.recv()
        self._process.join()
        return sent

    def kill(self) -> None:
        """End the process whatever it is doing."""
        self._process.kill()
        self._process.join()


def _main(pipe: Connection, stream_count: int) -> None:
    sockets = []
    for _ in range(stream_count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
    pipe.send([sock.getsockname()[1] for sock in sockets])
    remotes, at_monotonic = pipe.recv()
    for sock, remote in zip(sockets, remotes, strict=True):
        sock.connect(remote)
    pipe.send(_send(pipe, sockets, at_monotonic))


def _send(pipe: Connection, sockets: Sequence[socket.socket], at_monotonic: float) -> Sent:
    rng = random.Random(len(sockets))
    tones = [encode_source(parse_source(f"tone:{hz}"), "PCMU") for hz in TONES_HZ]
    starts = [
        (rng.getrandbits(32), rng.getrandbits(16), rng.getrandbits(32), tones[number % 2])
        for number in range(len(sockets))
    ]
    phases = [range(phase, len(sockets), PHASES) for phase in range(PHASES)]
    stamps = [array("q") for _ in phases]
    refused = np.zeros(len(sockets), np.int64)
    lateness_ms = array("d")
    pack, wall_ns, monotonic = _HEADER.pack, time.time_ns, time.monotonic
    cpu_started = time.process_time()
    for burst in itertools.count():
        frame, phase = divmod(burst, PHASES)
        if phase == 0 and pipe.poll():
            pipe.recv()
            break
        due = at_monotonic + burst * FRAME_S / PHASES
        if (early_s := due - monotonic()) > 0:
            time.sleep(early_s)
        lateness_ms.append((monotonic() - due) * 1000)
        note = stamps[phase].append
        for number in phases[phase]:
            ssrc, sequence, timestamp, tone = starts[number]
            packet = pack(
                0x80,
                0,
                (sequence + frame) & 0xFFFF,
                (timestamp + frame * FRAME_SAMPLES) & 0xFFFFFFFF,
                ssrc,
            ) + tone.frame(frame)
            note(wall_ns())
            try:
                sockets[number].send(packet)
            except OSError:  # the recorder has closed its socket
                refused[number] += 1
        note(wall_ns())
    cpu_s = time.process_time() - cpu_started
    frames = burst // PHASES
    before = np.zeros((len(sockets), frames), np.int64)
    after = np.zeros_like(before)
    for phase, members in enumerate(phases):
        rows = np.frombuffer(stamps[phase], np.int64).reshape(frames, len(members) + 1).T
        before[members], after[members] = rows[:-1], rows[1:]
    return Sent(before, after, refused, np.array(lateness_ms), cpu_s)
