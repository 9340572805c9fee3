"""schemathesis against a real server: what the OpenAPI document says is what happens.

All of its checks, with good data and bad, in both dialects, with a live call, a live recording and
finished ones, so that what succeeds is seen to succeed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from callreel.api.openapi import document
from callreel.api.operations import OPERATIONS
from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.journeys.api import Api

ROOT = Path(__file__).parents[2]
SIGNALWIRE = "b3877c40-da60-4998-90ad-b792e98472af"
TWILIO = "AC" + "ab" * 16
CALLEE = Party("sip:+15550199@pbx.example.com")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Scene:
    """A server with something in it."""

    server: OwnServer
    live_call: str
    """It is being recorded."""
    ended_in_test: str
    """A live call that the test may end and delete."""
    live: str
    """The recording of the live call."""
    kept: str
    """A completed recording."""
    deleted_in_test: tuple[str, ...]
    """Completed recordings that the test may delete; the first is of the live call."""


@pytest.fixture(params=[SIGNALWIRE, TWILIO], ids=["signalwire", "twilio"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    server = OwnServer(tmp_path, request.param, "a-token-of-tests")
    await asyncio.to_thread(server.start)
    api = Api(server)
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()

    async def call(number: int) -> tuple[ClientCall, str]:
        caller = Party(f"sip:+1555010{number}@pbx.example.com", "Ann")
        tones = (parse_source("tone:440"), parse_source("tone:880"))
        made = await phone.call(server.sip_uri, tones, caller=caller, callee=CALLEE)
        found = await asyncio.to_thread(api.get, "/Calls.json", From=f"+1555010{number}")
        return made, str(found["calls"][0]["sid"])

    async def recorded(call_sid: str) -> str:
        started = await asyncio.to_thread(
            lambda: api.start(call_sid, RecordingChannels="dual", Trim="do-not-trim")
        )
        await asyncio.sleep(0.3)
        await asyncio.to_thread(api.stop, started)
        finished = await asyncio.to_thread(api.finished, started["sid"])
        assert finished["status"] == "completed"
        return str(started["sid"])

    try:
        ended, ended_sid = await call(1)
        kept, *others = [await recorded(ended_sid) for _ in range(3)]
        await phone.hang_up(ended)
        _, live_call = await call(2)
        of_live = await recorded(live_call)
        live = (await asyncio.to_thread(api.start, live_call))["sid"]
        _, ended_in_test = await call(3)
        yield Scene(server, live_call, ended_in_test, live, kept, (of_live, *others))
        await phone.close()
    finally:
        api.http.close()
        await asyncio.to_thread(server.stop)


def settings(scene: Scene, *, bound: bool) -> str:
    """The configuration: whose credentials, and which resources the paths name.

    ``bound``: the document has the account in its paths, and links are followed from a start.
    """
    lines = [
        'hooks = "tests.journeys.schemathesis_hooks"',
        # Credentials that it makes up would be replaced by the right ones, and then their
        # acceptance reported; that wrong ones are refused is a check of its own.
        "[generation]",
        "with-security-parameters = false",
        "[auth.basic]",
        f'username = "{scene.server.account_sid}"',
        f'password = "{scene.server.auth_token}"',
        "[parameters]",
    ]
    pinned: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("start_recording",), {"CallSid": scene.live_call})
    ]
    if not bound:
        lines += [
            f'"path.AccountSid" = "{scene.server.account_sid}"',
            f'"path.CallSid" = "{scene.live_call}"',
            f'"path.Sid" = "{scene.kept}"',
        ]
        pinned += [
            (("update_call", "delete_call"), {"CallSid": scene.ended_in_test}),
            (("fetch_call_recording",), {"Sid": scene.live}),
            (("update_call_recording",), {"Sid": "Twilio.CURRENT"}),
            (("delete_call_recording",), {"Sid": scene.deleted_in_test[0]}),
            (("delete_recording",), {"Sid": scene.deleted_in_test[1]}),
            (("delete_recording_json",), {"Sid": scene.deleted_in_test[2]}),
        ]
    for names, values in pinned:
        lines += ["[[operations]]", f"include-operation-id = {json.dumps(names)}"]
        lines += ["[operations.parameters]"]
        lines += [f'"path.{name}" = "{value}"' for name, value in values.items()]
    return "\n".join(lines) + "\n"


def bound_document(account_sid: str) -> dict[str, Any]:
    """The document with the account in its paths: lists then are places to begin at."""
    made = document()
    for item in made["paths"].values():
        for operation in item.values():
            operation["parameters"] = [
                one for one in operation["parameters"] if one["name"] != "AccountSid"
            ]
            for response in operation["responses"].values():
                for link in response.get("links", {}).values():
                    link["parameters"].pop("AccountSid")
    made["paths"] = {
        path.replace("{AccountSid}", account_sid): item for path, item in made["paths"].items()
    }
    return made


def run(scene: Scene, source: Path, *options: str, bound: bool) -> Path:
    """Run it with a document; nothing may be found. Returns the log of all requests."""
    config, log = source.with_suffix(".toml"), source.with_suffix(".har")
    config.write_text(settings(scene, bound=bound))
    found = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", str(source), "--url", scene.server.http_url, "--no-color"),
            *("--generation-deterministic", "--report", "har", "--report-har-path", str(log)),
            *options,
        ],
        cwd=source.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return log


def succeeded(log: Path) -> set[str]:
    """Names of the operations that were seen to succeed."""
    seen = {
        (entry["request"]["method"], re.sub(r"^https?://[^/]+|\?.*$", "", entry["request"]["url"]))
        for entry in json.loads(log.read_text())["log"]["entries"]
        if entry["response"]["status"] < 300
    }
    # The template with most text in it is the one that is meant: `{Sid}.wav` before `{Sid}`.
    order = sorted(OPERATIONS, key=lambda one: -len(re.sub(r"{\w+}", "", one.path)))
    patterns = [(one, re.compile(re.sub(r"{\w+}", "[^/]+", one.path))) for one in order]
    return {
        next(
            one.name
            for one, pattern in patterns
            if one.method == method and pattern.fullmatch(path)
        )
        for method, path in seen
    }


async def test_schemathesis_finds_nothing(scene: Scene, tmp_path: Path) -> None:
    free = tmp_path / "free.json"
    async with httpx.AsyncClient(trust_env=False) as client:
        free.write_bytes((await client.get(f"{scene.server.http_url}/openapi.json")).content)
    log = await asyncio.to_thread(
        run,
        scene,
        free,
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "12"),
        bound=False,
    )
    assert succeeded(log) == {one.name for one in OPERATIONS if one.answers}
    bound = tmp_path / "bound.json"
    bound.write_text(json.dumps(bound_document(scene.server.account_sid)))
    log = await asyncio.to_thread(
        run, scene, bound, "--phases", "stateful", "--max-examples", "20", bound=True
    )
    assert {"start_recording", "update_call_recording", "fetch_call_recording"} <= succeeded(log)
    assert "Traceback" not in scene.server.log
