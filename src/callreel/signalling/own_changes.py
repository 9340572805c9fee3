"""Changes within a call that ends here: hold, another address, a refresh. Each leg is answered by
us, whether it is connected with another or not; a held party is not sent anything meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from callreel.base.errors import PeerError
from callreel.signalling.leg import Leg, read_description
from callreel.signalling.means import Means
from callreel.signalling.own_description import agreed, narrowed, own_answer, own_offer, same_codec
from callreel.signalling.passing import same_media
from callreel.signalling.refusal import Refused
from callreel.signalling.security import answer_line, lines_of_our_own
from callreel.signalling.session_timers import SessionTimers, one_offer_at_a_time
from callreel.signalling.terminal import Terminal
from callreel.signalling.user_agent import IncomingRequest
from callreel.wire import sdp
from callreel.wire.sip.message import Message, Request
from callreel.wire.sip.session_timer import USUAL_SECONDS, answer_timer

Lost = Callable[[Terminal, str], Coroutine[Any, Any, None]]
"""Ends a call whose party is gone, with a reason."""


class OwnChanges:
    """What happens in the dialogs of calls that end here."""

    def __init__(self, means: Means, lost: Lost) -> None:
        self._means = means
        self._lost = lost
        self._timers: SessionTimers[Terminal] = SessionTimers(means, lost)

    def arm(self, terminal: Terminal) -> None:
        """Wait for the next thing to do for its session timer."""
        self._timers.arm(terminal, terminal.leg)

    async def answer(self, terminal: Terminal, incoming: IncomingRequest) -> None:
        """Answer a re-INVITE or UPDATE. Raises ``PeerError``; then all stays as it was."""
        request, leg = incoming.request, terminal.leg
        assert leg.dialog is not None
        theirs = read_description(request)
        late = theirs is None and request.method == "INVITE"
        target = leg.dialog.remote_target
        async with one_offer_at_a_time(terminal, theirs is not None or late):
            leg.dialog.receive_request(request)
            try:
                timer = answer_timer(request, wished_seconds=USUAL_SECONDS)
                body = b""
                if theirs is not None:
                    body = await self._answer(terminal, theirs)
                elif late:
                    body = self._offer(leg)
            except PeerError:
                leg.dialog.remote_target = target  # RFC 3261 §12.2.2
                raise
            leg.learn_allow(request)
            leg.aim()
            leg.timer = timer
            incoming.respond(
                200,
                body=body,
                content_type=sdp.SDP_TYPE if body else None,
                headers=timer.headers if timer else (),
            )
            self.arm(terminal)
        if request.method == "INVITE":
            await self._acknowledged(terminal, incoming, late=late)

    async def _acknowledged(
        self, terminal: Terminal, incoming: IncomingRequest, *, late: bool
    ) -> None:
        try:
            ack = await incoming.acknowledged()
        except PeerError:
            await self._lost(terminal, "no ACK for our 200")
            return
        if not late or terminal.ended:
            return
        try:
            async with terminal.lock:
                await self.take_answer(terminal.leg, ack)
        except PeerError as error:
            await self._lost(terminal, f"no answer to the offer: {error}")

    async def take_answer(self, leg: Leg, message: Message) -> None:
        """Go by the answer to our offer that a message holds. Raises ``PeerError``."""
        theirs = read_description(message)
        if theirs is None:
            raise Refused(488, "there is no description in the answer")
        audio = leg.audio_in(theirs)
        agreed(audio)
        leg.theirs, leg.audio = theirs, audio
        await self._means.listen(leg)

    def _offer(self, leg: Leg) -> bytes:
        """Our side anew, for an INVITE that asks what it is: nothing of it is held by us."""
        assert leg.audio is not None
        return leg.tell(self._own_offer(leg, agreed(leg.audio)))

    def _own_offer(self, leg: Leg, codecs: Sequence[sdp.Codec]) -> sdp.SessionDescription:
        crypto: Sequence[Any] = ()
        if leg.our_media is not None and leg.audio is not None:
            crypto = lines_of_our_own(leg.our_media, leg.audio.media, leg.kept_keys, leg.new_key)
        return own_offer(codecs, leg.address, leg.session.next, previous=leg.ours, crypto=crypto)

    async def _answer(self, terminal: Terminal, theirs: sdp.SessionDescription) -> bytes:
        """What a party's offer is answered with. Raises ``PeerError`` (488) for one without the
        codec that whom it is connected with speaks."""
        leg = terminal.leg
        if leg.theirs is not None and same_media(theirs, leg.theirs) and leg.ours is not None:
            return leg.ours.serialize()
        if leg.theirs is not None:
            sdp.check_reoffer(leg.theirs, theirs)
        offered = leg.audio_in(theirs)
        other = terminal.other
        if other is not None and other.leg.audio is not None:
            offered = narrowed(offered, agreed(other.leg.audio))
            if not same_codec(offered, other.leg.audio):
                raise Refused(488, "the other party speaks another codec")
        codecs = agreed(offered)
        crypto = answer_line(offered.media, None, None, before=leg.kept_keys, new_key=leg.new_key)
        answer = own_answer(theirs, offered, codecs, leg.address, leg.session.next, crypto=crypto)
        leg.theirs, leg.audio = theirs, narrowed(offered, codecs)
        body = leg.tell(answer)
        await self._means.listen(leg)
        return body

    async def fit(self, terminal: Terminal, other: Terminal) -> None:
        """Have a party speak the codec of another, by a re-INVITE where it does not yet.

        Raises ``PeerError`` with its refusal.
        """
        leg = terminal.leg
        assert leg.audio is not None
        assert leg.dialog is not None
        assert other.leg.audio is not None
        if same_codec(leg.audio, other.leg.audio):
            return
        async with terminal.lock:
            offer = self._own_offer(leg, agreed(other.leg.audio))
            response = await self._means.agent.request_in_dialog(
                leg.dialog, "INVITE", body=offer.serialize(), content_type=sdp.SDP_TYPE
            )
            if response.code >= 300:
                raise Refused(488, f"it does not take the other's codec: {response.code}")
            leg.tell(offer)
            await self.take_answer(leg, response)
            if not same_codec(leg.audio, other.leg.audio):
                raise Refused(488, "it does not take the other's codec")

    async def is_gone(self, terminal: Terminal) -> bool:
        """Ask whether the party is there."""
        assert terminal.leg.dialog is not None
        try:
            response = await self._means.agent.request_in_dialog(terminal.leg.dialog, "OPTIONS")
        except PeerError:
            return True
        return response.code in (408, 481)

    def pass_info(self, terminal: Terminal, request: Request, content_type: str) -> None:
        """Have whom it is connected with hear a key, too. It is not waited for."""
        other = terminal.other
        if other is None or other.leg.dialog is None:
            return
        self._means.spawn(self._pass_info(other.leg, request.body, content_type))

    async def _pass_info(self, leg: Leg, body: bytes, content_type: str) -> None:
        assert leg.dialog is not None
        try:
            await self._means.agent.request_in_dialog(
                leg.dialog, "INFO", body=body, content_type=content_type
            )
        except PeerError:
            return  # it says itself when it is gone
