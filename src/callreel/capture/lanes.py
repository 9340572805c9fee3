"""Slots for many sockets at once: a lane for each, all of them in one sweeper."""

from __future__ import annotations

import ctypes
import errno
import socket
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from callreel.capture.sweep import HEADER_BYTES, Sweeper

CONTROLLEN, LENGTH = 5, 7
"""Of the eight words of a header: bytes of control data, and of the datagram."""
ALL_ALIKE = 0x0101010101010101
"""Eight truths, as one number."""


class Lanes:
    """``count`` lanes of ``depth`` slots, for sockets of one family. What is named below is of
    shape [count, depth, …], and of what was received last."""

    def __init__(self, family: int, count: int, depth: int) -> None:
        sweeper = self.sweeper = Sweeper(family, count * depth)
        self.count = count
        self.depth = depth
        self.words = np.frombuffer(sweeper.headers, np.uint64).reshape(count, depth, 8)
        """The headers."""
        self.usual = np.frombuffer(bytearray(sweeper.fresh), np.uint64).reshape(count, depth, 8)
        """The headers as they are before; whoever compares writes down what it expects."""
        # As few words as an address has: sockaddr_in is 16 bytes, sockaddr_in6 28.
        word = np.dtype(np.uint64 if sweeper.name_bytes % 8 == 0 else np.uint32)
        self._word = word
        self._names = np.frombuffer(sweeper.names, word).reshape(count, depth, -1)
        self.slots = sweeper.slots.reshape(count, depth, -1)
        """The datagrams; uint8."""
        self.seconds = sweeper.seconds.reshape(count, depth)
        """Of the stamps."""
        self.nanoseconds = sweeper.nanoseconds.reshape(count, depth)
        """Of the stamps."""
        self.drops = sweeper.drops.reshape(count, depth)
        """The kernel's counts, where they are there."""
        self.numbers = np.arange(count)
        """0 to ``count`` - 1."""
        self.columns = np.arange(depth)
        """0 to ``depth`` - 1."""
        self._nobody = bytes(sweeper.name_bytes)

    def receive(self, fds: Sequence[int]) -> list[int]:
        """Take up to ``depth`` datagrams out of each of at most ``count`` sockets, each into its
        lane; how many there were. Raises ``OSError`` when a socket is bad."""
        sweeper, depth = self.sweeper, self.depth
        used = len(fds) * depth * HEADER_BYTES
        sweeper.headers[:used] = sweeper.fresh[:used]
        receive, address = sweeper.recvmmsg, sweeper.address
        counts: list[int] = []
        for fd in fds:
            n: int = receive(fd, address, depth, socket.MSG_DONTWAIT, None)
            if n < 0:
                n = 0
                if ctypes.get_errno() != errno.EAGAIN:
                    n = sweeper.receive(fd, depth, len(counts) * depth)
            counts.append(n)
            address += depth * HEADER_BYTES
        return counts

    def are_from(self, sources: Sequence[bytes | None], width: int) -> NDArray[np.bool_]:
        """Which of the first ``width`` datagrams of each lane are from that lane's source, a raw
        ``sockaddr``; bool[len(sources), width]."""
        raw = b"".join([source or self._nobody for source in sources])
        given = np.frombuffer(raw, self._word).reshape(len(sources), 1, -1)
        parts = self._names[: len(sources), :width] == given
        fitting: NDArray[np.bool_] = parts[:, :, 0]
        for part in range(1, parts.shape[2]):
            fitting &= parts[:, :, part]
        return fitting
