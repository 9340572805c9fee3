"""What the console takes to answer with many recordings, beside an endpoint that does nothing.

First its own first page and the list, narrowed in several ways, of 100,000 recordings of 100,000
calls; then the waveform of a recording of an hour: drawn on the server once, fetched, and, where
there is Chromium, drawn in a browser. Bytes are all that a first visit loads. Exit status 1 if an
answer is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
from sqlalchemy import insert, select

from bench.client import HttpClient
from bench.figures import quantiles, ratio, show
from bench.floor import Floor
from callreel.calls.model import (
    Account,
    Call,
    CallDirection,
    CallStatus,
    Dialect,
    Participant,
    Recording,
    RecordingChannels,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
)
from callreel.demo.own_server import OwnServer
from callreel.render.wav import WavWriter
from callreel.server.datadir import DataDir
from callreel.server.system import SystemClock
from callreel.store import accounts, calls, recordings, schema
from callreel.store.database import Database
from callreel.store.seal import Seal

Row = dict[str, Any]

RATE_HZ = 8000
_FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')
_LOADED = re.compile(r'(?:href|src)="(/console/static/[^"]+)"')


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if an answer was wrong."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench console", description=about)
    parser.add_argument("--recordings", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--requests", type=int, default=100, help="of a kind (default: 100)")
    parser.add_argument("--minutes", type=int, default=60, help="of the long one (default: 60)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch, Floor() as floor:
        return asyncio.run(
            measure(Path(scratch), floor, asked.recordings, asked.requests, asked.minutes)
        )


async def measure(folder: Path, floor: Floor, count: int, requests: int, minutes: int) -> int:
    """One run."""
    token = secrets.token_urlsafe(24)
    account = Account(
        id=secrets.token_hex(16),
        dialect=Dialect.TWILIO,
        auth_token=token,
        signing_key=token,
        created_at=SystemClock().now(),
    )
    server = OwnServer(folder, "AC" + account.id, token)
    long = await _fill(DataDir(server.data.absolute()), account, count, minutes)
    nothing = HttpClient(floor.url)
    wrong: list[str] = []
    try:
        await asyncio.to_thread(server.start)
        async with httpx.AsyncClient(
            base_url=server.http_url, trust_env=False, timeout=60
        ) as visitor:
            await _sign_in(visitor, server)
            await _weigh(visitor, wrong)
            for name, path in (
                ("the first page", "/console/live"),
                ("the list", "/console/recordings"),
                ("narrowed by status", _list(status="ready", direction="inbound")),
                ("narrowed by days", _list(**{"from": "2020-01-01", "to": "2035-01-01"})),
                ("searched, many match", _list(q="4930")),
                ("searched, one matches", _list(q=f"+4930{count // 2:07}")),
                ("searched, none matches", _list(q="nobody at all")),
                ("with gaps", _list(gaps="yes")),
            ):
                await _compare(visitor, nothing, name, path, requests, wrong)
            await _waveform(visitor, long, minutes, wrong)
        await _draw(server, long)
    finally:
        await nothing.close()
        await asyncio.to_thread(server.stop)
    for sentence in wrong[:20]:
        print(f"  WRONG: {sentence}")
    return 1 if wrong else 0


def _list(**query: str) -> str:
    return f"/console/recordings?{urlencode(query)}"


async def _fill(data: DataDir, account: Account, count: int, minutes: int) -> str:
    """Rows, put where the server will find them; the SID of the one that has audio."""
    key = data.prepare()
    database = Database(f"sqlite:///{data.database}", Seal(key))
    await asyncio.to_thread(database.migrate)
    started = time.monotonic()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, account)
        call = _call(account, count)
        await calls.add(connection, call)
        await recordings.add(connection, database.seal, _recording(account, call))
        # The others are made of these two, so that a hundred thousand take seconds.
        for table, rows in (
            (schema.calls, _more_calls),
            (schema.recordings, _more_recordings),
        ):
            one = (await connection.execute(select(table))).mappings().one()
            await connection.execute(insert(table), rows(dict(one), account, count))
        long = _recording(account, call, minutes=minutes)
        await recordings.add(connection, database.seal, long)
    await database.close()
    await asyncio.to_thread(_talk, data.media / f"{long.media_key}.wav", minutes)
    show("prepared", f"{count} calls and recordings in {time.monotonic() - started:.1f} s")
    return "RE" + long.id


def _number(number: int) -> str:
    return f"+4930{number:07}"


def _call(account: Account, number: int) -> Call:
    at = account.created_at
    return Call(
        id=_id("c", number),
        account_id=account.id,
        status=CallStatus.COMPLETED,
        direction=CallDirection.INBOUND,
        from_=_number(number),
        to="+15550199",
        created_at=at,
        updated_at=at,
        start_time=at,
        end_time=at + timedelta(seconds=30),
        participants=(Participant("sip:+15550199@pbx.example.com", "Somebody"),),
    )


def _id(kind: str, number: int) -> str:
    return hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()


def _more_calls(one: Row, account: Account, count: int) -> list[Row]:
    return [
        one | {"id": _id("c", n), "from_": _number(n), "created_at": _at(account, count, n)}
        for n in range(count)
    ]


def _more_recordings(one: Row, account: Account, count: int) -> list[Row]:
    return [
        one | {"id": _id("r", n), "call_id": _id("c", n), "created_at": _at(account, count, n)}
        for n in range(count)
    ]


def _at(account: Account, count: int, number: int) -> datetime:
    return account.created_at - timedelta(seconds=count - number)


def _recording(account: Account, call: Call, *, minutes: int | None = None) -> Recording:
    id_ = secrets.token_hex(16)
    seconds = 60 * minutes if minutes else 30
    return Recording(
        id=id_,
        account_id=account.id,
        call_id=call.id,
        status=RecordingStatus.COMPLETED,
        source=RecordingSource.START_CALL_RECORDING_API,
        request=RecordingRequest(RecordingChannels.DUAL),
        created_at=call.created_at,
        updated_at=call.created_at,
        start_time=call.created_at,
        end_time=call.created_at + timedelta(seconds=seconds),
        duration_ms=seconds * 1000,
        size_bytes=seconds * RATE_HZ * 4,
        media_key=f"{account.id}/{id_[:2]}/{id_}",
        sha256=secrets.token_hex(32),
        gap_count=0,
    )


def _talk(path: Path, minutes: int) -> None:
    """Two channels of noise that comes and goes."""
    path.parent.mkdir(parents=True)
    source = np.random.default_rng(1)
    with path.open("wb+") as file:
        wav = WavWriter(file, rate_hz=RATE_HZ, channels=2)
        for _ in range(minutes):
            loudness = np.repeat(source.uniform(0, 9000, (60, 2)), RATE_HZ, axis=0)
            wav.write((source.uniform(-1, 1, loudness.shape) * loudness).astype(np.int16))
        wav.finish()


async def _sign_in(visitor: httpx.AsyncClient, server: OwnServer) -> None:
    page = (await visitor.get("/console/sign-in")).text
    found = _FORM_TOKEN.search(page)
    assert found is not None
    fields = {
        "username": server.account_sid,
        "password": server.auth_token,
        "form_token": found[1],
    }
    answer = await visitor.post("/console/sign-in", data=fields)
    assert answer.status_code == 303, answer.status_code


async def _weigh(visitor: httpx.AsyncClient, wrong: list[str]) -> None:
    """All that the first page and the list load, from nothing."""
    for name, path in (("first page", "/console/live"), ("list", "/console/recordings")):
        page = await visitor.get(path)
        size = len(page.content)
        for file in sorted(set(_LOADED.findall(page.text))):
            answer = await visitor.get(file.replace("&amp;", "&"))
            if answer.status_code != 200:
                wrong.append(f"{file} answered {answer.status_code}")
            size += len(answer.content)
        show(f"bytes of the {name}", f"{size / 1000:.0f} kB in all, {len(page.content)} the page")


async def _compare(
    visitor: httpx.AsyncClient,
    nothing: HttpClient,
    name: str,
    path: str,
    requests: int,
    wrong: list[str],
) -> None:
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(requests):
        floor.append((await nothing.get("/")).elapsed_ms)
        started = time.perf_counter()
        answer = await visitor.get(path)
        ours.append((time.perf_counter() - started) * 1000)
        if answer.status_code != 200 or "<h1>" not in answer.text:
            wrong.append(f"{path} answered {answer.status_code}")
    show(name, quantiles(ours))
    show("  ratio to doing nothing", ratio(ours, floor))


async def _waveform(visitor: httpx.AsyncClient, sid: str, minutes: int, wrong: list[str]) -> None:
    path = f"/console/recordings/{sid}/peaks"
    for name in (f"waveform of {minutes} min, first", "  once it is kept"):
        started = time.perf_counter()
        answer = await visitor.get(path)
        elapsed_ms = (time.perf_counter() - started) * 1000
        show(name, f"{elapsed_ms:.0f} ms, {len(answer.content) / 1000:.0f} kB")
    if answer.status_code != 200 or answer.json()["duration_ms"] != minutes * 60_000:
        wrong.append("the waveform is not that of the recording")


async def _draw(server: OwnServer, sid: str) -> None:
    """From the click to the drawn waveform, in a browser."""
    browser_path = which("chromium")
    if browser_path is None:
        show("drawn in a browser", "not measured: chromium is not installed")
        return
    from playwright.async_api import async_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path, args=flags)
        page = await browser.new_page()
        await page.goto(f"{server.http_url}/console/sign-in")
        await page.fill("[name=username]", server.account_sid)
        await page.fill("[name=password]", server.auth_token)
        await page.click("button.primary")
        await page.wait_for_url("**/console/live")
        taken = []
        for _ in range(5):
            await page.goto(f"{server.http_url}/console/recordings/{sid}")
            await page.wait_for_selector("#player[data-drawn]")
            taken.append(float(await page.get_attribute("#player", "data-drawn") or "nan"))
        await browser.close()
    show("drawn in a browser", f"{quantiles(taken)} from the request of the page on")


if __name__ == "__main__":
    sys.exit(main())
