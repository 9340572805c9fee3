"""What the API takes to answer, beside an endpoint that does nothing.

Recordings are started one after the other on 500 live calls that carry media; then, while all of
them are being recorded, 50 recordings are listed of 100,000, with and without filters. Before each
request the floor is asked the same question: FastAPI on uvicorn in a
process of its own, whose endpoint returns ``{}``. So both are measured under the same load. Exit
status 1 if an answer is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from bench.client import Answer, HttpClient
from bench.figures import quantiles, ratio, show
from bench.floor import Floor
from bench.rtp_load import LoadProcess
from callreel.base.ids import parse_id
from callreel.calls.model import (
    Account,
    Dialect,
    Recording,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
)
from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.server.datadir import DataDir
from callreel.server.system import RandomIds, SystemClock
from callreel.store import accounts, recordings
from callreel.store.database import Database
from callreel.store.seal import Seal

PAGE = 50
OF_ONE_CALL = 100
"""Recordings of each call that is over."""
PAGES_WALKED = 500
WARM_UPS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if an answer was wrong."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench api", description=about)
    parser.add_argument("--calls", type=int, default=500, help="live calls (default: 500)")
    parser.add_argument(
        "--recordings", type=int, default=100_000, help="finished ones to list (default: 100000)"
    )
    parser.add_argument("--requests", type=int, default=500, help="of a kind (default: 500)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch, Floor() as floor:
        run = measure(Path(scratch), floor, asked.calls, asked.recordings, asked.requests)
        return asyncio.run(run)


async def measure(folder: Path, floor: Floor, calls: int, finished: int, requests: int) -> int:
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
    await _fill(DataDir(server.data.absolute()), account, finished)
    load = LoadProcess(2 * calls)
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    ours: HttpClient | None = None
    nothing = HttpClient(floor.url, server.account_sid, server.auth_token)
    try:
        await asyncio.to_thread(server.start)
        ours = HttpClient(server.http_url, server.account_sid, server.auth_token)
        path = f"/2010-04-01/Accounts/{server.account_sid}"
        await phone.start()
        wrong = [
            *await _starts(phone, server, load, ours, nothing, path, calls),
            *await _lists(ours, nothing, path, finished, requests),
        ]
        await phone.close()
    finally:
        load.kill()
        for client in (ours, nothing):
            if client is not None:
                await client.close()
        await asyncio.to_thread(server.stop)
    for sentence in wrong[:20]:
        print(f"  WRONG: {sentence}")
    return 1 if wrong else 0


async def _fill(data: DataDir, account: Account, count: int) -> None:
    """Rows of finished recordings, put where the server will find them."""
    key = data.prepare()
    database = Database(f"sqlite:///{data.database}", Seal(key))
    await asyncio.to_thread(database.migrate)
    started = time.monotonic()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, account)
        call_id = ""
        for number in range(count):
            if number % OF_ONE_CALL == 0:
                call_id = secrets.token_hex(16)
            at = account.created_at - timedelta(seconds=count - number)
            row = Recording(
                id=secrets.token_hex(16),
                account_id=account.id,
                call_id=call_id,
                status=RecordingStatus.COMPLETED,
                source=RecordingSource.START_CALL_RECORDING_API,
                request=RecordingRequest(),
                created_at=at,
                updated_at=at,
                start_time=at,
                end_time=at + timedelta(seconds=30),
                duration_ms=30_000,
                size_bytes=480_044,
                media_key=f"bench/{number}",
                sha256=secrets.token_hex(32),
            )
            await recordings.add(connection, database.seal, row)
    await database.close()
    show("prepared", f"{count} finished recordings in {time.monotonic() - started:.1f} s")


async def _starts(
    phone: RecordingClient,
    server: OwnServer,
    load: LoadProcess,
    ours: HttpClient,
    nothing: HttpClient,
    path: str,
    calls: int,
) -> list[str]:
    """Start a recording of each of so many live calls, one after the other."""
    for number in range(calls):
        party = Party(f"sip:{number}@pbx.example.com")
        streams = load.streams[2 * number : 2 * number + 2]
        await phone.announce(server.sip_uri, streams, caller=party, callee=party)
    load.start(time.monotonic() + 0.1)
    await asyncio.sleep(1.1)
    listed = await ours.get(f"{path}/Calls.json?Status=in-progress&PageSize=1000")
    sids = [one["sid"] for one in listed.json()["calls"]]
    started: list[Answer] = []
    floor: list[Answer] = []
    for _ in range(WARM_UPS):
        await nothing.post("/", RecordingChannels="dual")
    for sid in sids:
        floor.append(await nothing.post("/", RecordingChannels="dual"))
        started.append(
            await ours.post(f"{path}/Calls/{sid}/Recordings.json", RecordingChannels="dual")
        )
    _compare(f"start, {calls} calls live", started, floor)
    wrong = [f"a start answered {one.status}" for one in started if one.status != 201]
    if len(started) != calls:
        wrong.append(f"{len(started)} calls are live, not {calls}")
    return wrong


async def _lists(
    ours: HttpClient, nothing: HttpClient, path: str, finished: int, requests: int
) -> list[str]:
    """List by each filter again and again; then go through the pages; then fetch single ones."""
    wrong = []
    page = (await ours.get(f"{path}/Recordings.json?PageSize=1000")).json()["recordings"]
    call = next(one["call_sid"] for one in page if one["status"] == "completed")
    oldest = SystemClock().now() - timedelta(seconds=finished)
    middle, later = (
        f"{oldest + timedelta(seconds=finished // 2 + more):%Y-%m-%dT%H:%M:%SZ}"
        for more in (0, 3600)
    )
    show("lists", f"of {finished} recordings, {PAGE} a page")
    floor: list[Answer] = []
    for name, query in (
        ("the newest", {}),
        ("before a date", {"DateCreated<": middle}),
        ("between two dates", {"DateCreated>": middle, "DateCreated<": later}),
        ("of a call", {"CallSid": call}),
        ("of a call since a date", {"CallSid": call, "DateCreated>": middle}),
    ):
        uri = f"{path}/Recordings.json?{urlencode(query | {'PageSize': str(PAGE)})}"
        pages: list[Answer] = []
        beside: list[Answer] = []
        for _ in range(requests):
            beside.append(await nothing.get("/"))
            pages.append(await ours.get(uri))
        _compare(f"list, {name}", pages, beside)
        floor += beside
        if any(one.status != 200 or len(one.json()["recordings"]) != PAGE for one in pages):
            wrong.append(f"{uri} does not have {PAGE} recordings")
    seen: set[str] = set()
    walked: list[Answer] = []
    next_uri: str | None = f"{path}/Recordings.json?PageSize={PAGE}"
    while next_uri is not None and len(walked) < PAGES_WALKED:
        walked.append(await ours.get(next_uri))
        listed = walked[-1].json()
        sids = [one["sid"] for one in listed["recordings"]]
        if len(sids) != PAGE and listed["next_page_uri"] is not None:
            wrong.append(f"{next_uri} has {len(sids)} recordings")
        seen.update(sids)
        next_uri = listed["next_page_uri"]
    _compare(f"each of {len(walked)} pages", walked, floor)
    if len(seen) < min(finished, PAGES_WALKED * PAGE):
        wrong.append(f"the pages hold {len(seen)} different recordings")
    fetched = []
    for sid in sorted(seen)[:requests]:
        fetched.append(await ours.get(f"{path}/Recordings/{sid}.json"))
        if fetched[-1].status != 200 or parse_id(json.loads(fetched[-1].body)["sid"]) is None:
            wrong.append(f"fetching {sid} answered {fetched[-1].status}")
    _compare("fetch one", fetched, floor)
    return wrong


def _compare(name: str, ours: Sequence[Answer], floor: Sequence[Answer]) -> None:
    show(name, quantiles(one.elapsed_ms for one in ours))
    show("  the floor beside it", quantiles(one.elapsed_ms for one in floor))
    show("  ratio", ratio([one.elapsed_ms for one in ours], [one.elapsed_ms for one in floor]))


if __name__ == "__main__":
    sys.exit(main())
