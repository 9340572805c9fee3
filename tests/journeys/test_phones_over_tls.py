"""Registered phones that speak nothing but TLS with the server, and call each other."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

from callreel.demo.own_server import OwnServer
from callreel.wire.sip.digest_client import Credentials
from callreel.wire.sip.flow import Transport
from tests.journeys.api import Api
from tests.phone.phones import Phones, spans, talk

SID = "AC" + "7a" * 16


async def test_the_call_is_recorded_and_each_hears_the_other(tmp_path: Path) -> None:
    (tmp_path / "callreel.toml").write_text(
        """
accept_loopback = false
sips = "127.0.0.1:0"

[[users]]
name = "anna"
password = "anna-password"
record = "dual"

[[users]]
name = "ben"
password = "ben-password"
"""
    )
    phones = Phones()
    options = ("--config", str(tmp_path / "callreel.toml"))
    with OwnServer(tmp_path, SID, "a-token-of-tests", options=options) as server:
        sips = json.loads((server.data / "server.json").read_text())["sips_uri"]
        host = sips.removeprefix("sip:").partition(";")[0]
        trusting = ssl.create_default_context(cafile=str(server.data / "tls/cert.pem"))
        made = {
            name: await phones.make(
                talk(f"tone:{hz}", tmp_path / f"{name}.wav"),
                user=name,
                credentials=Credentials(name, f"{name}-password"),
                takes_calls=name == "ben",
                tls_context=trusting,
            )
            for name, hz in (("anna", 440), ("ben", 880))
        }
        await made["ben"].register(sips, f"sip:ben@{host}")
        dialling = asyncio.create_task(
            made["anna"].call(
                f"sip:ben@{host}", from_uri=f"sip:anna@{host}", transport=Transport.TLS
            )
        )
        theirs = await asyncio.wait_for(made["ben"].next_call(), 5)
        made["ben"].answer(theirs)
        ours = await asyncio.wait_for(dialling, 5)
        await asyncio.sleep(0.8)
        await made["ben"].hang_up(theirs)
        await asyncio.wait_for(ours.ended.wait(), 5)
        api = Api(server)
        (recording,) = await asyncio.to_thread(lambda: api.get("/Recordings.json")["recordings"])
        finished = await asyncio.to_thread(api.finished, recording["sid"])
        assert finished["status"] == "completed"
        assert recording["source"] == "Trunking"
        api.http.close()
        await phones.close()
    assert spans(tmp_path / "anna.wav", 880)
    assert spans(tmp_path / "ben.wav", 440)
    assert "Traceback" not in server.log
