"""The recording server where what it leans on fails; its flows are in the journeys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.signalling.test_session import PEER, SESSION

from callreel.base.errors import PeerError, UsageError
from callreel.calls.media import MediaAddress, MediaPlane
from callreel.calls.model import CallStatus
from callreel.server.system import RandomIds, SystemClock
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.recordings import RecordingService
from callreel.signalling import ended_calls
from callreel.signalling.ended_calls import EndedCalls
from callreel.signalling.peers import PeerDirectory
from callreel.signalling.recording_server import RecordingServer
from callreel.signalling.refusal import Refused, refusing
from callreel.signalling.user_agent import UserAgent
from callreel.wire.sip.glare import Glare
from callreel.wire.sip.session_timer import SessionTimer


class FailingCalls:
    """Notes an end only after so many failures."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.noted = asyncio.Event()
        self.ends: list[tuple[str, CallStatus]] = []

    async def sessions(self) -> Mapping[str, str]:
        return {SESSION.call_id: replace(SESSION, timer=None).to_json()}

    async def ended(self, call_id: str, status: CallStatus, **_: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the database is gone")
        self.ends.append((call_id, status))
        self.noted.set()


class Media:
    """Has the one call until it is closed."""

    def __init__(self) -> None:
        self.calls: Sequence[str] = [SESSION.call_id]

    async def close(self, call_id: str) -> None:
        self.calls = []


class DeafPeers:
    """Nobody answers."""

    async def request_in_dialog(self, *_: Any, **__: Any) -> None:
        raise PeerError("no answer", status=408)


def a_server(calls: FailingCalls, media: Media) -> RecordingServer:
    server = RecordingServer(
        peers=PeerDirectory([PEER]),
        media=cast(MediaPlane, media),
        accounts=cast(AccountService, None),
        calls=cast(CallService, calls),
        ended=EndedCalls(cast(CallService, calls), cast(MediaPlane, media)),
        recordings=cast(RecordingService, None),
        clock=SystemClock(),
        ids=RandomIds(),
    )
    server.agent = cast(UserAgent, DeafPeers())
    return server


async def test_an_end_that_cannot_be_noted_is_noted_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ended_calls, "FIRST_PAUSE_S", 0.01)
    calls, media = FailingCalls(failures=3), Media()
    server = a_server(calls, media)
    assert await server.restore() == [SESSION.call_id]
    assert await server.hang_up(SESSION.call_id, reason="shutdown")
    assert media.calls == []  # kept no longer, noted or not
    assert len(server) == 0
    async with asyncio.timeout(5):
        await calls.noted.wait()
    assert calls.ends == [(SESSION.call_id, CallStatus.COMPLETED)]
    assert "cannot be noted yet" in caplog.text


async def test_the_session_of_a_peer_that_is_not_configured_any_more_goes_on() -> None:
    """Its settings were taken away by SIGHUP, and then the process died."""
    media = Media()
    server = a_server(FailingCalls(failures=0), media)
    server._peers.replace([])
    assert await server.restore() == [SESSION.call_id]
    session = server._by_call[SESSION.call_id]
    assert (session.peer.name, session.peer.account_id) == (PEER.name, PEER.account_id)
    assert session.peer.our_side == PEER.our_side


class BusyPeers:
    """They are just about to change the session themselves."""

    async def request_in_dialog(self, *_: Any, **__: Any) -> None:
        raise Glare


async def test_a_refresh_that_crosses_the_peers_change_ends_nothing() -> None:
    server = a_server(FailingCalls(failures=0), Media())
    await server.restore()
    server.agent = cast(UserAgent, BusyPeers())
    session = server._by_call[SESSION.call_id]
    session.timer = SessionTimer(interval_seconds=1800, refresher="uas", we_refresh=True)
    await server._refresh(session)
    assert not session.ended
    assert session.alarm is not None  # to be refreshed all the same
    session.alarm.cancel()


async def test_what_the_workers_cannot_mean_is_refused_as_not_acceptable() -> None:
    async def step() -> Mapping[int, MediaAddress]:
        raise UsageError("media from 2001:db8::1 cannot reach 127.0.0.1")

    with pytest.raises(Refused) as refused:
        await refusing(step())
    assert refused.value.status == 488
