"""RTP load from processes of its own: packets every 20 ms for each stream, every one stamped.

The wall clock is read before each packet, so that afterwards the packets sent between any two
instants can be counted, to the packet, and compared with what a recorder says of them. Streams that
hear as well keep what comes back, with the kernel's stamps on it.
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

from callreel.capture.sockets import SO_TIMESTAMPNS
from callreel.capture.sweep import BATCH, Sweeper
from callreel.phone.sender import FRAME_S
from callreel.phone.sources import FRAME_SAMPLES, encode_source, parse_source

PHASES = 10
"""Streams are spread over this many instants of each 20 ms, as calls that began apart are."""
TONES_HZ = (440, 880)
"""Even streams play the first, odd ones the second."""
_HEADER = struct.Struct(">BBHII")
_HEARD = np.dtype(
    {
        "names": ["sequence", "timestamp", "ssrc"],
        "formats": [">u2", ">u4", ">u4"],
        "offsets": [2, 4, 8],
        "itemsize": _HEADER.size,
    }
)
_BUFFER_BYTES = 1 << 20
_HEAR_EVERY_FRAMES = 10
"""The kernel's stamps are exact however late a packet is looked at."""
_NEVER = 1 << 62
_SETTLE_S = 0.5
"""So long after the last packet was sent one may still come."""


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
class Heard:
    """What came back on one stream, in order of arrival."""

    stream: NDArray[np.int64]
    """Whose packet it is, by its SSRC: a stream of the same process, or -1; int64[n]."""
    frame: NDArray[np.int64]
    """Which one of that stream, from 0, by its timestamp and sequence number, or -1; int64[n]."""
    arrived_ns: NDArray[np.int64]
    """Wall time of arrival, by the kernel; int64[n]."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a process sent, and when."""

    before_ns: NDArray[np.int64]
    """Wall time just before each packet, 0 where a stream had not begun; int64[streams, frames]."""
    after_ns: NDArray[np.int64]
    """Wall time just after it; the same shape."""
    refused: NDArray[np.bool_]
    """Which packets the kernel did not take; bool[streams, frames]."""
    lateness_ms: NDArray[np.float64]
    """How late each burst began after its due time."""
    cpu_s: float
    """CPU time it took."""
    heard: Sequence[Heard] = ()
    """What came back, by stream; nothing unless that was asked for."""

    def between(self, stream: int, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Packets that a stream surely sent within an interval, and those it may have."""
        before, after = self.before_ns[stream], self.after_ns[stream]
        begun = before > 0
        surely = np.count_nonzero(begun & (before >= start_ns) & (after <= end_ns))
        perhaps = np.count_nonzero(begun & (after >= start_ns) & (before <= end_ns))
        return int(surely), int(perhaps)


class LoadProcess:
    """A sender process and the driver's end of its pipe. ``hears``: it keeps what comes back.

    ``tones_hz``: what each stream plays; ``TONES_HZ`` in turn unless given. ``frames``: so many
    packets each stream sends, and then no more.
    """

    def __init__(
        self,
        stream_count: int,
        *,
        hears: bool = False,
        tones_hz: Sequence[int] = (),
        frames: int = _NEVER,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        plays = list(tones_hz) or [TONES_HZ[number % 2] for number in range(stream_count)]
        self._process = context.Process(
            target=_main, args=(theirs, plays, hears, frames), daemon=True
        )
        self._process.start()
        theirs.close()
        self.streams = [Stream(port) for port in self._pipe.recv()]
        """Its streams, their sockets bound."""

    def start(self, at_monotonic: float) -> None:
        """Begin to send to each stream's remote. Those without one are silent as yet."""
        self._pipe.send(([stream.remote for stream in self.streams], at_monotonic))

    def begin(self, number: int) -> None:
        """Have a stream that was silent send to its remote from the next 20 ms on."""
        self._pipe.send((number, self.streams[number].remote))

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


class _Ears:
    """Takes what came to some sockets, and puts it by."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._fds = [sock.fileno() for sock in sockets]
        self._sweeper = Sweeper(socket.AF_INET)
        self._heads: list[list[bytes]] = [[] for _ in sockets]
        self._stamps: list[list[NDArray[np.int64]]] = [[] for _ in sockets]

    def listen(self, number: int) -> None:
        """Take all that came to one."""
        sweeper, n = self._sweeper, BATCH
        while n == BATCH:
            n = sweeper.receive(self._fds[number])
            lengths, stamps_ns, _ = sweeper.mixed(n, time.time_ns())
            whole = lengths >= _HEADER.size
            heads = np.where(whole, _HEADER.size, 0).astype(np.uint16)
            batch = sweeper.take(whole, heads, stamps_ns)
            self._heads[number].append(batch.data)
            self._stamps[number].append(batch.stamps_ns)

    def heard(self, number: int, starts: Sequence[tuple[int, int, int]]) -> Heard:
        """What one heard, where the streams' SSRCs, sequence numbers and timestamps began so."""
        heads = np.frombuffer(b"".join(self._heads[number]), _HEARD)
        known = {ssrc: stream for stream, (ssrc, _, _) in enumerate(starts)}
        stream = np.array([known.get(int(ssrc), -1) for ssrc in heads["ssrc"]], np.int64)
        begun = np.array(starts, np.int64)[stream]
        passed = (heads["timestamp"].astype(np.int64) - begun[:, 2]) & 0xFFFFFFFF
        frame = passed // FRAME_SAMPLES
        sound = (stream >= 0) & (passed % FRAME_SAMPLES == 0)
        sound &= (begun[:, 1] + frame) & 0xFFFF == heads["sequence"]
        return Heard(stream, np.where(sound, frame, -1), np.concatenate(self._stamps[number]))


def _main(pipe: Connection, plays: Sequence[int], hears: bool, most: int) -> None:
    sockets = []
    for _ in plays:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        if hears:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
    pipe.send([sock.getsockname()[1] for sock in sockets])
    remotes, at_monotonic = pipe.recv()
    begun = [_NEVER if remote is None else 0 for remote in remotes]
    for sock, remote in zip(sockets, remotes, strict=True):
        if remote is not None:
            sock.connect(remote)
    ears = _Ears(sockets) if hears else None
    pipe.send(_send(pipe, sockets, plays, begun, most, at_monotonic, ears))


def _send(
    pipe: Connection,
    sockets: Sequence[socket.socket],
    plays: Sequence[int],
    begun: list[int],
    most: int,
    at_monotonic: float,
    ears: _Ears | None,
) -> Sent:
    """Until it is told to stop. ``begun`` is the frame with which each stream begins, ``most`` how
    many it sends, ``plays`` its pitch."""
    # No two processes send the same SSRCs.
    rng = random.Random(str([sock.getsockname()[1] for sock in sockets]))
    by_hz = {hz: encode_source(parse_source(f"tone:{hz}"), "PCMU") for hz in set(plays)}
    tones = [by_hz[hz] for hz in plays]
    starts = [(rng.getrandbits(32), rng.getrandbits(16), rng.getrandbits(32)) for _ in sockets]
    phases = [range(phase, len(sockets), PHASES) for phase in range(PHASES)]
    stamps = [array("q") for _ in phases]
    refused: list[tuple[int, int]] = []
    lateness_ms = array("d")
    pack, wall_ns, monotonic = _HEADER.pack, time.time_ns, time.monotonic
    cpu_started = time.process_time()
    stopping = False
    for burst in itertools.count():
        frame, phase = divmod(burst, PHASES)
        while phase == 0 and not stopping and pipe.poll():
            told = pipe.recv()
            if told is None:
                stopping = True
            else:
                begun[told[0]] = frame
                sockets[told[0]].connect(told[1])
        if stopping:
            break
        due = at_monotonic + burst * FRAME_S / PHASES
        if (early_s := due - monotonic()) > 0:
            time.sleep(early_s)
        lateness_ms.append((monotonic() - due) * 1000)
        note = stamps[phase].append
        for number in phases[phase]:
            if not 0 <= frame - begun[number] < most:
                note(0)
                continue
            ssrc, sequence, timestamp = starts[number]
            packet = pack(
                0x80,
                0,
                (sequence + frame) & 0xFFFF,
                (timestamp + frame * FRAME_SAMPLES) & 0xFFFFFFFF,
                ssrc,
            ) + tones[number].frame(frame)
            note(wall_ns())
            try:
                sockets[number].send(packet)
            except OSError:  # the recorder has closed its socket
                refused.append((number, frame))
        note(wall_ns())
        if ears is not None and frame % _HEAR_EVERY_FRAMES == 0:
            # When it is not their turn to speak.
            for number in phases[phase]:
                ears.listen(number)
    cpu_s = time.process_time() - cpu_started
    heard = []
    if ears is not None:
        time.sleep(_SETTLE_S)
        for number in range(len(sockets)):
            ears.listen(number)
            heard.append(ears.heard(number, starts))
    frames = burst // PHASES
    before = np.zeros((len(sockets), frames), np.int64)
    after = np.zeros_like(before)
    for phase, members in enumerate(phases):
        rows = np.frombuffer(stamps[phase], np.int64).reshape(frames, len(members) + 1).T
        before[members], after[members] = rows[:-1], rows[1:]
        # Beside a stream that is silent there is no stamp of the next one's; the burst is short.
        for member in members:
            silent = (after[member] == 0) & (before[member] > 0)
            after[member, silent] = rows[-1, silent]
    not_taken = np.zeros(before.shape, np.bool_)
    for number, frame in refused:
        not_taken[number, frame] = True
    return Sent(before, after, not_taken, np.array(lateness_ms), cpu_s, heard)
