"""The client's side of a user agent: requests of ours, within dialogs and outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from callreel.base.errors import CapacityError, PeerError
from callreel.signalling.outgoing import (
    DialogGone,
    OutgoingInvite,
    Pending,
    Provisional,
    ProvisionalCallback,
    RequestFailed,
    RequestRefused,
    rack_header,
)
from callreel.signalling.transceiver import Transceiver
from callreel.wire.sip import glare
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.events import ResponseReceived
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.values import URI

logger = logging.getLogger("callreel.signalling")

GLARE_ATTEMPTS = 4
"""How often a change of ours is tried that crosses the peer's."""

_NEEDS_CONTACT = frozenset({"INVITE", "NOTIFY", "REFER", "SUBSCRIBE", "UPDATE"})


class UserAgentClient(Transceiver):
    """A user agent client (RFC 3261 §8.1). Options: those of :class:`Transceiver`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ledger = glare.Ledger()
        self._pending: dict[int, Pending] = {}
        self._asked: Counter[str] = Counter()

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
        told = None if on_provisional is None else _response_only(on_provisional)
        return await self._outcome(await self._transact(request, flow, told))

    async def request_any(self, request: Request, flows: Sequence[Flow]) -> Response:
        """Send a request outside a dialog to the first of ``flows`` that answers it with anything
        but a 503 (RFC 3263 §4.3), and return its final response. Raises :class:`RequestFailed`.
        """
        return await self._request_any(request, flows)

    def outgoing_invite(
        self,
        request: Request,
        flows: Sequence[Flow],
        *,
        on_provisional: ProvisionalCallback | None = None,
        amend: Callable[[Request, Response], Request | None] | None = None,
        first_response_s: float | None = None,
    ) -> OutgoingInvite:
        """Place a call: ``async with agent.outgoing_invite(…) as attempt`` sends the INVITE.

        ``on_provisional`` is told of every provisional response, once. ``amend`` is given each
        refusal with 4xx and the INVITE it was for, and returns what to send instead (credentials
        after a 407, a longer interval after a 422), or None. ``first_response_s`` is how long a
        flow may stay mute before the next is tried, if shorter than the 32 s of timer B.
        """
        return OutgoingInvite(
            self,
            request,
            flows,
            on_provisional=on_provisional,
            amend=amend,
            first_response_s=first_response_s,
        )

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
        told = None if on_provisional is None else _response_only(on_provisional)
        async with self.outgoing_invite(request, [flow], on_provisional=told) as attempt:
            response = await attempt.final()
            if response.code >= 300:
                raise RequestRefused(response)
            return await attempt.acknowledge(), response

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
        sent_by = self._addressing.sent_by(flow)
        self.endpoint.acknowledge(ack, flow, sent_by=sent_by, now=now)
        self._drain()

    async def request_in_dialog(
        self,
        dialog: Dialog,
        method: str,
        *,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        on_provisional: ProvisionalCallback | None = None,
        acknowledge: bool = True,
    ) -> Response:
        """Send BYE, UPDATE, re-INVITE… and wait for the final response, whatever it says.

        The 2xx to a re-INVITE is acknowledged, unless you do it (``acknowledge`` False, for an
        answer in the ACK: number ``response.cseq.sequence``). Raises :class:`RequestFailed`; 408
        and 481 mean that the dialog is gone (RFC 3261 §12.2.1.2). A change of the session while
        another of ours is pending raises :class:`~callreel.wire.sip.glare.Glare` (491), as the
        peer would say; one that meets a change of the peer's is the peer's to refuse. See
        :meth:`modify`.
        """
        changes = method == "INVITE" or (method == "UPDATE" and bool(body))
        if changes:
            self._ledger.begin_ours(dialog.id)
        try:
            flows = await self.flows_of(dialog)
            request = dialog.request(method, body=body, content_type=content_type, headers=headers)
            response = await self._request_any(
                request, flows, dialog=dialog, on_provisional=on_provisional
            )
            dialog.receive_response(response)
            if method == "INVITE" and response.code < 300 and acknowledge:
                await self.acknowledge(dialog, request.cseq.sequence)
            return response
        finally:
            if changes:
                self._ledger.end_ours(dialog.id)

    async def modify(
        self,
        dialog: Dialog,
        method: str,
        *,
        body: bytes | Callable[[], bytes] = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Change a session on our own account (INVITE or UPDATE): where that crosses a change of
        the peer's, it is tried again after a random pause (RFC 3261 §14.1).

        A ``body`` that is a function is asked anew each time, as the peer's change may have altered
        what is to be offered. Returns the final response. Raises :class:`DialogGone` for 408 and
        481, :class:`RequestFailed` (503), and Glare (491) after the last attempt.
        """
        fields = list(headers)
        for attempt in range(GLARE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(
                    glare.retry_interval(
                        owns_call_id=dialog.owns_call_id, fraction=self._fraction()
                    )
                )
            if self._ledger.is_theirs(dialog.id):
                continue
            try:
                response = await self.request_in_dialog(
                    dialog,
                    method,
                    body=body() if callable(body) else body,
                    content_type=content_type,
                    headers=fields,
                )
            except glare.Glare:
                continue
            except RequestFailed as error:
                if error.status == 408:
                    raise DialogGone(str(error), status=408) from error
                raise
            if response.code in (408, 481):
                raise DialogGone(f"{response.code} {response.phrase}", status=response.code)
            if response.code != 491:
                return response
        raise glare.Glare

    async def flow_of(self, dialog: Dialog) -> Flow:
        """The flow for our requests in ``dialog``: the first of :meth:`flows_of`."""
        return (await self.flows_of(dialog))[0]

    async def flows_of(self, dialog: Dialog) -> list[Flow]:
        """The flows for our requests in ``dialog``: the open connection over which it was made,
        else the ways to its next hop.
        """
        made = dialog.flow
        if made is not None and made.transport.reliable and self._streams.find(made):
            return [made]
        flows = await self.resolve_all(dialog.next_hop())
        if made is None or made.local is None:
            return flows
        return [
            Flow(flow.transport, flow.host, flow.port, made.local, flow.domain)
            if flow.transport is made.transport
            else flow
            for flow in flows
        ]

    # For a call that is being placed

    async def _transact(
        self,
        request: Request,
        flow: Flow,
        on_provisional: ProvisionalCallback | None = None,
        dialog: Dialog | None = None,
    ) -> Pending:
        """Send a request; raises RequestFailed if that cannot be done."""
        if self._closed:
            raise RequestFailed("shutting down", status=503)
        self._dress(request)
        if flow.transport.reliable:
            flow = flow.unbound  # as the connection calls itself
            await self._open(flow)
        if request.method in _NEEDS_CONTACT and request.headers.get("Contact") is None:
            contact = self.contact(flow, secure=request.uri.scheme == "sips")
            request.headers.set("Contact", f"<{contact}>")
        pending = Pending(request, flow, dialog=dialog)
        pending.on_provisional = on_provisional
        try:
            pending.transaction = self.endpoint.request(
                request,
                flow,
                sent_by=self._addressing.sent_by(flow),
                now=self._clock.monotonic(),
            )
        except PeerError as error:
            raise RequestFailed(str(error), status=error.status) from error
        self._pending[pending.transaction] = pending
        self._asked[pending.flow.host] += 1
        self._loop.call_soon(self._drain)
        return pending

    async def _outcome(
        self, pending: Pending, *, first_response_s: float | None = None
    ) -> Response:
        """Wait for the final response; who stops waiting for that of an INVITE cancels it."""
        try:
            if first_response_s is not None:
                async with asyncio.timeout(first_response_s):
                    await pending.heard.wait()
            return await asyncio.shield(pending.future)
        except (asyncio.CancelledError, TimeoutError) as error:
            self._abandon(pending)
            if isinstance(error, TimeoutError):
                raise RequestFailed(f"no response from {pending.flow}", status=408) from None
            raise

    def _cancel(self, pending: Pending, reason: str | None) -> None:
        self.endpoint.cancel(pending.transaction, reason=reason, now=self._clock.monotonic())
        self._drain()

    def _decline(self, pending: Pending, response: Response) -> None:
        """End a call that was answered after we gave it up, or by a second fork (§13.2.2.4)."""
        if response.code < 300 and not self._closed:
            self._spawn(self._hang_up(pending, response))

    def _attempt(self, work: Coroutine[Any, Any, Response]) -> asyncio.Task[Response]:
        task = self._loop.create_task(work)
        self._attempts.add(task)
        task.add_done_callback(self._attempt_done)
        return task

    async def _acknowledge_provisional(
        self, provisional: Provisional, *, body: bytes = b"", content_type: str | None = None
    ) -> Response:
        if provisional.dialog is None:
            raise PeerError("a reliable provisional response without a tag")
        return await self.request_in_dialog(
            provisional.dialog,
            "PRACK",
            body=body,
            content_type=content_type,
            headers=[rack_header(provisional.response)],
        )

    # Events

    def _response_received(self, event: ResponseReceived) -> None:
        pending = self._pending.get(event.transaction)
        if pending is None:
            return
        pending.heard.set()
        if event.response.code < 200:
            pending.provisional_seen = True
            if event.response.code > 100:
                self._provisional_received(pending, event)
            return
        is_2xx_to_invite = event.response.code < 300 and pending.request.method == "INVITE"
        if not is_2xx_to_invite:
            self._forget(event.transaction)
        if not pending.future.done():
            pending.future.set_result(event.response)
            if is_2xx_to_invite:
                # Kept for as long as the 2xx may come again, from this or another fork.
                self._loop.call_later(64.0, self._forget, event.transaction)
            if not pending.abandoned:
                return
        elif event.response.headers.get("To") == pending.future.result().headers.get("To"):
            return  # the caller is about to acknowledge it
        if is_2xx_to_invite:
            self._decline(pending, event.response)

    def _request_failed(self, transaction: int, text: str, status: int) -> None:
        pending = self._forget(transaction)
        if pending is None:
            return
        pending.heard.set()
        if not pending.future.done():
            method = pending.request.method
            pending.future.set_exception(
                RequestFailed(f"{method} to {pending.flow}: {text}", status=status)
            )
            if pending.abandoned:
                pending.future.exception()

    def _forget(self, transaction: int) -> Pending | None:
        pending = self._pending.pop(transaction, None)
        if pending is not None:
            host = pending.flow.host
            self._asked[host] -= 1
            if not self._asked[host]:
                del self._asked[host]
        return pending

    def _awaits(self, host: str) -> bool:
        return host in self._asked

    def _give_up(self) -> None:
        for pending in list(self._pending.values()):
            if not pending.future.done():
                pending.future.set_exception(RequestFailed("shutting down", status=503))
                pending.future.exception()  # whoever waits is told; if nobody does, that is fine

    # Within

    def _provisional_received(self, pending: Pending, event: ResponseReceived) -> None:
        if pending.request.method != "INVITE":
            return
        try:
            provisional = pending.take_provisional(event.response)
        except PeerError as error:
            self._note(event.flow, str(error))
            return
        if provisional is None:
            return
        if provisional.reliable and (not provisional.needs_answer or pending.abandoned):
            self._spawn(self._prack(provisional))
        if pending.on_provisional is not None and not pending.abandoned:
            try:
                pending.on_provisional(provisional)
            except Exception:
                logger.exception("a %d from %s was not used", event.response.code, event.flow)

    async def _prack(self, provisional: Provisional) -> None:
        try:
            await self._acknowledge_provisional(provisional)
        except PeerError as error:
            logger.info("PRACK was not answered: %s", error)

    async def _hang_up(self, pending: Pending, response: Response) -> None:
        with contextlib.suppress(PeerError):
            dialog = pending.dialog_of(response)
            await self.acknowledge(dialog, pending.request.cseq.sequence)
            await self.request_in_dialog(dialog, "BYE")

    def _abandon(self, pending: Pending) -> None:
        pending.abandoned = True
        if pending.request.method == "INVITE" and not self._closed:
            if pending.future.done() and not pending.future.exception():
                self._decline(pending, pending.future.result())
            self._cancel(pending, None)

    async def _request_any(
        self,
        request: Request,
        flows: Sequence[Flow],
        *,
        dialog: Dialog | None = None,
        on_provisional: ProvisionalCallback | None = None,
    ) -> Response:
        for flow in flows[:-1]:
            try:
                pending = await self._transact(request.copy(), flow, on_provisional, dialog)
                response = await self._outcome(pending)
            except RequestFailed:
                if self._closed:
                    raise
            else:
                if response.code != 503:
                    self.resolver.succeeded(flow)
                    return response
            self.resolver.failed(flow)
        pending = await self._transact(request.copy(), flows[-1], on_provisional, dialog)
        try:
            response = await self._outcome(pending)
        except RequestFailed:
            self.resolver.failed(flows[-1])
            raise
        return response

    def _attempt_done(self, task: asyncio.Task[Response]) -> None:
        self._attempts.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits is told; if nobody does, that is fine

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
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise RequestFailed("shutting down", status=503) from None
            raise


def _response_only(told: Callable[[Response], None]) -> ProvisionalCallback:
    return lambda provisional: told(provisional.response)
