"""Calls between the two families of addresses: one server that listens on both."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.wire.sip.flow import Transport
from tests.journeys.api import Api
from tests.phone.phones import Phones, spans, talk

SID = "AC" + "f6" * 16

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6"
)


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
async def test_a_phone_on_ipv4_calls_one_on_ipv6(tmp_path: Path, transport: Transport) -> None:
    phones = Phones()
    callee = await phones.make(
        talk("tone:880", tmp_path / "callee.wav"), host="::1", takes_calls=True
    )
    port = callee.addresses[transport][1]
    suffix = "" if transport is Transport.UDP else ";transport=tcp"
    (tmp_path / "callreel.toml").write_text(
        f'[[routes]]\nprefix = ""\nto = ["sip:{{number}}@[::1]:{port}{suffix}"]\nrecord = "dual"\n'
    )
    options = ("--config", str(tmp_path / "callreel.toml"), "--sip", "[::]:0")
    with OwnServer(tmp_path, SID, "a-token-of-tests", options=options) as server:
        sip_port = server.sip_uri.rpartition(":")[2]
        caller = await phones.make(talk("tone:440", tmp_path / "caller.wav"))
        dialling = asyncio.create_task(
            caller.call(f"sip:100@127.0.0.1:{sip_port}{suffix}", transport=transport)
        )
        theirs = await asyncio.wait_for(callee.next_call(), 10)
        callee.answer(theirs)
        ours = await asyncio.wait_for(dialling, 10)
        await asyncio.sleep(0.8)
        await callee.hang_up(theirs)
        await asyncio.wait_for(ours.ended.wait(), 5)
        assert spans(tmp_path / "caller.wav", 880)
        assert spans(tmp_path / "callee.wav", 440)
        api = Api(server)
        (recording,) = api.get("/Recordings.json")["recordings"]
        finished = await asyncio.to_thread(api.finished, recording["sid"])
        assert finished["status"] == "completed"
        report = api.integrity(recording["sid"])
        assert report["clean"], report["problems"]
        api.http.close()
        await phones.close()
