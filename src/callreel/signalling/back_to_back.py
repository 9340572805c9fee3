"""The back-to-back user agent: a call comes in, goes out to where the routes say, and is bridged.

The inbound leg is the call, the outbound one that answers a child of it. Media goes through the
media workers, so that it can be recorded; what each side describes is passed on to the other with
our addresses.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from callreel.base.errors import PeerError
from callreel.calls.model import CallStatus
from callreel.signalling.arriving import call_in, caller_in, calling_leg, dialled_in
from callreel.signalling.bridge import KIND, Bridge, Source
from callreel.signalling.call_setup import CallSetup
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.passing import onward_answer
from callreel.signalling.refusal import Refused
from callreel.signalling.reoffers import Reoffers
from callreel.signalling.ringing import Ringing, ending
from callreel.signalling.security import answer_line
from callreel.signalling.transfers import Transfers
from callreel.signalling.user_agent import IncomingRequest
from callreel.wire.sdp import SDP_TYPE
from callreel.wire.sip.dialog import DialogId
from callreel.wire.sip.forwarding import forwards_left
from callreel.wire.sip.message import Request

log = logging.getLogger(__name__)

BYE_WAIT_S = 2.0
"""So long whoever ends a call waits for the peers to confirm it."""


class BackToBack:
    """Calls that are passed on: what is said and done on one leg happens on the other."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._reoffers = Reoffers(means, self.end)
        self._transfers = Transfers(means, self._reoffers, self._replaced)
        self._by_dialog: dict[DialogId, tuple[Bridge, Leg]] = {}
        self._by_call: dict[str, Bridge] = {}
        self._closing = False

    def __len__(self) -> int:
        """Calls that are being passed on."""
        return len({id(one) for one in self._by_call.values()})

    @property
    def connected(self) -> int:
        """Those of them that were answered."""
        return len({id(bridge) for bridge, _ in self._by_dialog.values()})

    def talks_to(self, host: str) -> bool:
        """Whether a leg of a call that was answered is at this address."""
        return any(leg.source_host == host for _, leg in self._by_dialog.values())

    def refuse_new(self) -> None:
        """Take no new calls: the server is shutting down."""
        self._closing = True

    def knows(self, request: Request) -> bool:
        """Whether a request belongs to one of our dialogs."""
        return DialogId.of_request(request) in self._by_dialog

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End a call with a BYE to each side; False if we do not have it."""
        bridge = self._by_call.get(call_id)
        if bridge is None:
            return False
        await self.end(bridge, reason)
        return True

    async def check_on(self, call_id: str) -> None:
        """Ask a party of which nothing is heard whether it is there; one that is not ends the call.

        Being silent is no reason to end it: it may be muted, without comfort noise.
        """
        bridge = self._by_call.get(call_id)
        leg = next((one for one in bridge.legs if one.call_id == call_id), None) if bridge else None
        if bridge is None or leg is None or leg.dialog is None:
            return
        try:
            response = await self._means.agent.request_in_dialog(leg.dialog, "OPTIONS")
            gone = response.code in (408, 481)
        except PeerError:
            gone = True
        if gone:
            await self.end(bridge, "no media, and the party is gone", said=leg)

    # A new call

    async def invite(self, incoming: IncomingRequest, source: Source) -> None:
        """Pass an INVITE on. Raises ``PeerError`` with what it is to be refused with."""
        request, means = incoming.request, self._means
        if self._closing:
            raise Refused(503, "shutting down", [("Retry-After", "10")])
        max_forwards = forwards_left(request)
        dialled = dialled_in(request, source)
        plan = means.dialplan.routes.find(dialled, source.name)
        if plan is None:
            raise Refused(404, "there is no route to what was dialled")
        account = await means.accounts.get(source.account_id)
        assert account is not None, "a source's account exists, or the server would not run"
        leg = calling_leg(incoming, source, means)
        who = caller_in(request, source)
        call = await means.calls.ringing(call_in(request, source, dialled))
        leg.call_id = call.id
        bridge = Bridge(source, leg)
        self._by_call[call.id] = bridge
        try:
            await means.open(leg)
            ringing = Ringing(means, source.name, who, max_forwards=max_forwards)
            setup = CallSetup(means, bridge, incoming, ringing, account=account, call=call)
            await self._set_up(bridge, setup.run(plan))
        except BaseException as error:
            if bridge.ended:
                raise
            bridge.ended = True
            self._forget(bridge)
            status, code = ending(error)
            await means.ended.drop(call.id, status, str(error) or status.value, code)
            raise
        self._admit(bridge)
        await self._acknowledged(bridge, incoming)

    @staticmethod
    async def _set_up(bridge: Bridge, work: Coroutine[Any, Any, None]) -> None:
        """Ring and connect, unless the call is ended meanwhile: that is then its refusal."""
        setup = bridge.setup = asyncio.ensure_future(work)
        try:
            await setup
        except asyncio.CancelledError:
            setup.cancel()
            await asyncio.gather(setup, return_exceptions=True)
            if bridge.ended:
                raise Refused(480, "the call was ended here") from None
            raise

    async def _acknowledged(self, bridge: Bridge, incoming: IncomingRequest) -> None:
        """Wait for the ACK of our 2xx; without one the call ends."""
        try:
            ack = await incoming.acknowledged()
        except PeerError:
            await self.end(bridge, "no ACK for our 200", status=CallStatus.FAILED)
            return
        if bridge.late_offer is not None and not bridge.ended:
            try:
                await self._answer_late_offer(bridge, ack)
            except PeerError as error:
                await self.end(bridge, f"no answer to the offer: {error}")

    async def _answer_late_offer(self, bridge: Bridge, ack: Request) -> None:
        """The caller's answer, in its ACK, goes to the callee in ours."""
        means, caller, callee = self._means, bridge.caller, bridge.callee
        assert callee is not None
        assert callee.dialog is not None
        async with bridge.lock:
            caller.describe(ack)
            if caller.audio is None or callee.audio is None or callee.theirs is None:
                raise PeerError("the ACK describes nothing", status=488)
            answer = onward_answer(
                callee.theirs,
                callee.audio,
                caller.audio,
                callee.address,
                callee.session.next,
                crypto=answer_line(
                    callee.audio.media,
                    caller.our_media,
                    caller.audio.media,
                    before=callee.kept_keys,
                    new_key=callee.new_key,
                ),
            )
            body = callee.tell(answer)
            await means.listen(caller)
            if callee.audio.crypto:  # now there are keys
                await means.listen(callee)
            cseq, bridge.late_offer = bridge.late_offer, None
            assert cseq is not None
            await means.agent.acknowledge(callee.dialog, cseq, body=body, content_type=SDP_TYPE)
            await self._keep(bridge)

    # Within a call

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer a request in a dialog of ours."""
        request = incoming.request
        bridge, leg = self._by_dialog[DialogId.of_request(request)]
        assert leg.dialog is not None
        if request.method == "BYE":
            leg.dialog.receive_request(request)
            incoming.respond(200)
            if self._transfers.lets_go(bridge, leg):
                self._by_dialog.pop(leg.dialog.id, None)
                return
            who = "caller" if leg is bridge.caller else "callee"
            await self.end(bridge, f"BYE of the {who}", said=leg)
        elif request.method in ("INVITE", "UPDATE"):
            await self._reoffers.pass_on(bridge, leg, incoming)
            await self._keep(bridge)
        elif request.method == "OPTIONS":  # whether we are still there
            leg.dialog.receive_request(request)
            incoming.respond(200)
        elif request.method == "REFER":
            await self._transfers.refer(bridge, leg, incoming)
        elif request.method == "INFO":
            await self._reoffers.pass_info(bridge, leg, incoming)
        else:
            raise PeerError(f"{request.method} has no meaning here", status=405)

    async def _keep(self, bridge: Bridge) -> None:
        if not bridge.ended:
            await self._means.calls.session_changed(bridge.caller.call_id, bridge.to_json())

    def _replaced(self, bridge: Bridge, old: Leg, new: Leg) -> None:
        """A transfer has put another party in the place of one."""
        assert old.dialog is not None
        assert new.dialog is not None
        self._by_dialog.pop(old.dialog.id, None)
        self._by_dialog[new.dialog.id] = (bridge, new)
        self._reoffers.arm(bridge, new)
        self._means.spawn(self._keep(bridge))

    # The end

    async def end(
        self,
        bridge: Bridge,
        reason: str,
        *,
        said: Leg | None = None,
        status: CallStatus = CallStatus.COMPLETED,
    ) -> None:
        """Tell every side but ``said``, stop the recordings, give the sockets back."""
        if bridge.ended:
            return
        bridge.ended = True
        self._transfers.give_up(bridge)
        self._forget(bridge)
        means = self._means
        if bridge.setup is not None and not bridge.setup.done():
            bridge.setup.cancel()
            await asyncio.wait({bridge.setup})
            await means.ended.drop(bridge.caller.call_id, CallStatus.CANCELED, reason)
            return
        byes = []
        for leg in bridge.legs:
            if leg is said or leg.dialog is None:
                continue
            if leg is bridge.callee and bridge.late_offer is not None:
                await means.agent.acknowledge(leg.dialog, bridge.late_offer)
            byes.append(means.spawn(means.say_bye(leg)))
        for leg in bridge.legs:
            await means.ended.drop(leg.call_id, status, reason)
        if byes:
            await asyncio.wait(byes, timeout=BYE_WAIT_S)

    def _admit(self, bridge: Bridge) -> None:
        for leg in bridge.legs:
            assert leg.dialog is not None
            self._by_dialog[leg.dialog.id] = (bridge, leg)
            self._by_call[leg.call_id] = bridge
            self._reoffers.arm(bridge, leg)

    def _forget(self, bridge: Bridge) -> None:
        for leg in bridge.legs:
            if leg.alarm is not None:
                leg.alarm.cancel()
            if leg.dialog is not None:
                self._by_dialog.pop(leg.dialog.id, None)
            self._by_call.pop(leg.call_id, None)

    # After a crash

    def restore(
        self, call_id: str, state: str, source: Callable[[str], Source | None]
    ) -> Collection[str]:
        """Take up a call of an earlier control process whose media goes on; the calls of it."""
        try:
            told = json.loads(state)
            if told.get("kind") != KIND or not told["legs"]:
                return ()
            bridge = Bridge.from_dict(told, source)
        except (PeerError, ValueError, KeyError, TypeError) as error:
            log.error("call %s cannot be taken up: %s", call_id, error)
            return ()
        for leg in bridge.legs:
            assert leg.dialog is not None
            # What was sent since it was written down is unknown; a gap is allowed (§12.2.1.1).
            leg.dialog.local_cseq += 1000
        self._admit(bridge)
        log.info("call %s is taken up", call_id)
        return [leg.call_id for leg in bridge.legs]
