"""Strangers throw packets at every media port of the server while it records and passes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import RecordingClient
from callreel.phone.softphone import Phone
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans, tone_strength
from callreel.testing.spray import TONE_HZ, Spray
from tests.capture.house import free_ports
from tests.journeys.api import Api
from tests.journeys.test_seed_endpoint import CALLEE, CALLER
from tests.phone.phones import Phones, talk
from tests.ports import free_port_pair

SID = "AC" + "5e" * 16
TALK_S = 2.0
TRACE = 300.0
"""Amplitude that another tone's beginning and end, and what is concealed, stay below."""


@pytest.fixture(scope="module")
def media_ports() -> tuple[int, int]:
    return free_ports(32)


@pytest.fixture(scope="module")
def desk_port() -> int:
    return free_port_pair()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, media_ports: tuple[int, int], desk_port: int
) -> Iterator[OwnServer]:
    folder = tmp_path_factory.mktemp("server")
    low, high = media_ports
    (folder / "callreel.toml").write_text(
        f'rtp_ports = "{low}-{high}"\nworkers = 2\n'
        f'[[routes]]\nprefix = ""\nto = ["sip:{{number}}@127.0.0.1:{desk_port}"]\n'
        'record = "dual"\n'
    )
    options = ("--config", str(folder / "callreel.toml"))
    with OwnServer(folder, SID, "a-token-of-tests", options=options) as server:
        yield server
    assert "Traceback" not in server.log


@pytest.fixture
async def client() -> AsyncIterator[RecordingClient]:
    client = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await client.start()
    yield client
    await client.close()


@pytest.fixture
async def phones() -> AsyncIterator[Phones]:
    phones = Phones()
    yield phones
    await phones.close()


def assert_only(path: Path, *tones_hz: int) -> None:
    """Each channel holds its tone for all the time of talk, and no trace of a stranger's."""
    rate_hz, samples = read_wav(path)
    assert samples.shape[1] == len(tones_hz)
    for channel, hz in enumerate(tones_hz):
        spans = tone_spans(samples[:, channel], rate_hz, hz)
        assert len(spans) == 1, f"{hz} Hz was interrupted: {spans}"
        assert spans[0][1] - spans[0][0] > TALK_S - 0.3
        strength = tone_strength(samples[:, channel], rate_hz, TONE_HZ)
        assert strength.max() < TRACE


async def test_strangers_are_in_no_file_and_in_nobodys_ear(
    server: OwnServer,
    media_ports: tuple[int, int],
    desk_port: int,
    client: RecordingClient,
    phones: Phones,
    tmp_path: Path,
) -> None:
    desk: Phone = await phones.make(
        talk("tone:880", tmp_path / "desk.wav"), port=desk_port, takes_calls=True
    )
    caller = await phones.make(talk("tone:440", tmp_path / "caller.wav"))
    api = Api(server)
    with Spray(*media_ports) as spray:
        session = await client.call(
            server.sip_uri,
            (parse_source("tone:440"), parse_source("tone:880")),
            caller=CALLER,
            callee=CALLEE,
        )
        (tapped,) = await asyncio.to_thread(api.live_calls)
        taken = await asyncio.to_thread(lambda: api.start(tapped["sid"], RecordingChannels="dual"))
        dialling = asyncio.create_task(
            caller.call(f"sip:100@{server.sip_uri.removeprefix('sip:')}")
        )
        theirs = await asyncio.wait_for(desk.next_call(), 10)
        desk.ring(theirs)
        desk.answer(theirs)
        ours = await asyncio.wait_for(dialling, 10)
        await asyncio.sleep(TALK_S)
        await caller.hang_up(ours)
        await asyncio.to_thread(api.stop, taken)
        await client.hang_up(session)
        await asyncio.wait_for(theirs.ended.wait(), 10)
    assert spray.sent > 10_000
    page = await asyncio.to_thread(api.get, "/Recordings.json")
    assert len(page["recordings"]) == 2
    for one in page["recordings"]:
        finished = await asyncio.to_thread(api.finished, one["sid"])
        assert finished["status"] == "completed"
        report = await asyncio.to_thread(api.integrity, one["sid"])
        assert report["clean"], report["problems"]
        for stream in report["streams"]:
            assert {source["host"] for source in stream["sources"]} == {"127.0.0.1"}
            assert 100 < stream["packets"]["foreign"] < spray.sent
        assert_only(await asyncio.to_thread(api.download, one["sid"], tmp_path), 440, 880)
    for name, hz in (("caller", 880), ("desk", 440)):
        assert_only(tmp_path / f"{name}.wav", hz)
    assert "strangers" in server.log
    api.http.close()
