"""Changes within a bridged call: hold, codecs, session timers. What one side asks, the other is
asked (RFC 3261 §14, RFC 3311, RFC 4028)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from callreel.base.errors import PeerError
from callreel.signalling.bridge import Bridge
from callreel.signalling.leg import Leg, read_description
from callreel.signalling.means import Means
from callreel.signalling.passing import Audio, onward_answer, onward_offer, same_media
from callreel.signalling.refusal import Refused
from callreel.signalling.security import answer_line, later_lines, lines_of_our_own
from callreel.signalling.session_timers import SessionTimers, one_offer_at_a_time
from callreel.signalling.user_agent import IncomingRequest, RequestFailed
from callreel.wire import sdp
from callreel.wire.sdes import Crypto
from callreel.wire.sip.message import Response
from callreel.wire.sip.session_timer import USUAL_SECONDS, answer_timer

_INFO_BODIES = ("application/dtmf-relay", "application/dtmf")
_MAX_INFO_BYTES = 1024

End = Callable[[Bridge, str], Coroutine[Any, Any, None]]
"""Ends a call, with a reason."""


class Reoffers:
    """What happens in the dialogs of calls that are bridged."""

    def __init__(self, means: Means, end: End) -> None:
        self._means = means
        self.end = end
        """Ends a call, with a reason."""
        self._timers = SessionTimers(means, end)

    async def pass_on(self, bridge: Bridge, leg: Leg, incoming: IncomingRequest) -> None:
        """A re-INVITE or UPDATE: its offer goes to the other side, whose answer comes back.

        What only refreshes the session is answered here. An offer that crosses one of ours, or of
        the other side, gets 491 (RFC 3261 §14.2).
        """
        request = incoming.request
        assert leg.dialog is not None
        theirs = read_description(request)
        with_offer = request.method == "INVITE" or theirs is not None
        async with one_offer_at_a_time(bridge, with_offer):
            leg.dialog.receive_request(request)
            timer = answer_timer(request, wished_seconds=USUAL_SECONDS)
            late = theirs is None and request.method == "INVITE"
            body = b""
            if theirs is not None and leg.theirs is not None and same_media(theirs, leg.theirs):
                assert leg.ours is not None
                body = leg.ours.serialize()
            elif theirs is not None:
                body = await self._offer_to_other(bridge, leg, theirs)
            elif late:
                assert leg.ours is not None
                body = leg.ours.serialize()
            leg.learn_allow(request)
            leg.aim()
            leg.timer = timer
            incoming.respond(
                200,
                body=body,
                content_type=sdp.SDP_TYPE if body else None,
                headers=timer.headers if timer else (),
            )
            self.arm(bridge, leg)
            if request.method == "INVITE":
                await self._acknowledged(bridge, leg, incoming, late=late)

    async def _acknowledged(
        self, bridge: Bridge, leg: Leg, incoming: IncomingRequest, *, late: bool
    ) -> None:
        try:
            ack = await incoming.acknowledged()
        except PeerError:
            await self.end(bridge, "no ACK for our 200")
            return
        if not late or bridge.ended:
            return
        # We offered what we last said; what it answers is news for the other side (§14.2).
        theirs = read_description(ack)
        if theirs is not None and (leg.theirs is None or not same_media(theirs, leg.theirs)):
            await self._offer_to_other(bridge, leg, theirs)

    async def _offer_to_other(
        self, bridge: Bridge, leg: Leg, theirs: sdp.SessionDescription
    ) -> bytes:
        """Ask the other side; what it says as the answer for this one.

        Raises ``PeerError`` with the other side's refusal; then both stay as they were.
        """
        if leg.theirs is not None:
            sdp.check_reoffer(leg.theirs, theirs)
        other = bridge.other(leg)
        assert other.dialog is not None
        offered = leg.audio_in(theirs)
        assert other.audio is not None
        crypto: tuple[Crypto, ...] = ()
        if other.our_media is not None:
            crypto = later_lines(
                other.our_media, other.audio.media, leg.keys, offered.crypto, other.new_key
            )
        offer = onward_offer(
            offered, other.address, other.session.next, previous=other.ours, crypto=crypto
        )
        method = "UPDATE" if "UPDATE" in other.allow and "INVITE" not in other.allow else "INVITE"
        try:
            response = await self._means.agent.request_in_dialog(
                other.dialog, method, body=offer.serialize(), content_type=sdp.SDP_TYPE
            )
        except RequestFailed as error:
            if error.status == 408:
                self._lost(bridge)
            raise
        if response.code >= 300:
            if response.code in (408, 481):
                self._lost(bridge)
            raise _refusal(response)
        answered, described = _answer(response, other)
        answer = onward_answer(
            theirs,
            offered,
            answered,
            leg.address,
            leg.session.next,
            crypto=answer_line(
                offered.media,
                offer.media[answered.index],
                answered.media,
                before=leg.kept_keys,
                new_key=leg.new_key,
            ),
        )
        other.tell(offer)
        other.theirs, other.audio = described, answered
        leg.theirs, leg.audio = theirs, offered
        body = leg.tell(answer)
        await self._means.listen(leg)
        await self._means.listen(other)
        return body

    async def tell(self, bridge: Bridge, leg: Leg, other: Leg) -> None:
        """Describe a new other side to a leg, where what it was told before does not fit any more.

        Raises ``PeerError`` with its refusal.
        """
        assert leg.dialog is not None
        assert other.audio is not None
        crypto: tuple[Crypto, ...] = ()
        if leg.our_media is not None and leg.audio is not None:
            crypto = lines_of_our_own(leg.our_media, leg.audio.media, leg.kept_keys, leg.new_key)
        offer = onward_offer(
            other.audio, leg.address, leg.session.next, previous=leg.ours, crypto=crypto
        )
        if leg.ours is not None and same_media(offer, leg.ours):
            return
        async with one_offer_at_a_time(bridge, True):
            response = await self._means.agent.request_in_dialog(
                leg.dialog, "INVITE", body=offer.serialize(), content_type=sdp.SDP_TYPE
            )
            if response.code >= 300:
                raise _refusal(response)
            leg.audio, leg.theirs = _answer(response, leg)
            leg.tell(offer)
            await self._means.listen(leg)

    def _lost(self, bridge: Bridge) -> None:
        """The other side knows nothing of the call, or says nothing: it is over (RFC 3261
        §12.2.1.2). Whoever asked for the change is answered before it is hung up."""
        self._means.spawn(self.end(bridge, "the other side is gone"))

    async def pass_info(self, bridge: Bridge, leg: Leg, incoming: IncomingRequest) -> None:
        """Digits in INFO go to the other side as they came; anything else ends here."""
        request = incoming.request
        assert leg.dialog is not None
        leg.dialog.receive_request(request)
        kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if not request.body:
            incoming.respond(200)  # whether the dialog is still there (RFC 6086 §4.2.2)
            return
        if kind not in _INFO_BODIES or len(request.body) > _MAX_INFO_BYTES:
            raise PeerError(f"an INFO of {kind[:60]!r}", status=415)
        other = bridge.other(leg)
        assert other.dialog is not None
        response = await self._means.agent.request_in_dialog(
            other.dialog, "INFO", body=request.body, content_type=kind
        )
        incoming.respond(response.code if 200 <= response.code < 700 else 500)

    def arm(self, bridge: Bridge, leg: Leg) -> None:
        """Wait for the next thing to do for a leg's session timer."""
        self._timers.arm(bridge, leg)


def _answer(response: Response, other: Leg) -> tuple[Audio, sdp.SessionDescription]:
    described = read_description(response)
    if described is None:
        raise PeerError("the other side answered without a description", status=488)
    return other.audio_in(described), described


def _refusal(response: Response) -> Refused:
    """The other side's refusal, as this side is told: what is between us and it stays with us."""
    code = {401: 500, 407: 500, 408: 500, 481: 500}.get(response.code, response.code)
    return Refused(code if 400 <= code < 700 else 500, f"the other side: {response.code}")
