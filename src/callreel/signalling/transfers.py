"""Blind transfers (RFC 3515): a party asks that another be called in its place.

The new party takes over the place of who transferred: its call, its sockets in the media worker,
and so its track of every recording, which goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from callreel.base.errors import PeerError
from callreel.signalling.bridge import Bridge
from callreel.signalling.calling import Caller
from callreel.signalling.destinations import Destination
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.parties import shown_address
from callreel.signalling.passing import onward_offer
from callreel.signalling.refusal import Refused
from callreel.signalling.reoffers import Reoffers
from callreel.signalling.ringing import Ringing
from callreel.signalling.routing import Plan
from callreel.signalling.security import SrtpPolicy, first_lines
from callreel.signalling.user_agent import IncomingRequest
from callreel.wire.sip.message import REASON_PHRASES
from callreel.wire.sip.values import URI, Address

log = logging.getLogger(__name__)

MAX_FORWARDS = 68
_SUBSCRIPTION_S = 60

Replaced = Callable[[Bridge, Leg, Leg], None]
"""Told of a bridge whose old leg has given way to a new one."""


@dataclass(slots=True, eq=False)
class _Transfer:
    """One that is under way."""

    by: Leg
    """Who asked for it."""
    task: asyncio.Task[None]
    """The search for the new party."""
    gone: bool = False
    """Whether who asked has hung up meanwhile, as many do."""


class Transfers:
    """Blind transfers of bridged calls."""

    def __init__(self, means: Means, reoffers: Reoffers, replaced: Replaced) -> None:
        self._means = means
        self._reoffers = reoffers
        self._replaced = replaced
        self._under_way: dict[Bridge, _Transfer] = {}

    async def refer(self, bridge: Bridge, leg: Leg, incoming: IncomingRequest) -> None:
        """Take a REFER on. Raises ``PeerError`` with what it is to be refused with."""
        request = incoming.request
        assert leg.dialog is not None
        bridge.other(leg)
        if bridge in self._under_way or bridge.lock.locked():
            raise Refused(491, "another change is under way")
        uri = _refer_to(request.headers.getlist("Refer-To"))
        plan = self._means.dialplan.routes.find(uri.user or "", leg.source)
        if plan is None:
            raise Refused(404, "there is no route to where the call is to go")
        leg.dialog.receive_request(request)
        incoming.respond(202)
        task = self._means.spawn(self._transfer(bridge, leg, plan))
        self._under_way[bridge] = _Transfer(leg, task)
        task.add_done_callback(lambda _: self._under_way.pop(bridge, None))

    def lets_go(self, bridge: Bridge, leg: Leg) -> bool:
        """Whether a BYE of this leg only says that it does not wait for its transfer to succeed."""
        transfer = self._under_way.get(bridge)
        if transfer is None or transfer.by is not leg:
            return False
        transfer.gone = True
        return True

    def give_up(self, bridge: Bridge) -> None:
        """The call is over: nobody needs to be found any more."""
        transfer = self._under_way.pop(bridge, None)
        if transfer is not None and transfer.task is not asyncio.current_task():
            transfer.task.cancel()

    async def _transfer(self, bridge: Bridge, leg: Leg, plan: Plan) -> None:
        await self._notify(bridge, leg, 100)
        try:
            new = await self._find(bridge, leg, plan)
        except PeerError as error:
            log.info("call %s: transfer failed: %s", leg.call_id, error)
            await self._notify(bridge, leg, error.status if error.status >= 300 else 500)
            transfer = self._under_way.get(bridge)
            if transfer is not None and transfer.gone:
                await self._reoffers.end(bridge, "transferred to nobody")
            return
        await self._notify(bridge, leg, 200)
        transfer = self._under_way.get(bridge)
        if transfer is None or not transfer.gone:
            self._means.spawn(self._means.say_bye(leg))
        self._replaced(bridge, leg, new)
        log.info("call %s: transferred to %s", leg.call_id, new.participant)

    async def _find(self, bridge: Bridge, leg: Leg, plan: Plan) -> Leg:
        """Ring, and put who answers in the place of ``leg``."""
        means, staying = self._means, bridge.other(leg)
        assert staying.audio is not None
        audio = staying.audio
        who = Caller(number=_number(staying.participant), name="")
        ringing = Ringing(means, leg.source, who, max_forwards=MAX_FORWARDS)

        async def ring(destination: Destination) -> Leg:
            flows = await ringing.flows_of(destination)
            new = Leg(
                leg.call_id,
                means.new_session(),
                flows[0].host,
                participant=destination.to,
                source=destination.name,
                nat=destination.nat,
                address=leg.address,
                srtp=destination.srtp,
            )
            # Not the keys of who stays: their packets have rolled over before (``security``).
            wanted = new.srtp is SrtpPolicy.REQUIRED
            crypto = first_lines((), new.new_key) if wanted else ()
            body = new.tell(onward_offer(audio, leg.address, new.session.next, crypto=crypto))
            await ringing.invite(destination, flows, new, body, lambda _: None)
            return new

        new = await ringing.search(plan, ring, means.say_bye)
        try:
            async with bridge.lock:
                await means.listen(new)
                if bridge.caller is leg:
                    bridge.caller = new
                else:
                    bridge.callee = new
                    await means.calls.transferred(leg.call_id, shown_address(new.participant))
            await self._reoffers.tell(bridge, staying, new)
        except PeerError:
            means.spawn(means.say_bye(new))
            raise
        return new

    async def _notify(self, bridge: Bridge, leg: Leg, code: int) -> None:
        """Say how the transfer goes (RFC 3515 §2.4.4)."""
        transfer = self._under_way.get(bridge)
        if leg.dialog is None or (transfer is not None and transfer.gone):
            return
        final = code >= 200
        state = "terminated;reason=noresource" if final else f"active;expires={_SUBSCRIPTION_S}"
        phrase = REASON_PHRASES.get(code, "")
        try:
            await self._means.agent.request_in_dialog(
                leg.dialog,
                "NOTIFY",
                body=f"SIP/2.0 {code} {phrase}\r\n".encode(),
                content_type="message/sipfrag;version=2.0",
                headers=[("Event", "refer"), ("Subscription-State", state)],
            )
        except PeerError as error:
            log.info("call %s: NOTIFY was not answered: %s", leg.call_id, error)


def _refer_to(values: list[str]) -> URI:
    """Where to. Raises ``PeerError``: 400 for none, 501 for one that asks for more than a call."""
    if len(values) != 1:
        raise PeerError("Refer-To is to be there once")
    try:
        uri = Address.parse(values[0]).uri
    except ValueError as error:
        raise PeerError(f"Refer-To: {error}") from None
    if isinstance(uri, URI) and uri.headers:
        raise PeerError("only blind transfers are done here", status=501)
    if (uri.parameters.get("method") or "INVITE").upper() != "INVITE" or not uri.user:
        raise PeerError("Refer-To is to name somebody to call", status=501)
    assert isinstance(uri, URI)
    return uri


def _number(participant: str) -> str:
    try:
        return URI.parse(participant).user or ""
    except ValueError:
        return ""
