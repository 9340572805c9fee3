"""Requests of peers, and how a handler answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from callreel.base.errors import PeerError, UsageError
from callreel.wire.sip import prack
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.events import RequestReceived
from callreel.wire.sip.message import Request, Response, build_response

if TYPE_CHECKING:
    from callreel.signalling.user_agent import UserAgent


class RequestHandler(Protocol):
    """What a user agent does with the requests that reach it."""

    @property
    def methods(self) -> Sequence[str]:
        """The methods understood, for Allow. ACK, CANCEL and PRACK belong into it, yet never
        arrive: see :meth:`IncomingRequest.acknowledged`, :attr:`IncomingRequest.cancelled` and
        :meth:`IncomingRequest.respond`.
        """
        ...

    @property
    def option_tags(self) -> Sequence[str]:
        """The extensions understood (``timer``, ``siprec``…), for Supported and Require.

        ``100rel`` asks for reliable provisional responses; the user agent sees to them.
        """
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
        self._expired = False
        self._on_prack: Callable[[IncomingRequest], Awaitable[None]] | None = None

    @property
    def contact(self) -> str:
        """Our URI, as it stands in the Contact of our responses."""
        return self._agent.contact(self.flow, secure=self.request.uri.scheme == "sips")

    @property
    def cancelled(self) -> bool:
        """True if the peer sent a CANCEL in time; it has been answered."""
        return self._cancelled.is_set()

    async def wait_cancelled(self) -> None:
        """Wait for a CANCEL: the INVITE is then to be answered with 487. Comes back too if the
        INVITE had to be refused because a reliable provisional response got no PRACK.
        """
        await self._cancelled.wait()

    @property
    def can_be_reliable(self) -> bool:
        """True if the peer and we know reliable provisional responses (RFC 3262)."""
        return (
            self.request.method == "INVITE"
            and self._agent.speaks_100rel
            and prack.is_supported(self.request)
        )

    def respond(
        self,
        code: int,
        phrase: str | None = None,
        *,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        reliable: bool = False,
        on_prack: Callable[[IncomingRequest], Awaitable[None]] | None = None,
    ) -> Response:
        """Answer; a 2xx to an INVITE is repeated until its ACK comes.

        Contact, Allow and Supported are put in where they belong. Raises :class:`Cancelled` for
        a 2xx to an INVITE that was cancelled (let it pass: it becomes the 487), PeerError (408)
        if the transaction is over, PeerError (504) if it ended for want of a PRACK.

        A provisional response to an INVITE is sent reliably if ``reliable`` is wished and the
        peer knows how, and wherever the peer takes no other. Its PRACK is answered with 200;
        ``on_prack`` is given those of the PRACKs from here on that have a body (an answer or a new
        offer), to answer them itself. Without it a new offer is refused with 488.
        """
        if self._expired:
            raise PeerError("no PRACK for a reliable provisional response", status=504)
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
        is_provisional = is_invite and 100 < code < 200
        if is_provisional:
            self._on_prack = on_prack or self._on_prack
            if has("Allow") is None and self.can_be_reliable:
                # Who gets it may send an UPDATE before the call is answered (RFC 3311 §5.1).
                response.headers.set("Allow", self._agent.endpoint.allow)
        reliable = (
            is_provisional
            and self.can_be_reliable
            and (reliable or prack.is_required(self.request))
        )
        if not self._agent._respond(self._transaction, response, reliable=reliable):
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
        """The dialog that our 2xx to this INVITE made, or is about to make. Before that it is the
        early dialog that our provisional responses make: ask once and keep it.
        """
        response = self.response or build_response(self.request, 200, to_tag=self.local_tag)
        return Dialog.uas(self.request, response, self.flow)

    # For the user agent

    async def _handle_prack(self, incoming: IncomingRequest) -> None:
        """Answer the PRACK ``incoming`` of one of our provisional responses."""
        if incoming.request.body and self._on_prack is not None:
            await self._on_prack(incoming)
        elif incoming.request.body and self.request.body:
            raise PeerError("an offer in a PRACK is not taken", status=488)
        if incoming.response is None:
            incoming.respond(200)

    def _expire(self, response: Response) -> None:
        """The INVITE was refused with ``response`` for want of a PRACK."""
        self._expired = True
        self.response = response
        self._cancelled.set()
        self._settled.set()
