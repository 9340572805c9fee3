"""The sweep: draining a socket with one ``recvmmsg`` into preallocated slots.

No Python runs for a single packet. The usual case, packets of one length from one known source,
is recognised by comparing whole header and address slabs with what they would then be, and costs
a handful of calls however many packets there are; anything else is sorted out with numpy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callreel.base.errors import UsageError
from callreel.capture.anchor import Anchor
from callreel.capture.drops import DropCounter
from callreel.capture.latch import SILENCE_NS, Latch
from callreel.capture.sockets import (
    SO_TIMESTAMPNS,
    accept_from,
    buffer_bytes,
    drop_total,
    packed_address,
    queued_bytes,
    refuse_all,
)

SLOT_BYTES = 2048
"""60 ms of L16 fits."""
_STAGGER_BYTES = 64
BATCH = 128
MAX_BATCHES = 64
"""Bound of one drain: a flood on one socket must not starve the others."""
_MAX_REFUSALS = 16
_CACHED_SHAPES = 256
_CLOCK_SLACK_NS = 5_000_000

_NAME_BYTES = {socket.AF_INET: 16, socket.AF_INET6: 28}
_CONTROL_BYTES = 64
_STAMP_ONLY = 32
_STAMP_AND_DROPS = 56

_HEADER = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
"""``struct mmsghdr`` of 64-bit Linux."""
_FIRST = struct.Struct("=40xQ8xI")
"""``controllen`` and ``length`` of a header."""
_DROPS = struct.Struct("=48xI")
"""The drop count in the control data."""
_CONTROL = np.dtype(
    {
        "names": ["level", "type", "sec", "nsec", "drops_level", "drops_type", "drops"],
        "formats": [np.int32, np.int32, np.int64, np.int64, np.int32, np.int32, np.uint32],
        "offsets": [8, 12, 16, 24, 40, 44, 48],
        "itemsize": _CONTROL_BYTES,
    }
)
"""The stamp's control message, which the kernel puts first, and the drop count's."""


def _libc_recvmmsg() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).recvmmsg
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    function.restype = ctypes.c_int
    return function


@dataclass(frozen=True, slots=True)
class Batch:
    """Packets of one socket in order of arrival, joined without gaps."""

    lengths: NDArray[np.uint16]
    """Bytes of each; uint16[n]."""
    stamps_ns: NDArray[np.int64]
    """Wall time of arrival, by the kernel; int64[n]."""
    data: bytes
    """The packets one after the other."""

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, chosen: NDArray[np.bool_]) -> Batch:
        """Only the chosen ones; bool[n]."""
        octets = np.frombuffer(self.data, np.uint8)
        return Batch(
            self.lengths[chosen],
            self.stamps_ns[chosen],
            octets[np.repeat(chosen, self.lengths)].tobytes(),
        )


class Sweeper:
    """Slots, headers and address slab for draining sockets of one family, used over and over."""

    def __init__(self, family: int) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise UsageError("callreel captures on 64-bit Linux only")
        self._recvmmsg = _libc_recvmmsg()
        self.name_bytes = _NAME_BYTES[socket.AddressFamily(family)]
        self.headers = bytearray(BATCH * _HEADER.itemsize)
        self.names = bytearray(BATCH * self.name_bytes)
        # A cache line apart from a power of two: else all slots' beginnings compete for the same
        # few lines of the processor's cache.
        self._slots = np.zeros((BATCH, SLOT_BYTES + _STAGGER_BYTES), np.uint8)
        self._control_bytes = bytearray(BATCH * _CONTROL_BYTES)
        self._controls = np.frombuffer(self._control_bytes, _CONTROL)
        self._iovecs = np.zeros((BATCH, 2), np.uintp)
        self._header_fields = np.frombuffer(self.headers, _HEADER)
        self.name_rows = np.frombuffer(self.names, np.uint8).reshape(BATCH, self.name_bytes)
        self._seconds = self._controls["sec"]
        self._nanoseconds = self._controls["nsec"]
        index = np.arange(BATCH, dtype=np.uintp)
        self._iovecs[:, 0] = self._slots.ctypes.data + index * (SLOT_BYTES + _STAGGER_BYTES)
        self._iovecs[:, 1] = SLOT_BYTES
        fields = self._header_fields
        fields["name"] = self.name_rows.ctypes.data + index * self.name_bytes
        fields["namelen"] = self.name_bytes
        fields["iov"] = self._iovecs.ctypes.data + index * 16
        fields["iovlen"] = 1
        fields["control"] = self._controls.ctypes.data + index * _CONTROL_BYTES
        fields["controllen"] = _CONTROL_BYTES
        self._fresh = bytes(self.headers)
        self._address = fields.ctypes.data
        self._shapes: dict[tuple[int, int], tuple[bytes, NDArray[np.uint16]]] = {}
        self._columns = np.arange(SLOT_BYTES)
        self._used = BATCH

    def receive(self, fd: int) -> int:
        """Take up to ``BATCH`` datagrams out of a socket; how many there were.

        An error that some earlier datagram brought upon the socket (an ICMP refusal) is taken out
        of the way and does not end the reading. Raises ``OSError`` when the socket itself is bad.
        """
        # The kernel overwrites the lengths of what it fills in: without this the stamps and drop
        # counts of the next call would vanish.
        used = self._used * _HEADER.itemsize
        self.headers[:used] = self._fresh[:used]
        for _ in range(_MAX_REFUSALS):
            n: int = self._recvmmsg(fd, self._address, BATCH, socket.MSG_DONTWAIT, None)
            if n >= 0:
                self._used = n
                return n
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                break
            if code in (errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EINVAL):
                raise OSError(code, os.strerror(code))
        self._used = 0
        return 0

    def uniform(self, n: int) -> tuple[int, int] | None:
        """Bytes of each datagram and of its control data, if all ``n`` are whole and alike."""
        controllen, length = _FIRST.unpack_from(self.headers)
        if controllen not in (_STAMP_ONLY, _STAMP_AND_DROPS):
            return None
        shape = (length, controllen)
        if shape not in self._shapes:
            self._learn(shape)
        expected = self._shapes[shape][0]
        return shape if self.headers.startswith(expected[: n * _HEADER.itemsize]) else None

    def _learn(self, shape: tuple[int, int]) -> None:
        if len(self._shapes) >= _CACHED_SHAPES:
            self._shapes.clear()
        headers = np.frombuffer(bytearray(self._fresh), _HEADER)
        headers["length"], headers["controllen"] = shape
        lengths = np.full(BATCH, shape[0], np.uint16)
        self._shapes[shape] = (headers.tobytes(), lengths)

    def take_uniform(self, n: int, shape: tuple[int, int]) -> Batch:
        """All ``n`` datagrams, known to be alike."""
        stamps: NDArray[np.int64] = self._seconds[:n] * 1_000_000_000
        stamps += self._nanoseconds[:n]
        return Batch(self._shapes[shape][1][:n], stamps, self._slots[:n, : shape[0]].tobytes())

    def drop_counts(self, n: int) -> tuple[int, int]:
        """The kernel's count that the first and the last of ``n`` datagrams carry."""
        return self._drop_count(0), self._drop_count(n - 1)

    def _drop_count(self, index: int) -> int:
        controllen: int = _FIRST.unpack_from(self.headers, index * _HEADER.itemsize)[0]
        if controllen != _STAMP_AND_DROPS:
            # There is no count with a datagram as long as nothing was ever dropped.
            return 0
        count: int = _DROPS.unpack_from(self._control_bytes, index * _CONTROL_BYTES)[0]
        return count

    def mixed(
        self, n: int, now_wall_ns: int
    ) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.bool_]]:
        """Lengths, stamps, and which were truncated, of ``n`` datagrams of any kind."""
        fields = self._header_fields[:n]
        lengths = fields["length"].astype(np.uint16)
        stamps: NDArray[np.int64] = self._seconds[:n] * 1_000_000_000 + self._nanoseconds[:n]
        stamped = (fields["controllen"] == _STAMP_ONLY) | (fields["controllen"] == _STAMP_AND_DROPS)
        stamped &= self._controls["type"][:n] == SO_TIMESTAMPNS
        stamps[~stamped] = now_wall_ns
        return lengths, stamps, (fields["flags"] & socket.MSG_TRUNC) != 0

    def take(
        self,
        chosen: NDArray[np.bool_],
        lengths: NDArray[np.uint16],
        stamps_ns: NDArray[np.int64],
    ) -> Batch:
        """The chosen ones of the datagrams."""
        kept = np.where(chosen, lengths, 0)
        longest = int(kept.max(initial=0))
        octets = self._columns[:longest] < kept[:, None]
        data = self._slots[: len(kept), :longest][octets].tobytes()
        return Batch(lengths[chosen], stamps_ns[chosen], data)

    def ssrc(self, index: int) -> int:
        """The SSRC of a datagram just received, if it is RTP (RFC 3550 §5.1)."""
        return int.from_bytes(self._slots[index, 8:12].tobytes(), "big")


@dataclass(frozen=True, slots=True)
class Latched:
    """A source was latched."""

    source: bytes
    """Raw ``sockaddr``."""
    ssrc: int
    """Of its first packet."""


class Tap:
    """One socket of a stream: its filter, its latch, what was lost on it."""

    __slots__ = (
        "_drained_ns",
        "_expected",
        "_expected_of",
        "drops",
        "foreign",
        "host",
        "latch",
        "sock",
        "truncated",
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.host: str | None = None
        """Whose packets are queued; None while nothing is."""
        self.latch = Latch()
        """The source that is taken."""
        self.drops = DropCounter(buffer_bytes(sock))
        """What the kernel dropped."""
        self.foreign = 0
        """Datagrams from the signalled address but another source than the latched."""
        self.truncated = 0
        """Datagrams longer than a slot."""
        self._expected = b""
        self._expected_of: bytes | None = None
        self._drained_ns = 0

    def listen(self, host: str, *, now_mono_ns: int) -> None:
        """Have packets from ``host`` queued from now on."""
        if self.host is None:
            accept_from(self.sock, host)
            self.drops.restart(drop_total(self.sock))
            if now_mono_ns - self.latch.heard_ns >= SILENCE_NS:
                self.latch.forget()
            # Not to have been listened to is no silence of the latched source's own.
            self.latch.heard_ns = now_mono_ns
            self._drained_ns = now_mono_ns
        elif self.host != host:
            accept_from(self.sock, host)
        self._expect(host)

    def take_over(self, host: str, source: bytes | None, drops: int, *, now_mono_ns: int) -> None:
        """Go on with a socket that a former worker listened on: what is queued is still wanted."""
        accept_from(self.sock, host)
        self.drops.take_over(drops, queued_bytes=queued_bytes(self.sock))
        self.latch.source = source
        self.latch.heard_ns = now_mono_ns
        self._expect(host)

    def _expect(self, host: str) -> None:
        self.host = host
        self.latch.address = packed_address(self.sock, host)

    def refuse(self) -> None:
        """Have nothing queued from now on."""
        refuse_all(self.sock)
        self.host = None

    def read_drops(self) -> None:
        """Look at the kernel's counter, for what was dropped with nothing queued after it."""
        self.drops.read(drop_total(self.sock))

    def lost(self) -> tuple[int, int, int]:
        """Datagrams lost to overflow, refused as foreign, truncated; ever."""
        return self.drops.overflowed, self.drops.refused + self.foreign, self.truncated

    def drain(self, sweeper: Sweeper, anchor: Anchor) -> tuple[list[Batch], Latched | None]:
        """All that is queued and may be taken, and the source if a new one was latched."""
        batches: list[Batch] = []
        latched: Latched | None = None
        fd = self.sock.fileno()
        first = last = -1
        datagrams = length_bytes = 0
        for _ in range(MAX_BATCHES):
            n = sweeper.receive(fd)
            if n == 0:
                break
            shape = sweeper.uniform(n)
            now_ns = time.monotonic_ns()
            batch: Batch
            if shape is not None and sweeper.names.startswith(self._expecting(n, sweeper)):
                batch = sweeper.take_uniform(n, shape)
                if anchor.is_suspect(now_ns):
                    batch = Batch(
                        batch.lengths, self._corrected(batch.stamps_ns, anchor), batch.data
                    )
                heard_ns = int(batch.stamps_ns[-1]) - anchor.offset_ns
                if heard_ns > self.latch.heard_ns:
                    self.latch.heard_ns = heard_ns
                length_bytes += n * shape[0]
            else:
                lengths, stamps, truncated = sweeper.mixed(n, now_ns + anchor.offset_ns)
                if anchor.is_suspect(now_ns):
                    stamps = self._corrected(stamps, anchor)
                taken, changes = self.latch.admit(sweeper.name_rows[:n], stamps - anchor.offset_ns)
                if changes:
                    at = changes[-1]
                    latched = Latched(sweeper.name_rows[at].tobytes(), sweeper.ssrc(at))
                self.foreign += n - int(taken.sum())
                self.truncated += int((taken & truncated).sum())
                taken &= ~truncated
                batch = sweeper.take(taken, lengths, stamps)
                length_bytes += int(lengths.sum(dtype=np.int64))
            if len(batch):
                batches.append(batch)
            head, last = sweeper.drop_counts(n)
            first = head if first < 0 else first
            datagrams += n
            if n < BATCH:
                self._drained_ns = now_ns
                break
        if datagrams:
            self.drops.drained(first, last, datagrams=datagrams, length_bytes=length_bytes)
        return batches, latched

    def discard(self, sweeper: Sweeper) -> None:
        """Take out what is queued and forget it."""
        fd = self.sock.fileno()
        for _ in range(MAX_BATCHES):
            if sweeper.receive(fd) < BATCH:
                break

    def _expecting(self, n: int, sweeper: Sweeper) -> bytes:
        """The address slab if all ``n`` come from the latched source; one that never matches
        (it is longer than any slab) while there is none."""
        source = self.latch.source
        if source is not self._expected_of or source is None:
            self._expected_of = source
            self._expected = b"" if source is None else source * BATCH
        if source is None:
            return bytes(len(sweeper.names) + 1)
        return self._expected[: n * sweeper.name_bytes]

    def _corrected(self, stamps_ns: NDArray[np.int64], anchor: Anchor) -> NDArray[np.int64]:
        """Stamps as they would be had the clock been right already when they were taken.

        What is drained arrived since the last drain: a stamp that says otherwise is of the clock
        before it was set.
        """
        now_ns = anchor.now().mono_ns
        arrival = stamps_ns - anchor.offset_ns
        early = arrival < self._drained_ns - _CLOCK_SLACK_NS
        wrong = early | (arrival > now_ns + _CLOCK_SLACK_NS)
        return np.where(wrong, stamps_ns + (anchor.offset_ns - anchor.before_ns), stamps_ns)
