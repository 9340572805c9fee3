"""A disk that fills up and a database that is locked, under a real server with a call under way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.journeys.api import Api

SID = "AC" + "cd" * 16
CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")
MIB = 1024 * 1024


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 48 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "callreel-test", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no filesystem can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def a_call(phone: RecordingClient, server: OwnServer) -> ClientCall:
    tones = [parse_source("tone:440"), parse_source("tone:880")]
    return await phone.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)


async def until(ready: Callable[[], bool], server: OwnServer, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(ready):
        assert time.monotonic() < deadline, server.log[-3000:]
        await asyncio.sleep(0.1)


def health(server: OwnServer) -> tuple[int, dict[str, str]]:
    answer = httpx.get(f"{server.http_url}/healthz", trust_env=False, timeout=10)
    return answer.status_code, answer.json()


def fill(folder: Path, free_bytes: int) -> None:
    """Leave only so much."""
    found = os.statvfs(folder)
    with (folder / "ballast").open("ab") as file:
        os.posix_fallocate(
            file.fileno(), file.tell(), max(1, found.f_bavail * found.f_frsize - free_bytes)
        )


async def test_each_step_of_a_disk_that_fills_up_and_back(
    phone: RecordingClient, small_disk: Path, tmp_path: Path
) -> None:
    environment = {"CALLREEL_DISK_WARNING_MB": "24", "CALLREEL_DISK_RESERVE_MB": "12"}
    with OwnServer(small_disk, SID, "a-token-of-tests", environment=environment) as server:
        api = Api(server)
        first = await a_call(phone, server)
        (shown,) = await asyncio.to_thread(api.wait_live)
        before = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")
        await asyncio.sleep(0.5)
        await asyncio.to_thread(api.stop, before)
        await asyncio.to_thread(api.finished, before["sid"])
        finished = await asyncio.to_thread(api.download, before["sid"], tmp_path)
        running = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")

        # Low: somebody should see to it.
        fill(small_disk, 20 * MIB)
        await until(lambda: health(server)[1]["disk"].startswith("warning: "), server)
        assert (health(server)[0], health(server)[1]["status"]) == (200, "degraded")

        # Out: no new recording, but calls, and the recording that runs.
        fill(small_disk, 8 * MIB)
        await until(lambda: health(server)[0] == 503, server)
        second = await a_call(phone, server)
        live = await asyncio.to_thread(api.wait_live, 2)
        (other,) = [one["sid"] for one in live if one["sid"] != shown["sid"]]
        refused = await asyncio.to_thread(api.post, f"/Calls/{other}/Recordings.json")
        assert refused.status_code == 503
        assert refused.json()["code"] == 20504
        assert "disk is nearly full" in refused.json()["message"]
        assert (await asyncio.to_thread(api.get, f"/Recordings/{running['sid']}.json"))[
            "status"
        ] == "in-progress"

        # Not a byte left: what is said is held back until there is room.
        fill(small_disk, 0)
        await until(lambda: health(server)[1]["journals"].startswith("warning: "), server)
        (small_disk / "ballast").unlink()
        await until(lambda: health(server)[1]["status"] == "ok", server)
        later = await asyncio.to_thread(api.start, other)
        await asyncio.sleep(0.5)
        await phone.hang_up(first)
        await phone.hang_up(second)
        done = await asyncio.to_thread(api.finished, running["sid"])
        assert done["status"] == "completed"
        report = await asyncio.to_thread(api.integrity, running["sid"])
        assert report["clean"], report["problems"]
        assert (await asyncio.to_thread(api.finished, later["sid"]))["status"] == "completed"

        # And what was finished before is as it was.
        again = await asyncio.to_thread(api.download, before["sid"], tmp_path)
        report = await asyncio.to_thread(api.integrity, before["sid"])
        assert hashlib.sha256(again.read_bytes()).hexdigest() == report["sha256"]
        assert again.read_bytes() == finished.read_bytes()
    for said in (
        "the disk is filling up",
        "no new recording is begun",
        "recordings are begun again",
    ):
        assert said in server.log
    assert "Traceback" not in server.log


async def test_a_database_that_is_locked_loses_nothing(
    phone: RecordingClient, tmp_path: Path
) -> None:
    async with WebhookReceiver() as receiver:
        with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
            api = Api(server)
            call = await a_call(phone, server)
            (shown,) = await asyncio.to_thread(api.wait_live)
            started = await asyncio.to_thread(
                api.start,
                shown["sid"],
                RecordingChannels="dual",
                RecordingStatusCallback=receiver.url,
            )
            other = sqlite3.connect(server.data / "callreel.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(0.5)
            refused = await asyncio.to_thread(api.post, f"/Calls/{shown['sid']}/Recordings.json",
                                              RecordingStatusCallback="")  # fmt: skip
            assert refused.status_code == 503
            assert "database" in refused.json()["message"]
            await phone.hang_up(call)  # its BYE is answered, noted or not
            until_log = "cannot be noted yet"
            await until(lambda: until_log in server.log, server)
            other.execute("ROLLBACK")
            other.close()
            done = await asyncio.to_thread(api.finished, started["sid"])
            assert done["status"] == "completed"
            report = await asyncio.to_thread(api.integrity, started["sid"])
            assert report["clean"], report["problems"]
            hook = await receiver.wait_for("completed", 30)
            assert hook.fields["RecordingSid"] == started["sid"]
            ended = await asyncio.to_thread(api.get, f"/Calls/{shown['sid']}.json")
            assert ended["status"] == "completed"
