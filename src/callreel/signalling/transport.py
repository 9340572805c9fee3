"""SIP sockets: UDP, and TCP both ways. Shells that move bytes and know nothing of messages."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Protocol, cast

from callreel.base.errors import CapacityError, MachineError, PeerError
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import PONG, BrokenStream, Keepalive, StreamFramer
from callreel.wire.sip.message import MAX_STREAM_MESSAGE_BYTES

logger = logging.getLogger("callreel.signalling")

RECEIVE_BUFFER_BYTES = 8 << 20
"""What is asked of the kernel for a UDP socket: a burst of calls must not overflow it."""

DATAGRAMS_PER_WAKE = 256
"""Datagrams taken from a socket before other work gets its turn."""

MAX_WRITE_BUFFER_BYTES = 4 << 20
"""A connection whose peer does not read is cut when this much waits for it."""

MAX_QUEUED_MESSAGES = 256
"""Messages kept for a connection that is being opened."""

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


class StreamConnection(asyncio.Protocol):
    """One TCP connection, whoever opened it."""

    def __init__(self, streams: Streams, *, accepted: bool) -> None:
        self._streams = streams
        self._accepted = accepted
        self._framer = StreamFramer(max_message_bytes=streams.max_message_bytes)
        self._transport: asyncio.Transport | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._last_active = 0.0
        self._spoke = False
        self.flow = Flow(Transport.TCP, "", 0)
        """The way to the peer."""
        self.local: tuple[str, int] = ("", 0)
        """Our end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is open."""
        transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the base
        peer = transport.get_extra_info("peername")
        name = transport.get_extra_info("sockname")
        if not peer or not name:
            transport.abort()
            return
        self._transport = transport
        self.flow = Flow(Transport.TCP, plain_host(peer[0]), peer[1])
        self.local = (plain_host(name[0]), name[1])
        if not self._streams.admit(self, accepted=self._accepted):
            self._transport = None
            transport.abort()
            return
        self._last_active = self._streams.loop.time()
        self._watch_idle()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        self._framer.feed(data)
        try:
            while self._transport is not None and (frame := self._framer.next_frame()) is not None:
                # Only what is whole counts: who sends a byte now and then is mute all the same.
                self._last_active = self._streams.loop.time()
                if isinstance(frame, Keepalive):
                    self._transport.write(PONG)
                else:
                    self._spoke = True
                    self._streams.receiver.message_received(frame, self.flow)
        except BrokenStream as error:
            self._streams.receiver.stream_broken(error, self.flow)
            self.close()

    def eof_received(self) -> bool:
        """asyncio: the peer has no more to say. Answers under way still go out."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        was_open = self._transport is not None
        self._transport = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._streams.forget(self)
        if was_open:
            self._streams.receiver.flow_failed(self.flow)

    @property
    def is_open(self) -> bool:
        """True if something can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes) -> bool:
        """Send a message. False if the connection is closed, or is now for want of a reader."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > MAX_WRITE_BUFFER_BYTES:
            logger.warning("%s does not read; connection cut", self.flow)
            self._transport.abort()
            return False
        self._last_active = self._streams.loop.time()
        self._transport.write(data)
        return True

    def close(self) -> None:
        """Close once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _watch_idle(self) -> None:
        # Who connects and says nothing is not given as long as a peer that works with us.
        streams = self._streams
        limit = streams.idle_seconds if self._spoke or not self._accepted else streams.mute_seconds
        left = self._last_active + limit - streams.loop.time()
        if left <= 0:
            self.abort()
            return
        self._idle_timer = streams.loop.call_later(left, self._watch_idle)


class Streams:
    """Every TCP connection, by the address at its other end; opens them when needed."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        max_connections: int = 2_000,
        idle_seconds: float = 3_600.0,
        mute_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        max_message_bytes: int = MAX_STREAM_MESSAGE_BYTES,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        """The event loop."""
        self.receiver = receiver
        """Who takes the messages."""
        self.idle_seconds = idle_seconds
        """A connection without traffic is closed after this long."""
        self.mute_seconds = mute_seconds
        """The same for one that never gave a whole message."""
        self.max_message_bytes = max_message_bytes
        """The longest message taken."""
        self._max_connections = max_connections
        self._connect_seconds = connect_seconds
        self._connections: dict[tuple[str, int], StreamConnection] = {}
        self._opening: dict[tuple[str, int], asyncio.Task[StreamConnection]] = {}
        self._queued: dict[tuple[str, int], list[tuple[bytes, Callable[[], None]]]] = {}
        self._servers: list[asyncio.Server] = []

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Take connections at ``host`` and ``port`` (0: any). Returns what was bound."""
        try:
            server = await self.loop.create_server(
                lambda: StreamConnection(self, accepted=True), host, port, backlog=512
            )
        except OSError as error:
            raise MachineError(
                f"cannot listen for SIP on tcp {host}:{port}: {error.strerror}",
                hint="is another program using the port?",
            ) from error
        self._servers.append(server)
        name = server.sockets[0].getsockname()
        return plain_host(name[0]), name[1]

    def admit(self, connection: StreamConnection, *, accepted: bool) -> bool:
        """Take note of a new connection; False if it is to be dropped."""
        if accepted and not self.receiver.may_connect(connection.flow.host):
            return False
        if len(self._connections) >= self._max_connections:
            logger.warning("%s turned away: too many connections", connection.flow)
            return False
        self._connections[connection.flow.host, connection.flow.port] = connection
        return True

    def forget(self, connection: StreamConnection) -> None:
        """Take note of a connection's end."""
        key = (connection.flow.host, connection.flow.port)
        if self._connections.get(key) is connection:
            del self._connections[key]

    def find(self, flow: Flow) -> StreamConnection | None:
        """The open connection to the other end of ``flow``."""
        connection = self._connections.get((flow.host, flow.port))
        return connection if connection is not None and connection.is_open else None

    async def open(self, flow: Flow) -> StreamConnection:
        """The connection to the other end of ``flow``, opened if there is none.

        Raises PeerError (503) if the peer does not take it, CapacityError if we have too many.
        """
        connection = self.find(flow)
        if connection is not None:
            return connection
        return await asyncio.shield(self._open_task(flow))

    def send(self, data: bytes, flow: Flow, failed: Callable[[], None]) -> None:
        """Send a message, opening a connection if there is none. ``failed`` is called if that
        cannot be done.
        """
        connection = self.find(flow)
        if connection is not None:
            if not connection.send(data):
                failed()
            return
        key = (flow.host, flow.port)
        queue = self._queued.setdefault(key, [])
        if len(queue) >= MAX_QUEUED_MESSAGES:
            failed()
            return
        queue.append((data, failed))
        self._open_task(flow)

    async def close(self) -> None:
        """Stop listening and close every connection."""
        for server in self._servers:
            server.close()
        tasks = list(self._opening.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections.values()):
            connection.close()
        await asyncio.sleep(0)
        for connection in list(self._connections.values()):
            connection.abort()
        await asyncio.sleep(0)

    def _open_task(self, flow: Flow) -> asyncio.Task[StreamConnection]:
        key = (flow.host, flow.port)
        task = self._opening.get(key)
        if task is None:
            task = self.loop.create_task(self._open(flow))
            self._opening[key] = task
            task.add_done_callback(lambda task: self._opened(key, task))
        return task

    async def _open(self, flow: Flow) -> StreamConnection:
        if len(self._connections) + len(self._opening) > self._max_connections:
            raise CapacityError("too many SIP connections")
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await self.loop.create_connection(
                    lambda: StreamConnection(self, accepted=False), flow.host, flow.port
                )
        except (OSError, TimeoutError) as error:
            raise PeerError(f"cannot connect to {flow}: {error}", status=503) from error
        return connection

    def _opened(self, key: tuple[str, int], task: asyncio.Task[StreamConnection]) -> None:
        self._opening.pop(key, None)
        queue = self._queued.pop(key, [])
        if not task.cancelled() and task.exception() is None:
            connection = task.result()
            for data, failed in queue:
                if not connection.send(data):
                    failed()
            return
        for _, failed in queue:
            failed()
