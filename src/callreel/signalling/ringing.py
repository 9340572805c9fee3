"""Ringing: destinations are tried as a plan says, until one answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from callreel.base.errors import PeerError
from callreel.calls.model import CallStatus
from callreel.signalling.calling import Caller
from callreel.signalling.credentials import Credentialed
from callreel.signalling.destinations import Destination, destinations
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.outgoing import Provisional, RequestRefused
from callreel.signalling.refusal import Refused
from callreel.signalling.routing import Plan
from callreel.signalling.security import SrtpPolicy
from callreel.wire.sdp import SDP_TYPE
from callreel.wire.sip.digest_client import DigestClient
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.redirect import redirect_targets
from callreel.wire.sip.session_timer import (
    USUAL_SECONDS,
    agreed_timer,
    minimum_after_refusal,
    offer_timer,
)
from callreel.wire.sip.values import URI

NOBODY_ANSWERED = "nobody answered"
MAX_REDIRECTS = 3
"""How often one call is sent elsewhere."""

Ring = Callable[[Destination], Awaitable[Leg]]
"""Rings one destination until it answers. Cancelled, it sends a CANCEL."""
Part = Callable[[Leg], Awaitable[None]]
"""Hangs up a leg that answered and is not wanted."""


class Ringing:
    """The search for somebody who answers, on behalf of one caller.

    ``source`` is whose routes are gone by: those of who calls, or transfers.
    """

    def __init__(self, means: Means, source: str, who: Caller, *, max_forwards: int) -> None:
        self._means = means
        self._source = source
        self._who = who
        self._max_forwards = max_forwards

    async def search(
        self, plan: Plan, ring: Ring, part: Part, *, client: DigestClient | None = None
    ) -> Leg:
        """The leg that answered. Raises ``PeerError``: why nobody did.

        ``client`` answers the challenges of the plan's targets in place of their own; those of
        whom a call is redirected to it does not.
        """
        groups = (
            [self._destinations(plan)]
            if plan.at_once
            else [self._destinations(plan, number) for number in range(len(plan.targets))]
        )
        is_down = self._means.is_down
        groups.sort(key=lambda group: bool(group) and all(is_down(one.name) for one in group))
        if client is not None:
            groups = [[replace(one, client=client) for one in group] for group in groups]
        refusals: list[PeerError] = []
        redirects = 0
        while groups:
            group = groups.pop(0)
            try:
                return await self._ring_together(group, plan.ring_seconds, ring, part)
            except PeerError as error:
                refusals.append(error)
                if 600 <= error.status < 700:
                    break  # nobody else is wanted either (RFC 3261 §21.6)
                elsewhere = self._elsewhere(error)
                if elsewhere and redirects < MAX_REDIRECTS:
                    redirects += 1
                    groups[:0] = elsewhere
        raise best_refusal(refusals)

    def _destinations(self, plan: Plan, number: int | None = None) -> list[Destination]:
        targets = plan.targets if number is None else plan.targets[number : number + 1]
        dialplan, locations = self._means.dialplan, self._means.locations
        return [
            one
            for target in targets
            for one in destinations(target, dialplan.trunks, locations, dialplan.srtp)
        ]

    def _elsewhere(self, error: PeerError) -> list[list[Destination]]:
        """Where a redirect points, as our routes have it: whoever redirects cannot make us call
        what its caller could not (RFC 3261 §8.1.3.4)."""
        if not isinstance(error, RequestRefused) or not 300 <= error.status < 400:
            return []
        groups = []
        for address in redirect_targets(error.response):
            user = address.uri.user or ""
            plan = self._means.dialplan.routes.find(user, self._source) if user else None
            if plan is not None:
                groups.append(self._destinations(plan))
        return groups

    async def _ring_together(
        self, group: Sequence[Destination], seconds: float, ring: Ring, part: Part
    ) -> Leg:
        if not group:
            raise Refused(480, "the phone is not registered")
        tasks = [asyncio.ensure_future(ring(one)) for one in group]
        refusals: list[PeerError] = []
        winner: Leg | None = None
        try:
            async with asyncio.timeout(seconds):
                for finished in asyncio.as_completed(tasks):
                    try:
                        winner = await finished
                    except PeerError as error:
                        refusals.append(error)
                        continue
                    return winner
        except TimeoutError:
            refusals.append(Refused(480, NOBODY_ANSWERED))
        finally:
            late = bool(refusals) and str(refusals[-1]) == NOBODY_ANSWERED
            for task in tasks:
                task.cancel(NOBODY_ANSWERED if late else None)
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:  # answered at the same time: only one can be talked to
                if task.cancelled() or task.exception() is not None:
                    continue
                if task.result() is not winner:
                    self._means.spawn(_quietly(part(task.result())))
        if len(refusals) == 1:
            raise refusals[0]
        raise best_refusal(refusals)

    async def invite(
        self,
        destination: Destination,
        flows: Sequence[Flow],
        leg: Leg,
        body: bytes,
        progress: Callable[[Provisional], None],
    ) -> int:
        """Send an INVITE and wait for the 2xx, whose description the leg then has; its CSeq.

        With a body the 2xx is acknowledged; without one it holds an offer, and its ACK the answer.
        Raises ``RequestRefused`` for any other answer, ``PeerError`` for an answer without audio:
        it is hung up then. Cancelled, it sends a CANCEL.
        """
        agent = self._means.agent
        if destination.srtp is SrtpPolicy.REQUIRED:
            flows = self._fit_for_keys(flows)
        amend = _Amendments(destination)
        request = self._request(destination, flows[0], body)
        if destination.client is not None:
            destination.client.dress(request)
        async with agent.outgoing_invite(
            request, flows, on_provisional=progress, amend=amend
        ) as attempt:
            response = await attempt.final()
            if response.code >= 300:
                raise RequestRefused(response)
            leg.learn_allow(response)
            leg.timer = agreed_timer(response)
            if destination.believed:
                leg.asserted = response.headers.get("P-Asserted-Identity")
            leg.source_host = attempt.flow.host
            leg.srtp = self._means.keys.policy(leg.srtp, attempt.flow)
            leg.describe(response)
            if leg.audio is None:
                raise Refused(488, "no description in the answer")
            if body:
                leg.dialog = await attempt.acknowledge()
            else:
                leg.dialog = attempt.take()
            leg.aim()
            return response.cseq.sequence

    def _fit_for_keys(self, flows: Sequence[Flow]) -> list[Flow]:
        """Those that keys of SRTP may travel over. Raises ``Refused`` (488) where none is."""
        fit, refusal = [], None
        for flow in flows:
            try:
                self._means.keys.policy(SrtpPolicy.REQUIRED, flow)
                fit.append(flow)
            except Refused as error:
                refusal = error
        if not fit and refusal is not None:
            raise refusal
        return fit

    async def flows_of(self, destination: Destination) -> list[Flow]:
        """The ways to a destination, to be tried in order. Raises ``PeerError``."""
        if destination.flow is not None:
            return [destination.flow]
        return await self._means.agent.resolve_all(destination.uri)

    def _request(self, destination: Destination, flow: Flow, body: bytes) -> Request:
        agent = self._means.agent
        domain = destination.from_domain or URI.parse(agent.contact(flow)).host
        trusted = destination.trusted
        return agent.new_request(
            "INVITE",
            destination.uri,
            from_uri=self._who.from_header(domain, number=destination.caller, trusted=trusted),
            to_uri=destination.to,
            body=body,
            content_type=SDP_TYPE if body else None,
            headers=[
                ("Max-Forwards", str(self._max_forwards)),
                *self._who.identity_headers(domain, trusted=trusted),
                *offer_timer(USUAL_SECONDS),
                # Without an offer of ours the PRACK would have to answer one.
                *([("Supported", "100rel")] if body else []),
            ],
        )


def best_refusal(refusals: Sequence[PeerError]) -> PeerError:
    """What the caller is told when nobody answered: of what was said, what says most.

    A refusal of everybody (6xx) first, then busy, then the other answers of a callee; last what
    only says that something between is out of order. A challenge is no concern of the caller's.
    """

    def weight(error: PeerError) -> tuple[int, int]:
        status = error.status
        if 600 <= status < 700:
            return 0, status
        if status == 486:
            return 1, status
        if status in (401, 407, 408) or status >= 500:
            return 4, status
        return (2 if status == 480 else 3), status

    best = min(refusals, key=weight)
    status = {401: 500, 407: 500, 408: 480, 491: 500}.get(best.status, best.status)
    if 300 <= status < 400:
        status = 480  # where it has moved to is for us to try, not for the caller
    return Refused(status if 400 <= status < 700 else 500, str(best))


def ending(error: BaseException) -> tuple[CallStatus, int | None]:
    """How a call ended that was not answered (contract §10.1), and the SIP status."""
    if not isinstance(error, PeerError):
        canceled = isinstance(error, asyncio.CancelledError)
        if canceled and str(error) == NOBODY_ANSWERED:
            return CallStatus.NO_ANSWER, 487
        return (CallStatus.CANCELED, 487) if canceled else (CallStatus.FAILED, 500)
    code = error.status
    if code in (486, 600):
        return CallStatus.BUSY, code
    if code in (408, 480):
        return CallStatus.NO_ANSWER, code
    return (CallStatus.CANCELED if code == 487 else CallStatus.FAILED), code


class _Amendments:
    """What an INVITE is changed to when it is refused: credentials, a longer interval."""

    def __init__(self, destination: Destination) -> None:
        client = destination.client
        self._credentialed = None if client is None else Credentialed(client)
        self._longer = False

    def __call__(self, request: Request, response: Response) -> Request | None:
        if response.code == 422 and not self._longer:  # RFC 4028 §7.3
            self._longer = True
            interval = max(minimum_after_refusal(response), USUAL_SECONDS)
            request.headers.set("Session-Expires", str(interval))
            request.headers.set("Min-SE", str(minimum_after_refusal(response)))
            return request
        return None if self._credentialed is None else self._credentialed(request, response)


async def _quietly(work: Awaitable[None]) -> None:
    with contextlib.suppress(PeerError):
        await work
