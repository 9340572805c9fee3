"""SIP over connections: TCP and TLS, both ways. Moves bytes and knows nothing of messages."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from callreel.base.errors import CapacityError, MachineError, PeerError, UsageError
from callreel.signalling.transport import Receiver, plain_host
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import PONG, BrokenStream, Keepalive, StreamFramer
from callreel.wire.sip.message import MAX_STREAM_MESSAGE_BYTES

logger = logging.getLogger("callreel.signalling")

MAX_WRITE_BUFFER_BYTES = 4 << 20
"""A connection whose peer does not read is cut when this much waits for it."""

MAX_QUEUED_MESSAGES = 256
"""Messages kept for a connection that is being opened."""

HANDSHAKE_SECONDS = 10.0
"""How long a TLS handshake may take."""

MAX_HANDSHAKES_PER_HOST = 32
"""TLS handshakes of one host under way at a time: nobody may take all the room there is."""

_SHUTDOWN_SECONDS = 2.0
_BACKLOG = 512


def client_context() -> ssl.SSLContext:
    """TLS for connections that we open, unless another is given: the system's authorities."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def check_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """``context`` if it speaks nothing below TLS 1.2 (RFC 8996). Raises UsageError."""
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise UsageError("the TLS context allows versions below 1.2: set its minimum_version")
    return context


class StreamConnection(asyncio.Protocol):
    """One connection, whoever opened it. ``domain`` is whose certificate was asked for."""

    def __init__(
        self,
        streams: Streams,
        *,
        accepted: bool,
        kind: Transport = Transport.TCP,
        domain: str | None = None,
    ) -> None:
        self._streams = streams
        self._accepted = accepted
        self._framer = StreamFramer(max_message_bytes=streams.max_message_bytes)
        self._transport: asyncio.Transport | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._last_active = 0.0
        self._spoke = False
        self.flow = Flow(kind, "", 0, None, domain)
        """The way to the peer."""
        self.local: tuple[str, int] = ("", 0)
        """Our end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is open, its TLS handshake done."""
        transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the base
        peer = transport.get_extra_info("peername")
        name = transport.get_extra_info("sockname")
        if not peer or not name:
            transport.abort()
            return
        self._transport = transport
        flow = self.flow
        self.flow = Flow(flow.transport, plain_host(peer[0]), peer[1], None, flow.domain)
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
    """Every connection, by transport and other end; opens them when needed.

    ``tls_context`` is for the TLS connections that we open; None: the system's authorities.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        max_connections: int = 2_000,
        idle_seconds: float = 3_600.0,
        mute_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        max_message_bytes: int = MAX_STREAM_MESSAGE_BYTES,
        tls_context: ssl.SSLContext | None = None,
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
        self._tls_context = None if tls_context is None else check_context(tls_context)
        self._handshake_seconds = handshake_seconds
        self._connections: dict[Flow, StreamConnection] = {}
        self._opening: dict[Flow, asyncio.Task[StreamConnection]] = {}
        self._queued: dict[Flow, list[tuple[bytes, Callable[[], None]]]] = {}
        self._handshakes: dict[asyncio.Task[None], str] = {}
        self._handshakes_of: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._listeners: dict[socket.socket, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def listen(
        self, host: str, port: int, context: ssl.SSLContext | None = None
    ) -> tuple[str, int]:
        """Take connections at ``host`` and ``port`` (0: any), by TLS if a context is given.

        Returns what was bound. Raises MachineError, and UsageError for a context below TLS 1.2.
        """
        try:
            if context is not None:
                return self._listen_tls(host, port, check_context(context))
            server = await self.loop.create_server(
                lambda: StreamConnection(self, accepted=True), host, port, backlog=_BACKLOG
            )
        except OSError as error:
            kind = "tcp" if context is None else "tls"
            raise MachineError(
                f"cannot listen for SIP on {kind} {host}:{port}: {error.strerror}",
                hint="is another program using the port?",
            ) from error
        self._servers.append(server)
        name = server.sockets[0].getsockname()
        return plain_host(name[0]), name[1]

    def _listen_tls(self, host: str, port: int, context: ssl.SSLContext) -> tuple[str, int]:
        # Not a server of asyncio's: it would tell us of a connection only after its handshake.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        listener.setblocking(False)
        self._listeners[listener] = self.loop.create_task(self._accept(listener, context))
        name = listener.getsockname()
        return plain_host(name[0]), name[1]

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                peer, address = await self.loop.sock_accept(listener)
            except OSError as error:  # no file descriptor is left, or the peer is gone again
                logger.warning("cannot take a TLS connection: %s", error.strerror)
                await asyncio.sleep(0.1)
                continue
            host = plain_host(address[0])
            if self._may_shake_hands(host):
                task = self.loop.create_task(self._shake_hands(peer, context, host))
                self._handshakes[task] = host
                self._handshakes_of[host] += 1
                task.add_done_callback(self._hands_shaken)
            else:
                peer.close()

    def _may_shake_hands(self, host: str) -> bool:
        """A handshake counts as a connection, or who never ends it would not count."""
        if not self.receiver.may_connect(host):
            return False
        if (
            len(self._connections) + len(self._handshakes) >= self._max_connections
            or self._handshakes_of[host] >= MAX_HANDSHAKES_PER_HOST
        ):
            logger.warning("tls:%s turned away: too many connections", host)
            return False
        return True

    async def _shake_hands(self, peer: socket.socket, context: ssl.SSLContext, host: str) -> None:
        try:
            await self.loop.connect_accepted_socket(
                lambda: StreamConnection(self, accepted=True, kind=Transport.TLS),
                peer,
                ssl=context,
                ssl_handshake_timeout=self._handshake_seconds,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except (OSError, ValueError) as error:
            logger.info("no TLS with %s: %s", host, _reason(error))

    def _hands_shaken(self, task: asyncio.Task[None]) -> None:
        host = self._handshakes.pop(task)
        self._handshakes_of[host] -= 1
        if not self._handshakes_of[host]:
            del self._handshakes_of[host]
        if not task.cancelled() and task.exception() is not None:
            logger.error("a TLS handshake broke", exc_info=task.exception())

    def admit(self, connection: StreamConnection, *, accepted: bool) -> bool:
        """Take note of a new connection; False if it is to be dropped."""
        if accepted and not self.receiver.may_connect(connection.flow.host):
            return False
        if len(self._connections) >= self._max_connections:
            logger.warning("%s turned away: too many connections", connection.flow)
            return False
        self._connections[connection.flow] = connection
        return True

    def forget(self, connection: StreamConnection) -> None:
        """Take note of a connection's end."""
        if self._connections.get(connection.flow) is connection:
            del self._connections[connection.flow]

    def find(self, flow: Flow) -> StreamConnection | None:
        """The open connection to the other end of ``flow``."""
        connection = self._connections.get(flow.unbound)
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
        key = flow.unbound
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
        accepting = list(self._listeners.values())
        tasks: list[asyncio.Task[Any]] = [*accepting, *self._opening.values(), *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections.values()):
            connection.close()
        await asyncio.sleep(0)
        for connection in list(self._connections.values()):
            connection.abort()
        await asyncio.sleep(0)

    def _open_task(self, flow: Flow) -> asyncio.Task[StreamConnection]:
        key = flow.unbound
        task = self._opening.get(key)
        if task is None:
            task = self.loop.create_task(self._open(flow))
            self._opening[key] = task
            task.add_done_callback(lambda task: self._opened(key, task))
        return task

    async def _open(self, flow: Flow) -> StreamConnection:
        under_way = len(self._opening) + len(self._handshakes)
        if len(self._connections) + under_way > self._max_connections:
            raise CapacityError("too many SIP connections")
        limit = self._connect_seconds
        options: dict[str, Any] = {}
        if flow.transport is Transport.TLS:
            limit += self._handshake_seconds
            options = {
                "ssl": self._context(),
                "server_hostname": flow.domain or flow.host,  # for SNI, and what is verified
                "ssl_handshake_timeout": self._handshake_seconds,
                "ssl_shutdown_timeout": _SHUTDOWN_SECONDS,
            }
        try:
            async with asyncio.timeout(limit):
                _, connection = await self.loop.create_connection(
                    lambda: StreamConnection(
                        self, accepted=False, kind=flow.transport, domain=flow.domain
                    ),
                    flow.host,
                    flow.port,
                    **options,
                )
        except (OSError, TimeoutError, ValueError) as error:
            raise PeerError(f"cannot connect to {flow}: {_reason(error)}", status=503) from error
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls_context is None:
            self._tls_context = client_context()
        return self._tls_context

    def _opened(self, key: Flow, task: asyncio.Task[StreamConnection]) -> None:
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


def _reason(error: Exception) -> str:
    """Why a connection or its handshake failed, for an operator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
