"""What a user agent rests on: sockets, the transaction layer, and one timer.

Feeds one input, drains all output, re-arms the timer.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.base.ids import IdSource
from callreel.signalling.addressing import Addressing
from callreel.signalling.resolver import Resolver
from callreel.signalling.streams import Streams
from callreel.signalling.transport import UdpSocket
from callreel.wire.sip.endpoint import Endpoint
from callreel.wire.sip.events import Event, Outgoing
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import BrokenStream
from callreel.wire.sip.message import MAX_STREAM_MESSAGE_BYTES, Response
from callreel.wire.sip.values import URI

logger = logging.getLogger("callreel.signalling")

_RESPONSE = b"SIP/2.0 "

LOG_EVERY_SECONDS = 60.0
"""Bad messages of one host are logged no more often than this."""

_MAX_NOISY_HOSTS = 1_024


class Transceiver:
    """Sends and receives. What comes of it is for :class:`UserAgent`, which builds on this."""

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        methods: Sequence[str],
        option_tags: Sequence[str],
        user_agent_header: str = "callreel",
        user: str = "callreel",
        public_host: str | None = None,
        may_speak: Callable[[str], bool] | None = None,
        refusal_status: int | None = 403,
        max_transactions: int = 65_536,
        max_connections: int = 2_000,
        idle_seconds: float = 3_600.0,
        max_stream_message_bytes: int = MAX_STREAM_MESSAGE_BYTES,
        tls_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.endpoint = Endpoint(
            ids=ids,
            methods=methods,
            option_tags=option_tags,
            server_header=user_agent_header,
            max_transactions=max_transactions,
            max_stream_message_bytes=max_stream_message_bytes,
        )
        """The transaction layer."""
        self.resolver = resolver or Resolver(clock=clock, fraction=self._fraction)
        """Where hosts are looked up."""
        self._clock = clock
        self._ids = ids
        self._user_agent_header = user_agent_header
        self._may_speak = may_speak
        self.refusal_status = refusal_status
        """What strangers are told, or None for nothing; may be changed at any time."""
        self._loop = asyncio.get_running_loop()
        self._streams = Streams(
            self,
            max_connections=max_connections,
            idle_seconds=idle_seconds,
            max_message_bytes=max_stream_message_bytes,
            tls_context=tls_context,
        )
        self._addressing = Addressing(self._streams, user=user, public_host=public_host)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._attempts: set[asyncio.Task[Response]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._noisy: dict[str, float] = {}
        self._closed = False

    # Life

    async def listen_udp(self, host: str, port: int = 0) -> tuple[str, int]:
        """Listen for datagrams; port 0: any. Returns what was bound. Raises MachineError."""
        udp = UdpSocket(self, host, port)
        self._addressing.udp.append(udp)
        return udp.local

    async def listen_tcp(self, host: str, port: int = 0) -> tuple[str, int]:
        """Listen for connections; port 0: any. Returns what was bound. Raises MachineError."""
        local = await self._streams.listen(host, port)
        self._addressing.listeners[Transport.TCP].append(local)
        return local

    async def listen_tls(
        self, host: str, port: int = 0, *, context: ssl.SSLContext
    ) -> tuple[str, int]:
        """Listen for TLS connections; port 0: any. Returns what was bound.

        ``context`` holds our certificate; one that asks for the peer's (``verify_mode``) makes TLS
        mutual. Raises MachineError, and UsageError if it allows versions below TLS 1.2.
        """
        local = await self._streams.listen(host, port, context)
        self._addressing.listeners[Transport.TLS].append(local)
        return local

    @property
    def connections(self) -> int:
        """Open connections, of either direction."""
        return len(self._streams)

    @property
    def is_listening(self) -> bool:
        """Whether requests can reach us."""
        return not self._closed and self._addressing.is_listening

    async def close(self) -> None:
        """Stop at once: what is pending fails, handlers are cancelled, sockets closed."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._give_up()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._streams.close()
        await self.resolver.close()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        for udp in self._addressing.udp:
            udp.close()

    # Addresses

    def contact(self, flow: Flow, user: str | None = None, *, secure: bool = False) -> str:
        """Our URI for the peer at the other end of ``flow``; ``sips:`` if ``secure``."""
        return self._addressing.contact(flow, user, secure=secure)

    def is_ours(self, uri: URI) -> bool:
        """Whether a request to ``uri`` would come back to us, as far as its address tells."""
        secure = uri.scheme == "sips" or (uri.parameters.get("transport") or "").lower() == "tls"
        return self._addressing.is_ours(
            uri.host.strip("[]"), uri.port or (5061 if secure else 5060)
        )

    async def resolve(self, uri: URI | str, transport: Transport | None = None) -> Flow:
        """The first of the flows to the host of ``uri``: see :meth:`resolve_all`."""
        return (await self.resolve_all(uri, transport))[0]

    async def resolve_all(self, uri: URI | str, transport: Transport | None = None) -> list[Flow]:
        """The flows to the host of ``uri``, in the order to try them (RFC 3263).

        ``transport`` wins over the URI's. Raises PeerError (416, 503).
        """
        if isinstance(uri, str):
            try:
                uri = URI.parse(uri)
            except ValueError as error:
                raise PeerError(f"{uri}: {error}") from error
        return await self.resolver.locate(
            uri,
            transport,
            spoken=self._addressing.spoken,
            families=self._addressing.reaches,
        )

    # Receiver, for the sockets

    def message_received(self, data: bytes, flow: Flow) -> None:
        """One whole message came."""
        if self._closed:
            return
        stranger = self._may_speak is not None and not self._may_speak(flow.host)
        if stranger and data.startswith(_RESPONSE) and self._awaits(flow.host):
            stranger = False  # we asked, whoever it is
        if stranger:
            self._note(flow, "not a peer of ours")
            if self.refusal_status is not None:
                self.endpoint.refuse(data, flow, self.refusal_status)
        else:
            self.endpoint.receive(data, flow, now=self._clock.monotonic())
        self._drain()
        connection = self._streams.find(flow) if stranger and flow.transport.reliable else None
        if connection is not None:
            connection.close()  # else strangers could hold all the connections there may be

    def stream_broken(self, error: BrokenStream, flow: Flow) -> None:
        """A stream cannot be followed: answer what can be, the connection closes after it."""
        self._note(flow, str(error))
        if error.head and (self._may_speak is None or self._may_speak(flow.host)):
            self.endpoint.refuse(error.head, flow, error.status)
            self._drain()

    def flow_failed(self, flow: Flow) -> None:
        """A connection is gone."""
        if not self._closed:
            self.endpoint.transport_failed(flow, now=self._clock.monotonic())
            self._drain()

    def may_connect(self, host: str) -> bool:
        """A stranger that would get no answer need not connect."""
        return self.refusal_status is not None or self._may_speak is None or self._may_speak(host)

    # For who builds on this

    def _dispatch(self, event: Event) -> None:
        """Take what happened."""
        raise NotImplementedError

    def _awaits(self, host: str) -> bool:
        """Whether a response is due from a host."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Fail what is pending: the agent is closed."""
        raise NotImplementedError

    def _drain(self) -> None:
        """Send what is to be sent, hand on what happened, re-arm the timer."""
        if self._closed:
            return
        while True:
            for outgoing in self.endpoint.messages_to_send():
                self._send(outgoing)
            event = self.endpoint.next_event()
            if event is None:
                break
            self._dispatch(event)
        deadline = self.endpoint.next_deadline()
        if deadline != self._armed_for:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._armed_for = deadline
            if deadline is not None:
                delay = max(0.0, deadline - self._clock.monotonic())
                self._timer = self._loop.call_later(delay, self._timer_fired)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fraction(self) -> float:
        """A random number from 0 up to 1."""
        return int(self._ids.new_id()[:12], 16) / 16.0**12

    def _note(self, flow: Flow, reason: str) -> None:
        """Log a bad message: once a minute for each host, or a flood of them would be one more."""
        now = self._clock.monotonic()
        if now - self._noisy.get(flow.host, -LOG_EVERY_SECONDS) < LOG_EVERY_SECONDS:
            return
        if len(self._noisy) >= _MAX_NOISY_HOSTS:
            self._noisy.clear()
        self._noisy[flow.host] = now
        logger.warning("message from %s refused: %s", flow, reason)

    # Within

    def _timer_fired(self) -> None:
        self._armed_for = None
        self._timer = None
        self.endpoint.handle_timeout(now=self._clock.monotonic())
        self._drain()

    def _send(self, outgoing: Outgoing) -> None:
        flow = outgoing.flow
        if flow.transport is Transport.UDP:
            udp = self._addressing.udp_for(flow)
            if udp is None or not udp.send(outgoing.data, flow.host, flow.port):
                self._fail_soon(flow)
            return
        if outgoing.fallback is not None and self._streams.find(flow) is None:
            flow = outgoing.fallback
        self._streams.send(outgoing.data, flow, lambda: self._fail_soon(flow))

    def _fail_soon(self, flow: Flow) -> None:
        # Not at once: what failed was sent from within the drain.
        self._loop.call_soon(self.flow_failed, flow)
