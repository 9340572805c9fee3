"""A server that is full says so, and who is there already is not disturbed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.capture.house import free_ports
from tests.journeys.api import Api
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.test_seed_endpoint import CALLEE, CALLER

SID = "AC" + "11" * 16


async def test_no_media_port_is_left(tmp_path: Path) -> None:
    low, high = free_ports(4)
    client = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    server = OwnServer(
        tmp_path,
        SID,
        "a-token-of-tests",
        options=("--rtp-ports", f"{low}-{high}", "--workers", "1"),
        environment={"CALLREEL_RENDER_WORKERS": "1"},
    )
    await asyncio.to_thread(server.start)
    try:
        api = Api(server)
        await client.start()
        tones = [parse_source("tone:440"), parse_source("tone:880")]
        session = await client.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)
        (live,) = await asyncio.to_thread(api.live_calls)
        recording = await asyncio.to_thread(api.start, live["sid"])
        with SipPeer(server) as peer:
            refusal = await asyncio.to_thread(RawCall(peer).invite)
            assert refusal.code == 503
            assert "no RTP port is free" in refusal.headers["warning"]
            assert int(refusal.headers["retry-after"]) > 0
            await asyncio.sleep(0.5)
            await asyncio.to_thread(api.stop, recording)
            await client.hang_up(session)
            finished = await asyncio.to_thread(api.finished, recording["sid"])
            assert finished["status"] == "completed"
            report = await asyncio.to_thread(api.integrity, recording["sid"])
            assert report["clean"], report["problems"]
            again = RawCall(peer)
            assert (await asyncio.to_thread(again.invite)).code == 200
            await asyncio.to_thread(again.hang_up)
        api.http.close()
    finally:
        await client.close()
        await asyncio.to_thread(server.stop)
    assert "Traceback" not in server.log
