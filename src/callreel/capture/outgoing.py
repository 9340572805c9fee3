"""Sending: what a sweeper has just received, its slots with one ``sendmmsg``, uncopied; and what
was made here, a packet at a time."""

from __future__ import annotations

import ctypes
import errno
import socket

import numpy as np
from numpy.typing import NDArray

from callreel.capture.sockets import Address
from callreel.capture.sweep import BATCH, HEADER, HEADER_BYTES, Sweeper

_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_MAX_REFUSALS = 8
"""Of one batch: the rest would be refused as well."""


def libc_sendmmsg() -> ctypes._NamedFuncPointer:
    """The C library's ``sendmmsg(2)``."""
    function = ctypes.CDLL(None, use_errno=True).sendmmsg
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


class Outgoing:
    """Headers for sending a sweeper's slots to one address, used over and over.

    A datagram that the kernel does not take is given up and counted in ``unsent``: media that is
    late is worth nothing, and what went wrong with one must not end the sending of others.
    """

    def __init__(self, sweeper: Sweeper) -> None:
        self.unsent = 0
        """Datagrams given up, ever."""
        self.sent = 0
        """Datagrams sent, ever."""
        self._sendmmsg = libc_sendmmsg()
        self._slots = sweeper.slot_addresses
        self._name = bytearray(sweeper.name_bytes)
        name = np.frombuffer(self._name, np.uint8)
        self._iovecs = np.zeros((BATCH, 2), np.uintp)
        self._bases = self._iovecs[:, 0]
        self._lengths = self._iovecs[:, 1]
        self._headers = np.zeros(BATCH, HEADER)
        fields = self._headers
        fields["name"] = name.ctypes.data
        fields["namelen"] = sweeper.name_bytes
        fields["iov"] = self._iovecs.ctypes.data + np.arange(BATCH, dtype=np.uintp) * 16
        fields["iovlen"] = 1
        self._address = fields.ctypes.data
        self._in_order = False
        self._length = -1

    def send(self, fd: int, to: bytes, n: int, length: int) -> None:
        """Send the first ``n`` slots, all of this many bytes, from a socket to a ``sockaddr``."""
        if not self._in_order:
            self._bases[:] = self._slots
            self._in_order = True
        if length != self._length:
            self._lengths[:] = length
            self._length = length
        self._name[:] = to
        done: int = self._sendmmsg(fd, self._address, n, socket.MSG_DONTWAIT)
        if done == n:
            self.sent += n
        else:
            self._send_rest(fd, n, max(done, 0))

    def send_chosen(
        self, fd: int, to: bytes, chosen: NDArray[np.intp], lengths: NDArray[np.uint16]
    ) -> None:
        """Send the slots at these indices, each of the bytes that ``lengths`` has at its index."""
        n = len(chosen)
        self._bases[:n] = self._slots[chosen]
        self._lengths[:n] = lengths[chosen]
        self._in_order = False
        self._length = -1
        self._name[:] = to
        self._send_rest(fd, n)

    def _send_rest(self, fd: int, n: int, at: int = 0) -> None:
        """Send those from ``at`` on; one that is refused does not hold up those behind it."""
        refusals = given_up = 0
        while at < n and refusals < _MAX_REFUSALS:
            done: int = self._sendmmsg(
                fd, self._address + at * HEADER_BYTES, n - at, socket.MSG_DONTWAIT
            )
            if done > 0:
                at += done
                continue
            code = ctypes.get_errno()
            if code in _NO_ROOM:
                break
            refusals += 1
            if code != errno.ECONNREFUSED:
                # That one would speak of a datagram sent long ago, and not of this.
                at += 1
                given_up += 1
        self.sent += at - given_up
        self.unsent += n - at + given_up


class Sender:
    """Sends single packets. What the kernel does not take is given up and counted.

    By Python's own ``sendto``: one by way of ``ctypes`` costs half as much again.
    """

    def __init__(self) -> None:
        self.sent = 0
        """Packets sent, ever."""
        self.unsent = 0
        """Packets given up, ever."""

    def send(self, sock: socket.socket, to: Address, packet: bytes | bytearray) -> None:
        """Send one from a socket to an address of its family."""
        try:
            sock.sendto(packet, to)
            self.sent += 1
        except OSError as error:
            self._again(sock, to, packet, error)

    def _again(
        self, sock: socket.socket, to: Address, packet: bytes | bytearray, error: OSError
    ) -> None:
        for _ in range(_MAX_REFUSALS):
            # It may speak of a packet sent long ago, and not of this.
            if error.errno != errno.ECONNREFUSED:
                break
            try:
                sock.sendto(packet, to)
                self.sent += 1
                return
            except OSError as another:
                error = another
        self.unsent += 1
