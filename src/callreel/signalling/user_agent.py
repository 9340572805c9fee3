"""A SIP user agent on asyncio: owns the sockets, the transaction layer and one timer.

Feeds one input, drains all output, re-arms the timer. What a request means is the handler's
business; each request is handled in a task of its own, so that no call waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from callreel.base.clock import Clock
from callreel.base.errors import CapacityError, PeerError, UsageError
from callreel.base.ids import IdSource
from callreel.signalling.transport import Streams, UdpSocket, plain_host, routed_host
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.endpoint import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Endpoint,
    Event,
    MessageRefused,
    Outgoing,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import BrokenStream
from callreel.wire.sip.message import (
    MAX_STREAM_MESSAGE_BYTES,
    Request,
    Response,
    build_response,
    format_hostport,
)
from callreel.wire.sip.values import URI

logger = logging.getLogger("callreel.signalling")

LOG_EVERY_SECONDS = 60.0
"""Bad messages of one host are logged no more often than this."""

_MAX_NOISY_HOSTS = 1_024


class RequestHandler(Protocol):
    """What a user agent does with the requests that reach it."""

    @property
    def methods(self) -> Sequence[str]:
        """The methods understood, for Allow. ACK and CANCEL belong into it, yet never arrive:
        see :meth:`IncomingRequest.acknowledged` and :attr:`IncomingRequest.cancelled`.
        """
        ...

    @property
    def option_tags(self) -> Sequence[str]:
        """The extensions understood (``timer``, ``siprec``…), for Supported and Require."""
        ...

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer one request with :meth:`IncomingRequest.respond`.

        A PeerError that is raised becomes the answer, with its status; any other exception is
        logged and becomes a 500, as does the lack of an answer. An ACK may be awaited in here:
        the next request of the same dialog is handled meanwhile.
        """
        ...


class Cancelled(PeerError):
    """The peer took its INVITE back before it was answered."""

    def __init__(self) -> None:
        super().__init__("the peer cancelled the call", status=487)


class RequestFailed(PeerError):
    """A request of ours was not answered, or could not be sent.

    ``status`` is 408 (no answer) or 503 (no transport), as if the peer had said so.
    """


class RequestRefused(PeerError):
    """The peer refused an INVITE: ``response`` is its final response, ``status`` the code."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.code} {response.phrase}".strip(), status=response.code)
        self.response = response
        """What the peer said."""


class IncomingRequest:
    """One request of a peer, to be answered."""

    def __init__(self, agent: UserAgent, event: RequestReceived) -> None:
        self.request = event.request
        """The request."""
        self.flow = event.flow
        """How it came: the peer's address, and ours."""
        self.local_tag = event.request.to_address.tag or event.local_tag
        """Our tag in the responses."""
        self.response: Response | None = None
        """The final response, once given."""
        self._agent = agent
        self._transaction = event.transaction
        self._cancelled = asyncio.Event()
        self._settled = asyncio.Event()
        self._ack: Request | None = None

    @property
    def contact(self) -> str:
        """Our URI, as it stands in the Contact of our responses."""
        return self._agent.contact(self.flow)

    @property
    def cancelled(self) -> bool:
        """True if the peer sent a CANCEL in time; it has been answered."""
        return self._cancelled.is_set()

    async def wait_cancelled(self) -> None:
        """Wait for a CANCEL: the INVITE is then to be answered with 487."""
        await self._cancelled.wait()

    def respond(
        self,
        code: int,
        phrase: str | None = None,
        *,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Answer; a 2xx to an INVITE is repeated until its ACK comes.

        Contact, Allow and Supported are put in where they belong. Raises :class:`Cancelled` for
        a 2xx to an INVITE that was cancelled (let it pass: it becomes the 487), PeerError (408)
        if the transaction is over.
        """
        if self.response is not None:
            raise UsageError("the request is already answered")
        is_invite = self.request.method == "INVITE"
        if is_invite and 200 <= code < 300 and self.cancelled:
            raise Cancelled
        response = build_response(
            self.request,
            code,
            phrase,
            to_tag=self.local_tag,
            body=body,
            content_type=content_type,
            headers=headers,
        )
        has = response.headers.get
        if 100 < code < 300 and self.request.method in ("INVITE", "UPDATE", "OPTIONS"):
            if has("Contact") is None:
                response.headers.set("Contact", f"<{self.contact}>")
            if code >= 200 and has("Allow") is None:
                response.headers.set("Allow", self._agent.endpoint.allow)
            if code >= 200 and has("Supported") is None and self._agent.endpoint.supported:
                response.headers.set("Supported", self._agent.endpoint.supported)
        if code >= 200:
            self.response = response
        if not self._agent._respond(self._transaction, response):
            raise PeerError("the transaction is over", status=408)
        return response

    async def acknowledged(self) -> Request:
        """Wait for the ACK of our 2xx and return it: it may hold a body.

        Raises PeerError (408) if it does not come in 32 s: the dialog is to be ended with a BYE.
        """
        await self._settled.wait()
        if self._ack is None:
            raise PeerError("no ACK for our 2xx", status=408)
        return self._ack

    def dialog(self) -> Dialog:
        """The dialog that our 2xx to this INVITE made, or is about to make."""
        response = self.response or build_response(self.request, 200, to_tag=self.local_tag)
        return Dialog.uas(self.request, response, self.flow)


class _Pending:
    """A request of ours that awaits its final response."""

    def __init__(self, request: Request, flow: Flow, agent: UserAgent) -> None:
        self.request = request
        self.flow = flow
        self.agent = agent
        self.abandoned = False
        self.on_provisional: Callable[[Response], None] | None = None
        self.future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()


class UserAgent:
    """A user agent. Call :meth:`listen_udp` and :meth:`listen_tcp`, then use it; close it.

    ``public_host`` replaces the bound address in Via and Contact. ``may_speak`` is asked about
    each source before anything of it is read: False means that its requests are answered with
    ``refusal_status``, or dropped without a word if that is None. Times come from ``clock``,
    branches and tags from ``ids``.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        handler: RequestHandler,
        user_agent_header: str = "callreel",
        user: str = "callreel",
        public_host: str | None = None,
        may_speak: Callable[[str], bool] | None = None,
        refusal_status: int | None = 403,
        max_transactions: int = 65_536,
        max_connections: int = 2_000,
        idle_seconds: float = 3_600.0,
        max_stream_message_bytes: int = MAX_STREAM_MESSAGE_BYTES,
    ) -> None:
        self.endpoint = Endpoint(
            ids=ids,
            methods=handler.methods,
            option_tags=handler.option_tags,
            server_header=user_agent_header,
            max_transactions=max_transactions,
            max_stream_message_bytes=max_stream_message_bytes,
        )
        """The transaction layer."""
        self._clock = clock
        self._ids = ids
        self._handler = handler
        self._user_agent_header = user_agent_header
        self._user = user
        self._public_host = public_host
        self._may_speak = may_speak
        self._refusal_status = refusal_status
        self._loop = asyncio.get_running_loop()
        self._udp: list[UdpSocket] = []
        self._tcp_listeners: list[tuple[str, int]] = []
        self._streams = Streams(
            self,
            max_connections=max_connections,
            idle_seconds=idle_seconds,
            max_message_bytes=max_stream_message_bytes,
        )
        self._incoming: dict[int, IncomingRequest] = {}
        self._pending: dict[int, _Pending] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._noisy: dict[str, float] = {}
        self._closed = False

    # Life

    async def listen_udp(self, host: str, port: int = 0) -> tuple[str, int]:
        """Listen for datagrams; port 0: any. Returns what was bound. Raises MachineError."""
        udp = UdpSocket(self, host, port)
        self._udp.append(udp)
        return udp.local

    async def listen_tcp(self, host: str, port: int = 0) -> tuple[str, int]:
        """Listen for connections; port 0: any. Returns what was bound. Raises MachineError."""
        local = await self._streams.listen(host, port)
        self._tcp_listeners.append(local)
        return local

    @property
    def is_listening(self) -> bool:
        """Whether requests can reach us."""
        return not self._closed and bool(self._udp or self._tcp_listeners)

    async def close(self) -> None:
        """Stop at once: what is pending fails, handlers are cancelled, sockets closed."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for pending in list(self._pending.values()):
            if not pending.future.done():
                pending.future.set_exception(RequestFailed("shutting down", status=503))
                pending.future.exception()  # whoever waits is told; if nobody does, that is fine
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._streams.close()
        for udp in self._udp:
            udp.close()

    # Addresses

    def contact(self, flow: Flow, user: str | None = None) -> str:
        """Our URI for the peer at the other end of ``flow``."""
        suffix = "" if flow.transport is Transport.UDP else f";transport={flow.transport.lower()}"
        return f"sip:{user or self._user}@{self._sent_by(flow)}{suffix}"

    async def resolve(self, uri: URI | str, transport: Transport | None = None) -> Flow:
        """The flow to the host of ``uri`` (A and AAAA records; no NAPTR, no SRV).

        ``transport`` wins over the URI's; without either it is UDP. Raises PeerError (416, 503).
        """
        if isinstance(uri, str):
            try:
                uri = URI.parse(uri)
            except ValueError as error:
                raise PeerError(f"{uri}: {error}") from error
        named = (uri.parameters.get("transport") or "").upper()
        if uri.scheme != "sip" or named not in ("", "UDP", "TCP"):
            raise PeerError(f"{uri}: only sip: over UDP and TCP is spoken", status=416)
        chosen = transport or (Transport(named) if named else Transport.UDP)
        port = uri.port or 5060
        host = uri.host.strip("[]")
        try:
            return Flow(chosen, plain_host(str(ipaddress.ip_address(host))), port)
        except ValueError:
            pass
        try:
            found = await self._loop.getaddrinfo(host, port)
        except (OSError, UnicodeError) as error:
            raise PeerError(f"{host} cannot be resolved", status=503) from error
        return Flow(chosen, plain_host(str(found[0][4][0])), port)

    # Requests of ours

    def new_request(
        self,
        method: str,
        uri: URI | str,
        *,
        from_uri: str,
        to_uri: str | None = None,
        call_id: str | None = None,
        cseq: int = 1,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Request:
        """A request outside any dialog (RFC 3261 §8.1.1). ``from_uri`` and ``to_uri`` are URIs
        or whole addresses with a display name; the tag of From is put in.
        """
        request = Request(method, uri if isinstance(uri, URI) else URI.parse(uri))
        sender = from_uri if "<" in from_uri else f"<{from_uri}>"
        receiver = to_uri or str(request.uri)
        request.headers.set("From", f"{sender};tag={self._ids.new_id()[:16]}")
        request.headers.set("To", receiver if "<" in receiver else f"<{receiver}>")
        request.headers.set("Call-ID", call_id or self._ids.new_id())
        request.headers.set("CSeq", f"{cseq} {method}")
        for name, value in headers:
            request.headers.add(name, value)
        request.set_body(body, content_type)
        return request

    async def request(
        self,
        request: Request,
        flow: Flow,
        *,
        on_provisional: Callable[[Response], None] | None = None,
    ) -> Response:
        """Send a request and wait for its final response.

        The 2xx to an INVITE must be acknowledged by the caller: :meth:`invite` does it all.
        Raises :class:`RequestFailed`. A task that is cancelled while it waits here sends a
        CANCEL if the request is an INVITE, and ends the call should it be answered all the same.
        """
        transaction = await self._send_request(request, flow)
        pending = self._pending[transaction]
        pending.on_provisional = on_provisional
        try:
            return await asyncio.shield(pending.future)
        except asyncio.CancelledError:
            pending.abandoned = True
            if request.method == "INVITE" and not self._closed:
                if pending.future.done() and not pending.future.exception():
                    self._decline_late(pending, pending.future.result())
                self.endpoint.cancel(transaction, now=self._clock.monotonic())
                self._drain()
            raise

    async def invite(
        self,
        request: Request,
        flow: Flow,
        *,
        on_provisional: Callable[[Response], None] | None = None,
    ) -> tuple[Dialog, Response]:
        """Send an INVITE with an offer, acknowledge its 2xx, return the dialog and the 2xx.

        Raises :class:`RequestRefused` for any other final response and :class:`RequestFailed`.
        """
        response = await self.request(request, flow, on_provisional=on_provisional)
        if response.code >= 300:
            raise RequestRefused(response)
        dialog = Dialog.uac(request, response, flow)
        await self.acknowledge(dialog, request.cseq.sequence)
        return dialog, response

    async def acknowledge(
        self, dialog: Dialog, cseq: int, *, body: bytes = b"", content_type: str | None = None
    ) -> None:
        """Send the ACK of the 2xx to our INVITE number ``cseq``, and again if that is repeated."""
        ack = dialog.ack(cseq, body=body, content_type=content_type)
        self._dress(ack)
        flow = await self.flow_of(dialog)
        if flow.transport.reliable:
            await self._open(flow)
        now = self._clock.monotonic()
        self.endpoint.acknowledge(ack, flow, sent_by=self._sent_by(flow), now=now)
        self._drain()

    async def request_in_dialog(
        self,
        dialog: Dialog,
        method: str,
        *,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Send BYE, UPDATE, re-INVITE… and wait for the final response, whatever it says.

        The 2xx to a re-INVITE is acknowledged. Raises :class:`RequestFailed`; 408 and 481 mean
        that the dialog is gone (RFC 3261 §12.2.1.2).
        """
        flow = await self.flow_of(dialog)
        if flow.transport.reliable:
            await self._open(flow)
        request = dialog.request(
            method,
            contact=self.contact(flow) if method in ("INVITE", "UPDATE") else None,
            body=body,
            content_type=content_type,
            headers=headers,
        )
        response = await self.request(request, flow)
        dialog.receive_response(response)
        if method == "INVITE" and response.code < 300:
            await self.acknowledge(dialog, request.cseq.sequence)
        return response

    async def flow_of(self, dialog: Dialog) -> Flow:
        """The flow for our requests in ``dialog``: the open connection over which it was made,
        else the way to its next hop.
        """
        made = dialog.flow
        if made is not None and made.transport.reliable and self._streams.find(made):
            return made
        flow = await self.resolve(dialog.next_hop())
        if made is not None and made.local is not None and flow.transport is made.transport:
            return Flow(flow.transport, flow.host, flow.port, made.local)
        return flow

    # Receiver, for the sockets

    def message_received(self, data: bytes, flow: Flow) -> None:
        """One whole message came."""
        if self._closed:
            return
        stranger = self._may_speak is not None and not self._may_speak(flow.host)
        if stranger:
            self._note(flow, "not a peer of ours")
            if self._refusal_status is not None:
                self.endpoint.refuse(data, flow, self._refusal_status)
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
        return self._refusal_status is not None or self._may_speak is None or self._may_speak(host)

    # Within

    def _respond(self, transaction: int, response: Response) -> bool:
        sent = self.endpoint.respond(transaction, response, now=self._clock.monotonic())
        self._drain()
        return sent

    async def _send_request(self, request: Request, flow: Flow) -> int:
        if self._closed:
            raise RequestFailed("shutting down", status=503)
        self._dress(request)
        if flow.transport.reliable:
            flow = Flow(flow.transport, flow.host, flow.port)  # as the connection calls itself
            await self._open(flow)
        if request.method == "INVITE" and request.headers.get("Contact") is None:
            request.headers.set("Contact", f"<{self.contact(flow)}>")
        try:
            transaction = self.endpoint.request(
                request, flow, sent_by=self._sent_by(flow), now=self._clock.monotonic()
            )
        except PeerError as error:
            raise RequestFailed(str(error), status=error.status) from error
        self._pending[transaction] = _Pending(request, flow, self)
        self._loop.call_soon(self._drain)
        return transaction

    def _dress(self, request: Request) -> None:
        if request.headers.get("User-Agent") is None and self._user_agent_header:
            request.headers.set("User-Agent", self._user_agent_header)
        if request.method in ("INVITE", "UPDATE", "OPTIONS"):
            if request.headers.get("Allow") is None:
                request.headers.set("Allow", self.endpoint.allow)
            if request.headers.get("Supported") is None and self.endpoint.supported:
                request.headers.set("Supported", self.endpoint.supported)

    async def _open(self, flow: Flow) -> None:
        try:
            await self._streams.open(flow)
        except (PeerError, CapacityError) as error:
            raise RequestFailed(str(error), status=503) from error

    def _sent_by(self, flow: Flow) -> str:
        """Our ``host:port`` as the peer at the other end of ``flow`` should see it."""
        host = flow.local[0] if flow.local else ""
        port = flow.local[1] if flow.local else 0
        if flow.transport is Transport.UDP:
            if not port:
                udp = self._udp_for(flow)
                host, port = udp.local if udp else ("", 5060)
        else:
            connection = self._streams.find(flow)
            host = connection.local[0] if connection else host
            port = connection.local[1] if connection else port
            if self._tcp_listeners:
                port = self._tcp_listeners[0][1]
        if self._public_host:
            host = self._public_host
        elif host in ("", "0.0.0.0", "::"):
            host = routed_host(flow.host, flow.port)
        return format_hostport(host, port)

    def _udp_for(self, flow: Flow) -> UdpSocket | None:
        """The socket for ``flow``: the one it names, else the first that speaks its family."""
        family = [udp for udp in self._udp if (":" in udp.local[0]) == (":" in flow.host)]
        for udp in family:
            if udp.local == flow.local:
                return udp
        return family[0] if family else None

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

    def _timer_fired(self) -> None:
        self._armed_for = None
        self._timer = None
        self.endpoint.handle_timeout(now=self._clock.monotonic())
        self._drain()

    def _send(self, outgoing: Outgoing) -> None:
        flow = outgoing.flow
        if flow.transport is Transport.UDP:
            udp = self._udp_for(flow)
            if udp is None or not udp.send(outgoing.data, flow.host, flow.port):
                self._fail_soon(flow)
            return
        if outgoing.fallback is not None and self._streams.find(flow) is None:
            flow = outgoing.fallback
        self._streams.send(outgoing.data, flow, lambda: self._fail_soon(flow))

    def _fail_soon(self, flow: Flow) -> None:
        # Not at once: what failed was sent from within the drain.
        self._loop.call_soon(self.flow_failed, flow)

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            incoming = IncomingRequest(self, event)
            self._incoming[event.transaction] = incoming
            self._spawn(self._handle(incoming))
        elif isinstance(event, ResponseReceived):
            self._response_received(event)
        elif isinstance(event, AckReceived):
            incoming_or_none = self._incoming.pop(event.transaction, None)
            if incoming_or_none is not None:
                incoming_or_none._ack = event.request
                incoming_or_none._settled.set()
        elif isinstance(event, AckTimedOut):
            incoming_or_none = self._incoming.pop(event.transaction, None)
            if incoming_or_none is not None:
                incoming_or_none._settled.set()
        elif isinstance(event, CancelReceived):
            incoming_or_none = self._incoming.get(event.transaction)
            if incoming_or_none is not None:
                incoming_or_none._cancelled.set()
        elif isinstance(event, TransactionTimedOut):
            self._fail(event.transaction, "no final response", 408)
        elif isinstance(event, TransportFailed):
            self._fail(event.transaction, "the request could not be sent", 503)
        elif isinstance(event, MessageRefused):
            self._note(event.flow, event.reason)

    def _response_received(self, event: ResponseReceived) -> None:
        pending = self._pending.get(event.transaction)
        if pending is None:
            return
        if event.response.code < 200:
            if pending.on_provisional is not None and event.response.code > 100:
                pending.on_provisional(event.response)
            return
        is_2xx_to_invite = event.response.code < 300 and pending.request.method == "INVITE"
        if not is_2xx_to_invite:
            self._pending.pop(event.transaction)
        if not pending.future.done():
            pending.future.set_result(event.response)
            if is_2xx_to_invite:
                # Kept for as long as the 2xx may come again, from this or another fork.
                self._loop.call_later(64.0, self._pending.pop, event.transaction, None)
            if not pending.abandoned:
                return
        elif event.response.headers.get("To") == pending.future.result().headers.get("To"):
            return  # the caller is about to acknowledge it
        if is_2xx_to_invite:
            self._decline_late(pending, event.response)

    def _decline_late(self, pending: _Pending, response: Response) -> None:
        """End a call that was answered after we gave it up, or by a second fork (§13.2.2.4)."""
        if response.code < 300:
            self._spawn(self._hang_up(pending, response))

    async def _hang_up(self, pending: _Pending, response: Response) -> None:
        with contextlib.suppress(PeerError):
            dialog = Dialog.uac(pending.request, response, pending.flow)
            await self.acknowledge(dialog, pending.request.cseq.sequence)
            await self.request_in_dialog(dialog, "BYE")

    def _fail(self, transaction: int, text: str, status: int) -> None:
        incoming = self._incoming.pop(transaction, None)
        if incoming is not None:
            incoming._settled.set()
        pending = self._pending.pop(transaction, None)
        if pending is not None and not pending.future.done():
            method = pending.request.method
            pending.future.set_exception(
                RequestFailed(f"{method} to {pending.flow}: {text}", status=status)
            )
            if pending.abandoned:
                pending.future.exception()

    async def _handle(self, incoming: IncomingRequest) -> None:
        """Run the handler for one request, and see to it that the request is answered."""
        request = incoming.request
        try:
            await self._handler.handle_request(incoming)
        except PeerError as error:
            if incoming.response is None:
                headers = list(getattr(error, "headers", ()))
                self._answer_for_handler(incoming, error.status, headers)
            if not isinstance(error, Cancelled):
                logger.info("%s from %s: %s", request.method, incoming.flow, error)
        except CapacityError as error:
            logger.warning("%s from %s: %s", request.method, incoming.flow, error)
            self._answer_for_handler(incoming, 503, [("Retry-After", "5")])
        except Exception:
            logger.exception("%s from %s could not be handled", request.method, incoming.flow)
            self._answer_for_handler(incoming, 500)
        else:
            if incoming.response is None:
                self._answer_for_handler(incoming, 500)
        finally:
            if request.method != "INVITE" or (
                incoming.response is None or incoming.response.code >= 300
            ):
                self._incoming.pop(incoming._transaction, None)

    def _answer_for_handler(
        self, incoming: IncomingRequest, status: int, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        if incoming.response is None:
            code = 487 if incoming.cancelled else status
            with contextlib.suppress(PeerError):
                incoming.respond(code if 300 <= code < 700 else 500, headers=headers)

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, flow: Flow, reason: str) -> None:
        """Log a bad message: once a minute for each host, or a flood of them would be one more."""
        now = self._clock.monotonic()
        if now - self._noisy.get(flow.host, -LOG_EVERY_SECONDS) < LOG_EVERY_SECONDS:
            return
        if len(self._noisy) >= _MAX_NOISY_HOSTS:
            self._noisy.clear()
        self._noisy[flow.host] = now
        logger.warning("message from %s refused: %s", flow, reason)
