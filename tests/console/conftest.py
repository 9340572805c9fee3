"""A live server with a recorded call of the first account, and a second account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import Answer, WebhookReceiver
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.cli.commands import callreel
from tests.console.visitor import Visitor
from tests.journeys.api import Api, Json

FIRST = "AC" + "cd" * 16
TOKEN = "a-token-of-tests"
HOSTILE = "<script>alert(1)</script>"
CALLER = Party("sip:+15550100@pbx.example.com", f"Ann {HOSTILE}")
CALLEE = Party("sip:+15550199@pbx.example.com", "Bea")


@dataclass(frozen=True, slots=True)
class House:
    """The server, and what is on it."""

    server: OwnServer
    recording: Json
    second: str
    second_token: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with OwnServer(tmp_path_factory.mktemp("console"), FIRST, TOKEN) as server:
        yield server
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


@pytest.fixture(scope="module")
def house(server: OwnServer) -> House:
    recording = asyncio.run(a_recording(server))
    made = callreel("accounts", "create", "--dialect", "twilio", "--json", data=server.data).said
    return House(server, recording, made["sid"], made["auth_token"])


async def a_recording(server: OwnServer) -> Json:
    """Dual, of two seconds; its receiver refused the webhook for good."""
    api = Api(server)
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    async with WebhookReceiver() as receiver:
        receiver.default = Answer(410, body=b"gone for good")
        tones = [parse_source("tone:440"), parse_source("tone:880")]
        call = await phone.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)
        (shown,) = await asyncio.to_thread(api.wait_live)
        asked = {
            "RecordingChannels": "dual",
            "RecordingStatusCallback": receiver.url + "?secret=squeamish",
        }
        started = await asyncio.to_thread(lambda: api.start(shown["sid"], **asked))
        await asyncio.sleep(2.0)
        await asyncio.to_thread(api.stop, started)
        finished = await asyncio.to_thread(api.finished, started["sid"])
        await receiver.wait_for("completed")
        await phone.hang_up(call)
    await phone.close()
    api.http.close()
    assert finished["status"] == "completed"
    return finished


@pytest.fixture
def visitor(house: House) -> Iterator[Visitor]:
    """Signed in as the first account."""
    with Visitor(house.server) as visitor:
        assert visitor.sign_in(FIRST, TOKEN).status_code == 200
        yield visitor


@pytest.fixture
def stranger(house: House) -> Iterator[Visitor]:
    """Signed in as the second account."""
    with Visitor(house.server) as visitor:
        assert visitor.sign_in(house.second, house.second_token).status_code == 200
        yield visitor


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


def here(name: str) -> Path:
    """A file of the repository."""
    return Path(__file__).parents[2] / name
