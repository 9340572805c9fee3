"""Setting a bridged call up: the targets are rung, and the first that answers is connected."""

from __future__ import annotations

import asyncio
import logging

from callreel.base.errors import PeerError
from callreel.calls.model import Account, Call, CallDirection, RecordingRequest
from callreel.service.calls import NewCall
from callreel.signalling.bridge import Bridge
from callreel.signalling.destinations import Destination
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.outgoing import Provisional
from callreel.signalling.parties import shown_address
from callreel.signalling.passing import Audio, onward_answer, onward_offer
from callreel.signalling.ringing import Ringing, ending
from callreel.signalling.routing import Plan
from callreel.signalling.security import SrtpPolicy, answer_line, first_lines
from callreel.signalling.user_agent import Cancelled, IncomingRequest
from callreel.wire.sdes import Crypto
from callreel.wire.sdp import SDP_TYPE

log = logging.getLogger(__name__)

_PASSED_PROVISIONALS = (180, 181, 182, 183)
_OUTRUN = PeerError("somebody else answered", status=487)


class CallSetup:
    """One INVITE on its way from the caller to whoever answers."""

    def __init__(
        self,
        means: Means,
        bridge: Bridge,
        incoming: IncomingRequest,
        ringing: Ringing,
        *,
        account: Account,
        call: Call,
    ) -> None:
        self._means = means
        self._bridge = bridge
        self._incoming = incoming
        self._ringing = ringing
        self._account = account
        self._call = call
        self._early: Leg | None = None
        self._children: dict[str, Call] = {}
        self._invites: dict[str, int] = {}

    async def run(self, plan: Plan) -> None:
        """Ring, connect, answer the caller. Raises ``PeerError`` with what it is refused with."""
        search = asyncio.create_task(
            self._ringing.search(plan, self._ring, lambda leg: self._part(leg, _OUTRUN))
        )
        cancelled = asyncio.create_task(self._incoming.wait_cancelled())
        try:
            await asyncio.wait({search, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cancelled.cancel()
            search.cancel()
            await asyncio.gather(search, return_exceptions=True)
        if search.cancelled():
            raise Cancelled
        leg = search.result()  # also one that answered as the caller gave up: it is parted from
        try:
            await self._connect(leg, plan.record)
        except BaseException as error:
            self._bridge.callee = None
            await self._part(leg, error)
            raise

    async def _ring(self, destination: Destination) -> Leg:
        """Ring one destination, as a child call with sockets beside the caller's."""
        means, caller = self._means, self._bridge.caller
        call = await self._child(destination)
        try:
            flows = await self._ringing.flows_of(destination)
            leg = Leg(
                call.id,
                means.new_session(),
                flows[0].host,
                participant=destination.to,
                source=destination.name,
                nat=destination.nat,
                srtp=destination.srtp,
            )
            await means.open(leg, beside=caller.call_id)
            body = b""
            if caller.audio is not None:
                crypto = _lines(leg, caller.audio)
                body = leg.tell(
                    onward_offer(caller.audio, leg.address, leg.session.next, crypto=crypto)
                )
            self._invites[leg.call_id] = await self._ringing.invite(
                destination, flows, leg, body, lambda early: self._progress(leg, early)
            )
        except BaseException as error:
            status, code = ending(error)
            await means.ended.drop(call.id, status, str(error) or status.value, code)
            raise
        return leg

    async def _child(self, destination: Destination) -> Call:
        call = await self._means.calls.ringing(
            NewCall(
                account_id=self._call.account_id,
                direction=CallDirection.OUTBOUND_DIAL,
                from_=self._call.from_,
                to=shown_address(destination.to),
                caller_name=self._call.caller_name,
                peer=destination.name[:64],
                parent_call_id=self._bridge.caller.call_id,
            )
        )
        self._children[call.id] = call
        return call

    # Early media and ringing

    def _progress(self, leg: Leg, told: Provisional) -> None:
        self._means.spawn(self._pass_progress(leg, told))

    async def _pass_progress(self, leg: Leg, told: Provisional) -> None:
        """Tell the caller that it rings; connect what the callee's side already sends."""
        response = told.response
        async with self._bridge.lock:
            incoming, caller = self._incoming, self._bridge.caller
            if incoming.response is not None or self._bridge.callee is not None:
                return
            if response.code not in _PASSED_PROVISIONALS:
                return
            body = b""
            try:
                if told.dialog is not None and told.dialog.flow is not None:
                    leg.source_host = told.dialog.flow.host
                described = leg.describe(response) is not None
                if described and caller.audio is not None and self._early in (None, leg):
                    body = await self._connect_early(leg)
                incoming.respond(
                    response.code,
                    body=body,
                    content_type=SDP_TYPE if body else None,
                    reliable=bool(body),
                )
            except PeerError as error:  # what it says in the end is what counts
                log.info("call %s: early media: %s", caller.call_id, error)

    async def _connect_early(self, leg: Leg) -> bytes:
        caller = self._bridge.caller
        body = self._answer_to_caller(leg)
        await self._listen(leg)
        await self._means.bridge(caller, leg)
        self._early = leg
        return body

    # The answer

    async def _connect(self, leg: Leg, record: RecordingRequest | None) -> None:
        """Bridge the leg that answered, and answer the caller."""
        means, bridge, caller = self._means, self._bridge, self._bridge.caller
        async with bridge.lock:
            assert leg.audio is not None
            late = caller.audio is None
            if late:  # the callee's side offers, and the caller answers in its ACK
                crypto = _lines(caller, leg.audio)
                session = caller.session.next
                ours = onward_offer(leg.audio, caller.address, session, crypto=crypto)
                body = caller.tell(ours)
            else:
                body = self._answer_to_caller(leg)
            await self._listen(leg)
            await means.bridge(caller, leg)
            bridge.callee = leg
            await means.calls.answered(self._children[leg.call_id], bridge.child_json())
            await means.calls.answered(self._call, bridge.to_json())
            wanted = record or bridge.source.record
            if wanted is not None:
                await means.record(self._account, self._call, wanted)
            headers = list(caller.timer.headers) if caller.timer else []
            if leg.asserted is not None and bridge.source.trusted:
                headers.append(("P-Asserted-Identity", leg.asserted))
            self._incoming.respond(200, body=body, content_type=SDP_TYPE, headers=headers)
            bridge.late_offer = self._invites[leg.call_id] if late else None
        log.info("call %s: bridged to %s", caller.call_id, leg.participant)

    def _answer_to_caller(self, leg: Leg) -> bytes:
        caller = self._bridge.caller
        assert caller.theirs is not None
        assert caller.audio is not None
        assert leg.audio is not None
        answer = onward_answer(
            caller.theirs,
            caller.audio,
            leg.audio,
            caller.address,
            caller.session.next,
            crypto=answer_line(
                caller.audio.media,
                leg.our_media,
                leg.audio.media,
                before=caller.kept_keys,
                new_key=caller.new_key,
            ),
        )
        return caller.tell(answer)

    async def _listen(self, leg: Leg) -> None:
        """Have the workers know the callee, and the keys that the caller was answered."""
        caller = self._bridge.caller
        if caller.audio is not None and caller.audio.crypto:
            await self._means.listen(caller)
        await self._means.listen(leg)

    async def _part(self, leg: Leg, why: BaseException) -> None:
        """Hang up a leg that answered and is not wanted. Its call was not connected, or only just:
        it may still be ringing, which no call that is completed was."""
        means = self._means
        assert leg.dialog is not None
        if self._bridge.caller.audio is None:  # its offer was not answered, nor its 200
            await means.agent.acknowledge(leg.dialog, self._invites[leg.call_id])
        means.spawn(means.say_bye(leg))
        status, code = ending(why)
        await means.ended.drop(leg.call_id, status, str(why) or status.value, code)


def _lines(leg: Leg, audio: Audio) -> tuple[Crypto, ...]:
    """The keys that a leg is offered along with the other's audio."""
    return first_lines(audio.crypto, leg.new_key) if leg.srtp is SrtpPolicy.REQUIRED else ()
