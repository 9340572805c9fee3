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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callreel.base.errors import UsageError
from callreel.capture.sockets import SO_TIMESTAMPNS

SLOT_BYTES = 2048
"""60 ms of L16 fits."""
_STAGGER_BYTES = 64
STRIDE_BYTES = SLOT_BYTES + _STAGGER_BYTES
BATCH = 128
_MAX_REFUSALS = 16
_CACHED_SHAPES = 256

_NAME_BYTES = {socket.AF_INET: 16, socket.AF_INET6: 28}
CONTROL_BYTES = 64
STAMP_ONLY = 32
STAMP_AND_DROPS = 56

HEADER = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
"""``struct mmsghdr`` of 64-bit Linux."""
HEADER_BYTES = HEADER.itemsize
_FIRST = struct.Struct("=40xQ8xI")
"""``controllen`` and ``length`` of a header."""
WHOLE_HEADER = struct.Struct("=40xQi4xI")
"""``controllen``, ``flags`` and ``length`` of a header."""
_DROPS = struct.Struct("=48xI")
"""The drop count in the control data."""
_STAMP = struct.Struct("=16xqq")
"""The stamp in the control data."""
WHOLE_CONTROL = struct.Struct("=16xqq16xI")
"""The stamp and the drop count in the control data; the latter means nothing if there is none."""
_CONTROL = np.dtype(
    {
        "names": ["level", "type", "sec", "nsec", "drops_level", "drops_type", "drops"],
        "formats": [np.int32, np.int32, np.int64, np.int64, np.int32, np.int32, np.uint32],
        "offsets": [8, 12, 16, 24, 40, 44, 48],
        "itemsize": CONTROL_BYTES,
    }
)
"""The stamp's control message, which the kernel puts first, and the drop count's."""


def libc_recvmmsg() -> ctypes._NamedFuncPointer:
    """The C library's ``recvmmsg(2)``."""
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


@dataclass(slots=True)
class Batch:
    """Packets of one socket in order of arrival, joined without gaps. Never changed; not frozen,
    for then to make one would cost three times as much, and one is made for each socket's sweep.
    """

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
    """Slots, headers and address slab for draining sockets of one family, used over and over.

    What was received last is looked at from the slot on that it was received into: the first,
    unless :meth:`receive` or :meth:`look_at` was told another.
    """

    def __init__(self, family: int, slots: int = BATCH) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise UsageError("callreel captures on 64-bit Linux only")
        self.family = family
        self.recvmmsg = libc_recvmmsg()
        self.name_bytes = _NAME_BYTES[socket.AddressFamily(family)]
        self.headers = bytearray(slots * HEADER_BYTES)
        self.names = bytearray(slots * self.name_bytes)
        # A cache line apart from a power of two: else all slots' beginnings compete for the same
        # few lines of the processor's cache.
        self.octets = bytearray(slots * STRIDE_BYTES)
        self.slots = np.frombuffer(self.octets, np.uint8).reshape(slots, STRIDE_BYTES)
        self.controls = bytearray(slots * CONTROL_BYTES)
        self._control_rows = np.frombuffer(self.controls, _CONTROL)
        self._iovecs = np.zeros((slots, 2), np.uintp)
        self._header_fields = np.frombuffer(self.headers, HEADER)
        self._name_rows = np.frombuffer(self.names, np.uint8).reshape(slots, self.name_bytes)
        self.seconds = self._control_rows["sec"]
        self.nanoseconds = self._control_rows["nsec"]
        self.drops = self._control_rows["drops"]
        index = np.arange(slots, dtype=np.uintp)
        self.slot_addresses = self.slots.ctypes.data + index * STRIDE_BYTES
        self._iovecs[:, 0] = self.slot_addresses
        self._iovecs[:, 1] = SLOT_BYTES
        fields = self._header_fields
        fields["name"] = self._name_rows.ctypes.data + index * self.name_bytes
        fields["namelen"] = self.name_bytes
        fields["iov"] = self._iovecs.ctypes.data + index * 16
        fields["iovlen"] = 1
        fields["control"] = self._control_rows.ctypes.data + index * CONTROL_BYTES
        fields["controllen"] = CONTROL_BYTES
        self.fresh = bytes(self.headers)
        """What ``headers`` are to be before anything is received: the kernel overwrites lengths."""
        self.address: int = fields.ctypes.data
        """Of the headers."""
        self._shapes: dict[tuple[int, int], tuple[bytes, NDArray[np.uint16]]] = {}
        self._columns = np.arange(SLOT_BYTES)
        self._used: dict[int, int] = {}
        self._at = 0

    def receive(self, fd: int, limit: int = BATCH, at: int = 0) -> int:
        """Take up to ``limit`` datagrams out of a socket, into the slots from ``at`` on, at most
        as many as there are; how many there were.

        An error that some earlier datagram brought upon the socket (an ICMP refusal) is taken out
        of the way and does not end the reading. Raises ``OSError`` when the socket itself is bad.
        """
        self._at = at
        # The kernel overwrites the lengths of what it fills in: without this the stamps and drop
        # counts of the next call would vanish.
        start = at * HEADER_BYTES
        end = start + self._used.get(at, limit) * HEADER_BYTES
        self.headers[start:end] = self.fresh[start:end]
        for _ in range(_MAX_REFUSALS):
            n: int = self.recvmmsg(fd, self.address + start, limit, socket.MSG_DONTWAIT, None)
            if n >= 0:
                self._used[at] = n
                return n
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                break
            if code in (errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EINVAL):
                raise OSError(code, os.strerror(code))
        self._used[at] = 0
        return 0

    def look_at(self, at: int, n: int) -> None:
        """``n`` datagrams were received into the slots from ``at`` on: they are meant from now
        on."""
        self._at = at
        self._used[at] = n

    def take_from(self, other: Sweeper, at: int, n: int) -> None:
        """What another of this family received into its slots from ``at`` on is as if received
        here, at the beginning."""
        self.look_at(0, n)
        theirs = slice(at, at + n)
        for name in ("namelen", "controllen", "flags", "length"):
            self._header_fields[name][:n] = other._header_fields[name][theirs]
        self._name_rows[:n] = other._name_rows[theirs]
        self._control_rows[:n] = other._control_rows[theirs]
        longest = min(int(self._header_fields["length"][:n].max(initial=0)), SLOT_BYTES)
        self.slots[:n, :longest] = other.slots[theirs, :longest]

    def uniform(self, n: int) -> tuple[int, int] | None:
        """Bytes of each datagram and of its control data, if all ``n`` are whole and alike."""
        start = self._at * HEADER_BYTES
        controllen, length = _FIRST.unpack_from(self.headers, start)
        if controllen not in (STAMP_ONLY, STAMP_AND_DROPS):
            return None
        shape = (length, controllen)
        if shape not in self._shapes:
            self._learn(shape)
        expected = self._shapes[shape][0]
        alike = self.headers.startswith(expected[start : start + n * HEADER_BYTES], start)
        return shape if alike else None

    def _learn(self, shape: tuple[int, int]) -> None:
        if len(self._shapes) >= _CACHED_SHAPES:
            self._shapes.clear()
        headers = np.frombuffer(bytearray(self.fresh), HEADER)
        headers["length"], headers["controllen"] = shape
        lengths = np.full(len(headers), shape[0], np.uint16)
        self._shapes[shape] = (headers.tobytes(), lengths)

    def is_from(self, source: bytes, n: int) -> bool:
        """Whether all of ``n`` datagrams come from one ``sockaddr``."""
        return self.names.startswith(source * n, self._at * self.name_bytes)

    def sources(self, n: int) -> NDArray[np.uint8]:
        """Where each of ``n`` datagrams comes from; uint8[n, size]."""
        return self._name_rows[self._at : self._at + n]

    def take_uniform(self, n: int, shape: tuple[int, int]) -> Batch:
        """All ``n`` datagrams, known to be alike."""
        at = self._at
        stamps: NDArray[np.int64] = self.seconds[at : at + n] * 1_000_000_000
        stamps += self.nanoseconds[at : at + n]
        data = self.slots[at : at + n, : shape[0]].tobytes()
        return Batch(self._shapes[shape][1][:n], stamps, data)

    def drop_counts(self, n: int) -> tuple[int, int]:
        """The kernel's count that the first and the last of ``n`` datagrams carry. Both are 0 where
        all of them carry ``STAMP_ONLY``."""
        return self._drop_count(self._at), self._drop_count(self._at + n - 1)

    def _drop_count(self, index: int) -> int:
        controllen: int = _FIRST.unpack_from(self.headers, index * HEADER_BYTES)[0]
        if controllen != STAMP_AND_DROPS:
            # There is no count with a datagram as long as nothing was ever dropped.
            return 0
        count: int = _DROPS.unpack_from(self.controls, index * CONTROL_BYTES)[0]
        return count

    def mixed(
        self, n: int, now_wall_ns: int
    ) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.bool_]]:
        """Lengths, stamps, and which were truncated, of ``n`` datagrams of any kind."""
        these = slice(self._at, self._at + n)
        fields = self._header_fields[these]
        lengths = fields["length"].astype(np.uint16)
        stamps: NDArray[np.int64] = self.seconds[these] * 1_000_000_000 + self.nanoseconds[these]
        stamped = (fields["controllen"] == STAMP_ONLY) | (fields["controllen"] == STAMP_AND_DROPS)
        stamped &= self._control_rows["type"][these] == SO_TIMESTAMPNS
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
        data = self.slots[self._at : self._at + len(kept), :longest][octets].tobytes()
        return Batch(lengths[chosen], stamps_ns[chosen], data)

    def packet(self, index: int, length: int) -> bytes:
        """A datagram just received."""
        return self.slots[self._at + index, :length].tobytes()

    def put(self, index: int, data: bytes) -> None:
        """Have something else in a datagram's slot, to be sent on in its place."""
        at = (self._at + index) * STRIDE_BYTES
        self.octets[at : at + len(data)] = data

    def stamp_ns(self) -> int:
        """The first datagram's stamp, known to be there; wall time."""
        seconds, nanoseconds = _STAMP.unpack_from(self.controls, self._at * CONTROL_BYTES)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def heads(self, n: int) -> NDArray[np.uint8]:
        """The first two bytes of ``n`` datagrams; uint8[n, 2]."""
        return self.slots[self._at : self._at + n, :2]

    def lengths(self, n: int) -> NDArray[np.uint16]:
        """Bytes of each of ``n`` datagrams; uint16[n]."""
        return self._header_fields["length"][self._at : self._at + n].astype(np.uint16)

    def ssrc(self, index: int) -> int:
        """The SSRC of a datagram just received, if it is RTP (RFC 3550 §5.1) or RTCP (§6.4)."""
        slot = self.slots[self._at + index]
        at = 4 if 192 <= slot[1] <= 223 else 8
        return int.from_bytes(slot[at : at + 4].tobytes(), "big")
