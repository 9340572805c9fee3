"""Nothing said while paused is in the file, in either behaviour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api, Json
from tests.journeys.live import LiveTone

SID = "AC" + "ef" * 16
CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with OwnServer(tmp_path_factory.mktemp("server"), SID, "a-token-of-tests") as server:
        yield server


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


@pytest.mark.parametrize("behavior", ["skip", "silence"])
async def test_what_is_said_while_paused_is_nowhere(
    server: OwnServer, phone: RecordingClient, tmp_path: Path, behavior: str
) -> None:
    api = Api(server)
    legs = [LiveTone(440), LiveTone(880)]
    call = await phone.call(server.sip_uri, legs, caller=CALLER, callee=CALLEE)
    (shown,) = await asyncio.to_thread(api.wait_live)
    started = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")

    async def update(**fields: str) -> Json:
        path = f"/Calls/{shown['sid']}/Recordings/Twilio.CURRENT.json"
        answer = await asyncio.to_thread(api.post, path, **fields)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    await asyncio.sleep(0.8)
    paused = await update(Status="paused", PauseBehavior=behavior)
    assert paused["status"] == "paused"
    legs[0].hz, legs[1].hz = 1300, 1700  # a card number
    begun = time.monotonic()
    await asyncio.sleep(1.0)
    legs[0].hz, legs[1].hz = 600, 1000
    resumed = await update(Status="in-progress")
    pause_s = time.monotonic() - begun
    assert resumed["status"] == "in-progress"
    await asyncio.sleep(0.8)
    await update(Status="stopped")
    await phone.hang_up(call)
    assert (await asyncio.to_thread(api.finished, started["sid"]))["status"] == "completed"
    report = await asyncio.to_thread(api.integrity, started["sid"])
    assert report["clean"], report["problems"]
    (told,) = report["pauses"]
    assert told["behavior"] == behavior
    # The one is told by the kernel's stamps, the other by our side of two requests.
    assert abs(told["length_ms"] / 1000 - pause_s) < 0.05
    path = await asyncio.to_thread(api.download, started["sid"], tmp_path)
    rate_hz, samples = read_wav(path)
    for channel, (before, secret, after) in enumerate(((440, 1300, 600), (880, 1700, 1000))):
        heard = samples[:, channel]
        assert tone_spans(heard, rate_hz, secret) == []
        ((_, first_end),) = tone_spans(heard, rate_hz, before)
        ((second_start, _),) = tone_spans(heard, rate_hz, after)
        gap_s = second_start - first_end
        expected_s = 0.0 if behavior == "skip" else told["length_ms"] / 1000
        assert abs(gap_s - expected_s) <= 0.025, "a frame of 20 ms at most, and the ear's 5"
