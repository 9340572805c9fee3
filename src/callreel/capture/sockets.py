"""The UDP sockets that media comes to: a pair of ports, kernel stamps, a filter from the start."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import socket
import struct
from collections import deque

from callreel.base.errors import CapacityError, MachineError, UsageError
from callreel.capture.filters import INSTRUCTION_BYTES, drop_all, only_from

# Not all of these are named by Python's socket module. The values are those of asm-generic, which
# every architecture that Python wheels are made for uses.
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_RXQ_OVFL = 40
SO_MEMINFO = 55
Address = tuple[str, int] | tuple[str, int, int, int]
"""As Python's sockets take it: IPv4, IPv6."""

_MEMINFO = struct.Struct("=9I")
_MEMINFO_DROPS = 8

QUEUED_PACKET_BYTES = 832
"""What one queued G.711 packet costs the kernel (measured)."""
RCVBUF_BYTES = 250 * QUEUED_PACKET_BYTES
"""Asked of the kernel, which doubles it: 5 s of 100 packets a second, 10 s of 50. Many times the
sweep's period, so that a worker may die and be replaced without losing a packet."""


class PortRange:
    """The even/odd port pairs of one worker, handed out in turn.

    In turn, so that a port rests for as long as possible before it is used again: senders go on
    for a while after their call has ended. ``first`` pairs are left for the end of the first round:
    a worker that begins anew must not begin where those of before it are still sent to.
    """

    def __init__(self, low: int, high: int, *, first: int = 0) -> None:
        if not 1 <= low <= high <= 65535:
            raise UsageError(f"RTP ports {low}-{high}: want 1 <= low <= high <= 65535")
        self._free = deque(range(low + low % 2, high, 2))
        if not self._free:
            raise UsageError(f"RTP ports {low}-{high} hold no even/odd pair")
        self._free.rotate(-first)

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """An even port; its odd one goes with it. Raises ``CapacityError``."""
        if not self._free:
            raise CapacityError("no RTP port is free", hint="widen the RTP port range")
        return self._free.popleft()

    def give_back(self, port: int) -> None:
        """The pair is free again."""
        self._free.append(port)

    def remove(self, port: int) -> None:
        """The pair is in use already (taken over from a former worker)."""
        with contextlib.suppress(ValueError):
            self._free.remove(port)


def open_pair(host: str, ports: PortRange) -> tuple[socket.socket, socket.socket]:
    """RTP and RTCP socket on an even port and the next one, both refusing everything as yet.

    ``host`` is a numeric address. Ports that somebody else holds are passed over. Raises
    ``CapacityError`` when no port or file descriptor is left, ``MachineError`` when ``host`` is
    none of ours.
    """
    occupied: list[int] = []
    try:
        while True:
            try:
                port = ports.take()
            except CapacityError:
                raise CapacityError(
                    f"no RTP port is free ({len(occupied)} pairs are used by other programs)",
                    hint="widen the RTP port range",
                ) from None
            try:
                return _bind_pair(host, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    occupied.append(port)
                    continue
                ports.give_back(port)
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise CapacityError(
                        f"cannot open a media socket: {error.strerror}",
                        hint="raise the limit of open files (RLIMIT_NOFILE)",
                    ) from error
                raise MachineError(
                    f"cannot open a media socket on {host}: {error.strerror}"
                ) from error
    finally:
        # Whoever held them may have let go by the time their turn comes again.
        for port in occupied:
            ports.give_back(port)


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    rtp = open_socket(host, port)
    try:
        return rtp, open_socket(host, port + 1)
    except BaseException:
        rtp.close()
        raise


def open_socket(host: str, port: int) -> socket.socket:
    """A media socket. The filter goes on before the bind: nothing is ever queued unasked for."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        attach(sock, drop_all())
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF_BYTES)
        except PermissionError:
            # Only root may pass net.core.rmem_max; whoever may not gets what that allows.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RCVBUF_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def attach(sock: socket.socket, program: bytes) -> None:
    """Put a filter on a socket in place of the one before, at one stroke."""
    code = ctypes.create_string_buffer(program, len(program))
    value = struct.pack("HP", len(program) // INSTRUCTION_BYTES, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)


def refuse_all(sock: socket.socket) -> None:
    """From now on nothing more is queued."""
    attach(sock, drop_all())


def accept_from(sock: socket.socket, host: str) -> None:
    """From now on only datagrams from ``host`` are queued."""
    attach(sock, only_from(host))


def drop_total(sock: socket.socket) -> int:
    """The kernel's drop counter of a socket, refusals and overflows alike; 32 bits."""
    info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
    return int(_MEMINFO.unpack(info.ljust(_MEMINFO.size, b"\0"))[_MEMINFO_DROPS])


def queued_bytes(sock: socket.socket) -> int:
    """What the queued datagrams cost the kernel, in the reckoning of ``buffer_bytes``."""
    info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
    return int(_MEMINFO.unpack(info.ljust(_MEMINFO.size, b"\0"))[0])


def packed_address(sock: socket.socket, host: str) -> bytes:
    """An address as this socket's family writes it: IPv4 is mapped on an IPv6 socket."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None or sock.family == socket.AF_INET6:
            return address.packed
        address = mapped
    if sock.family == socket.AF_INET6:
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def sockaddr(sock: socket.socket, host: str, port: int) -> bytes:
    """A raw ``sockaddr`` of this socket's family, as its datagrams' sources have it."""
    address = packed_address(sock, host)
    family = struct.pack("=H", sock.family)
    if sock.family != socket.AF_INET6:
        return family + struct.pack("!H", port) + address + bytes(8)
    zone = host.partition("%")[2]
    scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone) if zone else 0
    return family + struct.pack("!HI", port, 0) + address + struct.pack("=I", scope)


def address_of(raw: bytes) -> Address:
    """What Python's sockets take for a raw ``sockaddr`` of either family."""
    port = int.from_bytes(raw[2:4], "big")
    if len(raw) == 16:
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
    flow, scope = struct.unpack_from("!I", raw, 4)[0], struct.unpack_from("=I", raw, 24)[0]
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, flow, scope


def buffer_bytes(sock: socket.socket) -> int:
    """What the kernel granted, in its own reckoning (twice what was asked for)."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
