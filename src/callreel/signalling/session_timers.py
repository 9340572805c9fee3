"""Session timers of legs (RFC 4028 §10): what we refresh, and who does not refresh is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from callreel.base.errors import PeerError
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.refusal import Refused
from callreel.wire import sdp


class UnderWay(Protocol):
    """A call with legs whose sessions can be changed."""

    @property
    def lock(self) -> asyncio.Lock:
        """One change at a time."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        ...


C = TypeVar("C", bound=UnderWay)


class SessionTimers(Generic[C]):
    """The timers of the legs of calls. ``end`` ends a call, with a reason."""

    def __init__(self, means: Means, end: Callable[[C, str], Coroutine[Any, Any, None]]) -> None:
        self._means = means
        self._end = end

    def arm(self, call: C, leg: Leg) -> None:
        """Wait for the next thing to do for a leg's session timer."""
        if leg.alarm is not None:
            leg.alarm.cancel()
            leg.alarm = None
        timer = leg.timer
        if timer is None or call.ended:
            return
        now = self._means.clock.monotonic()
        due = timer.refresh_at(now) if timer.we_refresh else timer.expires_at(now)
        assert due is not None

        def step() -> None:
            work = self._refresh(call, leg) if timer.we_refresh else self._expire(call)
            self._means.spawn(work)

        leg.alarm = asyncio.get_running_loop().call_later(max(0.0, due - now), step)

    async def _expire(self, call: C) -> None:
        await self._end(call, "session timer expired")

    async def _refresh(self, call: C, leg: Leg) -> None:
        """Say our last description again; a peer that does not answer is gone."""
        assert leg.dialog is not None
        assert leg.timer is not None
        assert leg.ours is not None
        use_update = "UPDATE" in leg.allow
        try:
            async with one_offer_at_a_time(call, not use_update):
                response = await self._means.agent.request_in_dialog(
                    leg.dialog,
                    "UPDATE" if use_update else "INVITE",
                    body=b"" if use_update else leg.ours.serialize(),
                    content_type=None if use_update else sdp.SDP_TYPE,
                    headers=[
                        ("Session-Expires", f"{leg.timer.interval_seconds};refresher=uac"),
                    ],
                )
                gone = response.code in (408, 481)
        except PeerError as error:
            gone = error.status != 491
        if gone:
            await self._end(call, "the peer is gone")
        elif not call.ended:
            self.arm(call, leg)


@asynccontextmanager
async def one_offer_at_a_time(call: UnderWay, needed: bool) -> AsyncIterator[None]:
    """Hold a call's lock while an offer is not answered, where that is ``needed``.

    Raises ``Refused`` (491) where another change is under way.
    """
    if not needed:
        yield
        return
    if call.lock.locked():
        raise Refused(491, "another change is under way")
    async with call.lock:
        yield
