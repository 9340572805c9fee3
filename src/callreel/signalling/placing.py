"""Placing a call that ends here: the destinations are rung with an offer of our own, and the first
that answers is the party. All of them are offered the same sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from callreel.calls.media import MediaAddress
from callreel.signalling.destinations import Destination
from callreel.signalling.leg import NOWHERE, Leg
from callreel.signalling.means import Means
from callreel.signalling.outgoing import Provisional
from callreel.signalling.own_description import own_offer
from callreel.signalling.refusal import Refused
from callreel.signalling.ringing import Ringing
from callreel.signalling.routing import Plan
from callreel.signalling.security import SrtpPolicy, first_lines
from callreel.wire import sdp
from callreel.wire.sip.digest_client import DigestClient

_RINGING = (180, 181, 182, 183)


class Placing:
    """One call on its way out. ``codecs`` are what is offered, ``beside`` is the call that it is to
    be connected with, ``told`` is called once it rings somewhere."""

    def __init__(
        self,
        means: Means,
        call_id: str,
        ringing: Ringing,
        *,
        codecs: Sequence[sdp.Codec],
        beside: str | None,
        told: Callable[[], None],
    ) -> None:
        self._means = means
        self._call_id = call_id
        self._ringing = ringing
        self._codecs = codecs
        self._beside = beside
        self._told: Callable[[], None] | None = told
        self._address = NOWHERE
        self._opening = asyncio.Lock()

    async def run(self, plan: Plan, client: DigestClient | None) -> Leg:
        """The leg of whoever answered; it has a dialog, and what it described. Raises
        ``PeerError``: why nobody did. Cancelled, it takes its INVITEs back."""
        return await self._ringing.search(plan, self._ring, self._means.say_bye, client=client)

    async def _ring(self, destination: Destination) -> Leg:
        flows = await self._ringing.flows_of(destination)
        leg = Leg(
            self._call_id,
            self._means.new_session(),
            flows[0].host,
            participant=destination.to,
            source=destination.name,
            nat=destination.nat,
            srtp=destination.srtp,
        )
        leg.address = await self._sockets(leg)
        wanted = leg.srtp is SrtpPolicy.REQUIRED
        crypto = first_lines((), leg.new_key) if wanted else ()
        offer = own_offer(self._codecs, leg.address, leg.session.next, crypto=crypto)
        await self._ringing.invite(destination, flows, leg, leg.tell(offer), self._progress)
        return leg

    async def _sockets(self, leg: Leg) -> MediaAddress:
        """Those of the call: opened for the first that is rung."""
        async with self._opening:
            if self._address is NOWHERE:
                await self._means.open(leg, beside=self._beside)
                self._address = leg.address
        if (":" in self._address.host) != (":" in leg.source_host):
            raise Refused(503, "it is reached over another IP version than the first that was rung")
        return self._address

    def _progress(self, provisional: Provisional) -> None:
        """Early media is not taken: whoever listens to the call begins with the answer."""
        told = self._told
        if told is not None and provisional.response.code in _RINGING:
            self._told = None
            told()
