"""A SIP user agent on asyncio. What a request means is the handler's business; each request is
handled in a task of its own, so that no call waits for another.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from callreel.base.clock import Clock
from callreel.base.errors import CapacityError, PeerError
from callreel.base.ids import IdSource
from callreel.signalling.client import UserAgentClient
from callreel.signalling.incoming import Cancelled, IncomingRequest, RequestHandler
from callreel.signalling.outgoing import (
    DialogGone,
    OutgoingInvite,
    Provisional,
    RequestFailed,
    RequestRefused,
)
from callreel.signalling.resolver import Resolver
from callreel.wire.sip import glare, prack
from callreel.wire.sip.events import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Event,
    MessageRefused,
    PrackReceived,
    PrackTimedOut,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from callreel.wire.sip.message import MAX_STREAM_MESSAGE_BYTES, Response, build_response

__all__ = [
    "Cancelled",
    "DialogGone",
    "IncomingRequest",
    "OutgoingInvite",
    "Provisional",
    "RequestFailed",
    "RequestHandler",
    "RequestRefused",
    "UserAgent",
]

logger = logging.getLogger("callreel.signalling")


class UserAgent(UserAgentClient):
    """A user agent. Call :meth:`listen_udp`, :meth:`listen_tcp` and :meth:`listen_tls`, as often
    as there are addresses, then use it; close it.

    ``public_host`` replaces the bound address in Via and Contact. ``may_speak`` is asked about
    each source before anything of it is read: False means that its requests are answered with
    ``refusal_status``, or dropped without a word if that is None. Times come from ``clock``,
    branches, tags and chance from ``ids``.

    ``tls_context`` is for the TLS connections that we open: whose certificates are trusted, and
    our own for peers that want one; None: the system's authorities. A peer has to be certified for
    the host of the URI that we resolved (RFC 5922). ``resolver`` asks the DNS; None: as the system
    does.
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
        tls_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.speaks_100rel = prack.OPTION_TAG in handler.option_tags
        """True if reliable provisional responses are offered and taken (RFC 3262)."""
        methods = list(handler.methods)
        if self.speaks_100rel and "PRACK" not in methods:
            methods.append("PRACK")
        super().__init__(
            clock=clock,
            ids=ids,
            methods=methods,
            option_tags=handler.option_tags,
            user_agent_header=user_agent_header,
            user=user,
            public_host=public_host,
            may_speak=may_speak,
            refusal_status=refusal_status,
            max_transactions=max_transactions,
            max_connections=max_connections,
            idle_seconds=idle_seconds,
            max_stream_message_bytes=max_stream_message_bytes,
            tls_context=tls_context,
            resolver=resolver,
        )
        self._handler = handler
        self._incoming: dict[int, IncomingRequest] = {}

    # For the requests that came in

    def _respond(self, transaction: int, response: Response, *, reliable: bool = False) -> bool:
        sent = self.endpoint.respond(
            transaction, response, reliable=reliable, now=self._clock.monotonic()
        )
        if response.code >= 200 and (response.cseq.method != "INVITE" or response.code >= 300):
            self._ledger.end_theirs(transaction)
        self._drain()
        return sent

    # Events

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._request_received(event)
        elif isinstance(event, ResponseReceived):
            self._response_received(event)
        elif isinstance(event, AckReceived | AckTimedOut):
            self._ledger.end_theirs(event.transaction)
            incoming = self._incoming.pop(event.transaction, None)
            if incoming is not None:
                if isinstance(event, AckReceived):
                    incoming._ack = event.request
                incoming._settled.set()
        elif isinstance(event, CancelReceived):
            incoming = self._incoming.get(event.transaction)
            if incoming is not None:
                incoming._cancelled.set()
        elif isinstance(event, PrackReceived):
            self._prack_received(event)
        elif isinstance(event, PrackTimedOut):
            self._ledger.end_theirs(event.transaction)
            incoming = self._incoming.pop(event.transaction, None)
            if incoming is not None:
                incoming._expire(event.response)
        elif isinstance(event, TransactionTimedOut):
            self._fail(event.transaction, "no final response", 408)
        elif isinstance(event, TransportFailed):
            self._fail(event.transaction, "the request could not be sent", 503)
        elif isinstance(event, MessageRefused):
            self._note(event.flow, event.reason)

    def _request_received(self, event: RequestReceived) -> None:
        try:
            self._ledger.begin_theirs(event.request, event.transaction)
        except glare.Glare as error:
            response = build_response(event.request, error.status, to_tag=event.local_tag)
            self.endpoint.respond(event.transaction, response, now=self._clock.monotonic())
            return
        incoming = IncomingRequest(self, event)
        self._incoming[event.transaction] = incoming
        self._spawn(self._handle(incoming, self._handler.handle_request))

    def _prack_received(self, event: PrackReceived) -> None:
        invite = self._incoming.get(event.transaction)
        incoming = IncomingRequest(self, event.prack)
        if invite is None:
            incoming.respond(200)  # of a response that a final one has overtaken
            return
        self._incoming[event.prack.transaction] = incoming
        self._spawn(self._handle(incoming, invite._handle_prack))

    def _fail(self, transaction: int, text: str, status: int) -> None:
        self._ledger.end_theirs(transaction)
        incoming = self._incoming.pop(transaction, None)
        if incoming is not None:
            incoming._settled.set()
        self._request_failed(transaction, text, status)

    async def _handle(
        self,
        incoming: IncomingRequest,
        handler: Callable[[IncomingRequest], Coroutine[Any, Any, None]],
    ) -> None:
        """Run the handler for one request, and see to it that the request is answered."""
        request = incoming.request
        try:
            await handler(incoming)
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
