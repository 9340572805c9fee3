"""A server seen from outside while a call is recorded: metrics, status, log lines."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.cli.commands import callreel
from tests.journeys.api import Api

SID = "AC" + "cd" * 16
TOKEN = "a-token-of-metrics"


def age(database: Path) -> None:
    """Let all recordings have ended two hours earlier."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE recordings SET end_time = end_time - 7200000000")


def figures(server: OwnServer, **headers: str) -> dict[tuple[str, ...], float]:
    answer = httpx.get(f"{server.http_url}/metrics", headers=headers, trust_env=False, timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_what_a_server_does_is_seen_from_outside(tmp_path: Path) -> None:
    environment = {
        "CALLREEL_LOG_FORMAT": "json",
        "CALLREEL_METRICS_TOKEN": TOKEN,
        "CALLREEL_METRICS_LOOPBACK": "false",
    }
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    with OwnServer(tmp_path, SID, "a-token-of-tests", environment=environment) as server:
        metrics = f"{server.http_url}/metrics"
        denied = await asyncio.to_thread(httpx.get, metrics, trust_env=False)
        assert denied.status_code == 403
        tones = [parse_source("tone:440"), parse_source("tone:880")]
        call = await phone.call(
            server.sip_uri, tones, caller=Party("sip:a@x.example"), callee=Party("sip:b@x.example")
        )
        api = Api(server)
        (shown,) = await asyncio.to_thread(api.wait_live)
        started = await asyncio.to_thread(api.start, shown["sid"])
        deadline = time.monotonic() + 10
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        while True:
            found = await asyncio.to_thread(figures, server, **bearer)
            kept = sum(value for key, value in found.items() if key[0].endswith("kept_total"))
            if kept > 0:
                break
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)
        assert found["callreel_calls",] == 1
        assert found["callreel_recordings", "in-progress"] == 1
        assert found["callreel_at_risk_seconds", "crash"] >= 0.35
        said = (await asyncio.to_thread(callreel, "status", "--json", data=server.data)).said
        assert (said["calls"], said["health"]["sip"]) == (1, "ok")
        once = await asyncio.to_thread(callreel, "status", "--once", data=server.data)
        assert once.status == 0, once.err
        assert "1 in-progress" in once.out
        await phone.hang_up(call)
        await asyncio.to_thread(api.finished, started["sid"])
        verified = await asyncio.to_thread(callreel, "verify", "--json", data=server.data)
        assert (verified.said["recordings"], verified.said["findings"]) == (1, [])
        purge = ("recordings", "purge")
        everything = await asyncio.to_thread(
            callreel, *purge, "--older-than", "0h", "--yes", data=server.data
        )
        assert (everything.status, "above zero" in everything.err) == (2, True)
        none = await asyncio.to_thread(callreel, *purge, "--dry-run", data=server.data)
        assert "Nothing has a retention" in none.out
        age(server.data / "callreel.db")
        purged = await asyncio.to_thread(
            callreel, *purge, "--older-than", "1h", "--yes", "--json", data=server.data
        )
        assert purged.said["recordings"] == 1
        assert not list((server.data / "media").rglob("*.wav"))
    await phone.close()
    lines = [one for one in server.log.splitlines() if one.startswith("{")]
    about = [json.loads(one) for one in lines]
    assert any(one.get("recording") == started["sid"].removeprefix("RE") for one in about)
    gone = await asyncio.to_thread(callreel, "status", "--once", data=server.data)
    assert (gone.status, "no server is up" in gone.err) == (2, True)
