"""Session timers of a bridged call (RFC 4028 §10)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from callreel.base.errors import PeerError
from callreel.server.system import SystemClock
from callreel.signalling.bridge import Bridge, Source
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.passing import OurSession
from callreel.signalling.reoffers import Reoffers
from callreel.wire import sdp
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.message import Response
from callreel.wire.sip.session_timer import SessionTimer


class Peer:
    """The other end of a dialog: answers what it is told to."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.asked: list[str] = []

    async def request_in_dialog(self, dialog: Dialog, method: str, **_: Any) -> Response:
        self.asked.append(method)
        if self.code == 0:
            raise PeerError("no answer", status=408)
        return Response(self.code)


class FewMeans:
    clock = SystemClock()

    def __init__(self, peer: Peer) -> None:
        self.agent = peer
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)


def a_bridge(*, we_refresh: bool, allow: str) -> tuple[Bridge, Leg]:
    leg = Leg("a" * 32, OurSession(1), "192.0.2.7")
    leg.dialog = Dialog("id", "<sip:us@x>;tag=1", "<sip:them@x>;tag=2", "sip:them@192.0.2.7")
    leg.timer = SessionTimer(interval_seconds=1, refresher="uac", we_refresh=we_refresh)
    leg.allow = allow
    leg.ours = sdp.SessionDescription(media=())
    return Bridge(Source("pbx", "0" * 32), leg, Leg("b" * 32, OurSession(1), "192.0.2.8")), leg


@pytest.mark.parametrize(
    ("we_refresh", "allow", "code", "asked", "ended"),
    [
        (False, "", 200, None, "session timer expired"),
        (True, "INVITE, UPDATE", 481, "UPDATE", "the peer is gone"),
        (True, "INVITE", 0, "INVITE", "the peer is gone"),
        (True, "UPDATE", 200, "UPDATE", None),
        (True, "INVITE", 491, "INVITE", None),
    ],
)
async def test_who_does_not_refresh_or_answer_is_gone(
    we_refresh: bool, allow: str, code: int, asked: str | None, ended: str | None
) -> None:
    ends: list[str] = []

    async def end(bridge: Bridge, reason: str) -> None:
        bridge.ended = True
        ends.append(reason)

    peer = Peer(code)
    bridge, leg = a_bridge(we_refresh=we_refresh, allow=allow)
    reoffers = Reoffers(cast(Means, FewMeans(peer)), end)
    reoffers.arm(bridge, leg)
    async with asyncio.timeout(5):
        while not ends and len(peer.asked) < 2:
            await asyncio.sleep(0.02)
    assert ends == ([ended] if ended else [])
    assert peer.asked[:1] == ([asked] if asked else [])
    if leg.alarm is not None:
        leg.alarm.cancel()
