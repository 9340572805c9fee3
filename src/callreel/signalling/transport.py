"""SIP sockets: what they share, and UDP. Shells that move bytes and know nothing of messages."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from typing import Protocol

from callreel.base.errors import MachineError
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import BrokenStream

logger = logging.getLogger("callreel.signalling")

RECEIVE_BUFFER_BYTES = 8 << 20
"""What is asked of the kernel for a UDP socket: a burst of calls must not overflow it."""

DATAGRAMS_PER_WAKE = 256
"""Datagrams taken from a socket before other work gets its turn."""

_SO_RCVBUFFORCE = 33  # Linux; beyond net.core.rmem_max, with CAP_NET_ADMIN


class Receiver(Protocol):
    """Who takes what the sockets give."""

    def message_received(self, data: bytes, flow: Flow) -> None:
        """One whole message came."""
        ...

    def stream_broken(self, error: BrokenStream, flow: Flow) -> None:
        """A stream cannot be followed; its connection is closed after this."""
        ...

    def flow_failed(self, flow: Flow) -> None:
        """Nothing more can be sent over ``flow``."""
        ...

    def may_connect(self, host: str) -> bool:
        """True if a connection from ``host`` is to be taken."""
        ...


def plain_host(host: str) -> str:
    """An address as flows write it: no zone, IPv4 not dressed as IPv6."""
    host = host.partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def routed_host(host: str, port: int) -> str:
    """Our own address on the way to ``host``, as the kernel would choose it. Sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port or 5060))
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return plain_host(probe.getsockname()[0])


class UdpSocket:
    """One bound UDP socket, read dry each time it wakes us."""

    def __init__(self, receiver: Receiver, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            if family == socket.AF_INET6:
                # IPv4 has a socket of its own, which may be bound to the same port.
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise MachineError(
                f"cannot listen for SIP on udp {host}:{port}: {error.strerror}",
                hint="is another program using the port?",
            ) from error
        name = self._socket.getsockname()
        self.local: tuple[str, int] = (plain_host(name[0]), name[1])
        """The bound address and port."""
        self.dropped_messages = 0
        """Messages that the kernel had no room to send."""
        self._loop.add_reader(self._socket, self._read)

    def send(self, data: bytes, host: str, port: int) -> bool:
        """Send one datagram. False if that way is closed; a full buffer only loses it."""
        try:
            self._socket.sendto(data, (host, port))
        except (BlockingIOError, InterruptedError):
            self.dropped_messages += 1
        except OSError as error:
            logger.info("cannot send to udp %s:%s: %s", host, port, error)
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(DATAGRAMS_PER_WAKE):
            try:
                data, source = self._socket.recvfrom(65_536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP answer to something we sent; the socket goes on
            if data.strip(b"\r\n\0"):  # the rest keeps a NAT open
                flow = Flow(Transport.UDP, plain_host(source[0]), source[1], self.local)
                self._receiver.message_received(data, flow)
