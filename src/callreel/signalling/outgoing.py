"""Requests of ours that await an answer, and calls that we place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from callreel.base.errors import PeerError, UsageError
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.prack import (
    MAX_EARLY_DIALOGS,
    ProvisionalReceiver,
    RAck,
    Reception,
)
from callreel.wire.sip.redirect import redirect_targets
from callreel.wire.sip.values import Address, CSeq

if TYPE_CHECKING:
    from callreel.signalling.client import UserAgentClient

MAX_AMENDMENTS = 3
"""How often one INVITE is amended and sent again to the same place."""


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


class DialogGone(PeerError):
    """The peer does not answer in a dialog, or knows nothing of it (RFC 3261 §12.2.1.2)."""


@dataclass(frozen=True, slots=True)
class Provisional:
    """A provisional response to an INVITE of ours (101 to 199)."""

    response: Response
    """The response."""

    dialog: Dialog | None
    """The early dialog, one for each To tag; the same object each time, so that it counts our
    requests in it. None if the response has no tag."""

    reliable: bool
    """True if it is acknowledged by a PRACK (RFC 3262)."""

    needs_answer: bool
    """True if it makes an offer that the PRACK has to answer: that PRACK is left to you, see
    :meth:`OutgoingInvite.acknowledge_provisional`. All others are sent by themselves."""


ProvisionalCallback = Callable[[Provisional], None]


class Pending:
    """A request of ours that awaits its final response."""

    def __init__(self, request: Request, flow: Flow, *, dialog: Dialog | None = None) -> None:
        self.request = request
        """As sent."""
        self.flow = flow
        """Over which."""
        self.transaction = 0
        """Its client transaction."""
        self.abandoned = False
        """True if nobody waits for the answer any more."""
        self.provisional_seen = False
        """True if the peer has said that it is at work, 100 included."""
        self.heard = asyncio.Event()
        """Set at the first response, and at the end."""
        self.on_provisional: ProvisionalCallback | None = None
        """Who is told of provisional responses."""
        self.future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        """The final response."""
        self.dialogs: dict[str, Dialog] = {}
        """The early dialogs by the peer's tag; for a re-INVITE, its dialog."""
        if dialog is not None:
            self.dialogs[dialog.id.remote_tag] = dialog
        self._receiver = ProvisionalReceiver()
        self._offered: set[str] = set()

    def take_provisional(self, response: Response) -> Provisional | None:
        """What a response (101 to 199) tells; None if it came before. Raises PeerError."""
        reception = self._receiver.receive(response)
        if reception is Reception.DROPPED:
            return None
        reliable = reception is Reception.NEW
        tag = response.to_address.tag or ""
        dialog = self.dialogs.get(tag)
        if dialog is None and tag and len(self.dialogs) < MAX_EARLY_DIALOGS:
            dialog = self.dialogs[tag] = Dialog.uac(self.request, response, self.flow)
        offers = (
            reliable and bool(response.body) and not self.request.body and tag not in self._offered
        )
        if offers:
            self._offered.add(tag)
        return Provisional(response, dialog, reliable, offers)

    def dialog_of(self, response: Response) -> Dialog:
        """The dialog that the 2xx ``response`` makes, or confirms."""
        dialog = self.dialogs.get(response.to_address.tag or "")
        if dialog is None:
            return Dialog.uac(self.request, response, self.flow)
        dialog.confirm(response)
        return dialog


class OutgoingInvite:
    """A call that we place, from the INVITE to its final response. Made by
    :meth:`UserAgentClient.outgoing_invite`; the INVITE is sent when the context is entered.

    Of several flows, the next is tried if one cannot be used, does not answer or says 503
    (RFC 3263 §4.3). Leaving the context before there is a final response sends a CANCEL; a 2xx that
    was not taken by :meth:`acknowledge`, or comes later, or from a second fork, is acknowledged and
    hung up.
    """

    def __init__(
        self,
        agent: UserAgentClient,
        request: Request,
        flows: Sequence[Flow],
        *,
        on_provisional: ProvisionalCallback | None,
        amend: Callable[[Request, Response], Request | None] | None,
        first_response_s: float | None,
    ) -> None:
        if not flows:
            raise UsageError("no flow to send the INVITE over")
        self.request = request
        """The INVITE, as it was sent last."""
        self.flow = flows[0]
        """Over which."""
        self.dialog: Dialog | None = None
        """The dialog, once :meth:`acknowledge` was called."""
        self._agent = agent
        self._flows = list(flows)
        self._on_provisional = on_provisional
        self._amend = amend
        self._first_response_s = first_response_s
        self._pending: Pending | None = None
        self._task: asyncio.Task[Response] | None = None
        self._cancelled = False
        self._reason: str | None = None

    async def __aenter__(self) -> Self:
        self._task = self._agent._attempt(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        task = self._running
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None and self.dialog is None:
            assert self._pending is not None
            self._agent._decline(self._pending, task.result())

    async def final(self) -> Response:
        """Wait for the final response, whatever it says.

        A 2xx is to be taken by :meth:`acknowledge`; :attr:`contacts` are those of a 3xx. Raises
        :class:`RequestFailed` if there is none (408), or nothing could be sent (503).
        """
        return await asyncio.shield(self._running)

    def cancel(self, *, reason: str | None = None) -> None:
        """Send a CANCEL, with a Reason (RFC 3326) if given. :meth:`final` still says what became
        of the call: mostly 487, but the answer may have been quicker.
        """
        self._cancelled = True
        self._reason = reason
        if self._pending is not None:
            self._agent._cancel(self._pending, reason)

    @property
    def contacts(self) -> list[Address]:
        """Where the final response redirects to, the most wanted first; empty if it does not."""
        response = self._running.result()
        return redirect_targets(response) if 300 <= response.code < 400 else []

    @property
    def early_dialogs(self) -> list[Dialog]:
        """The early dialogs of the INVITE that was sent last, one for each fork heard of."""
        return [] if self._pending is None else list(self._pending.dialogs.values())

    async def acknowledge(self, *, body: bytes = b"", content_type: str | None = None) -> Dialog:
        """Take the 2xx: send its ACK, with an answer if the 2xx makes the offer.

        Returns the dialog; it is here even if the ACK cannot be sent (:class:`RequestFailed`).
        """
        dialog = self.take()
        cseq = self._running.result().cseq.sequence
        await self._agent.acknowledge(dialog, cseq, body=body, content_type=content_type)
        return dialog

    def take(self) -> Dialog:
        """Take the 2xx without an ACK as yet: it makes an offer, whose answer is still to come.

        The ACK is then left to you: :meth:`UserAgent.acknowledge`, with the CSeq of the 2xx.
        """
        response = self._running.result()
        assert self._pending is not None
        if not 200 <= response.code < 300:
            raise UsageError(f"a {response.code} is not to be acknowledged")
        if self.dialog is None:
            self.dialog = self._pending.dialog_of(response)
        return self.dialog

    async def acknowledge_provisional(
        self, provisional: Provisional, *, body: bytes = b"", content_type: str | None = None
    ) -> Response:
        """Send the PRACK of a provisional response that needs an answer; returns its response."""
        return await self._agent._acknowledge_provisional(
            provisional, body=body, content_type=content_type
        )

    # Within

    @property
    def _running(self) -> asyncio.Task[Response]:
        if self._task is None:
            raise UsageError("the INVITE was not sent: use the call as a context manager")
        return self._task

    async def _run(self) -> Response:
        for position, flow in enumerate(self._flows):
            more = position + 1 < len(self._flows)
            try:
                response = await self._try(flow, self._first_response_s if more else None)
            except RequestFailed:
                self._agent.resolver.failed(flow)
                started = self._pending is not None and self._pending.provisional_seen
                if not more or started or self._cancelled:
                    raise
                continue
            if response.code != 503:
                self._agent.resolver.succeeded(flow)
                return response
            self._agent.resolver.failed(flow)
            if not more or self._cancelled:
                return response
        raise AssertionError("the last flow ends the loop")

    async def _try(self, flow: Flow, first_response_s: float | None) -> Response:
        for _ in range(MAX_AMENDMENTS + 1):
            response = await self._send(flow, first_response_s)
            if self._amend is None or not 400 <= response.code < 500 or self._cancelled:
                break
            amended = self._amend(self.request.copy(), response)
            if amended is None:
                break
            sequence = self.request.cseq.sequence
            if amended.cseq.sequence <= sequence:
                amended.cseq = CSeq(sequence + 1, amended.method)
            self.request = amended
        return response

    async def _send(self, flow: Flow, first_response_s: float | None) -> Response:
        if self._cancelled:
            raise RequestFailed("cancelled before it was sent", status=487)
        # A transaction of its own, and what is put in for this flow stays out of the next.
        request = self.request.copy()
        self.flow = flow
        self._pending = None
        pending = await self._agent._transact(request, flow, self._on_provisional)
        self._pending = pending
        if self._cancelled:
            self._agent._cancel(pending, self._reason)
        return await self._agent._outcome(pending, first_response_s=first_response_s)


def rack_header(response: Response) -> tuple[str, str]:
    """The RAck header field for the PRACK of ``response``."""
    rack = RAck.for_response(response)
    assert rack is not None, "only reliable provisional responses are acknowledged"
    return ("RAck", str(rack))
