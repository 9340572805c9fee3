"""The endpoint that callreel grew from, on a live call, in both dialects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from twilio.request_validator import RequestValidator

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api, Json
from tests.journeys.live import LiveTone

SCHEMA = Path(__file__).parents[3] / "shared/contract/openapi-recordings-calls.json"
SIGNALWIRE = "b3877c40-da60-4998-90ad-b792e98472af"
TWILIO = "AC" + "ab" * 16
CALLER = Party("sip:+15550100@pbx.example.com", "Ann")
CALLEE = Party("sip:+15550199@pbx.example.com")


@pytest.fixture(scope="module", params=[SIGNALWIRE, TWILIO], ids=["signalwire", "twilio"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    folder = tmp_path_factory.mktemp("server")
    with OwnServer(folder, request.param, "a-token-of-tests") as server:
        yield server
    assert "Traceback" not in server.log


@pytest.fixture
def api(server: OwnServer) -> Iterator[Api]:
    api = Api(server)
    yield api
    api.http.close()


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as receiver:
        yield receiver


async def begin(
    phone: RecordingClient, server: OwnServer, api: Api, *tracks: Any, codec: str = "PCMU"
) -> tuple[ClientCall, Json]:
    """A call, and what the API shows of it."""
    sources = tracks or (parse_source("tone:440"), parse_source("tone:880"))
    before = {call["sid"] for call in await asyncio.to_thread(api.live_calls)}
    call = await phone.call(server.sip_uri, sources, caller=CALLER, callee=CALLEE, codec=codec)
    live = await asyncio.to_thread(api.live_calls)
    (shown,) = [one for one in live if one["sid"] not in before]
    return call, shown


def is_twilio(server: OwnServer) -> bool:
    return server.account_sid.startswith("AC")


def conforms(server: OwnServer, name: str, value: Json) -> None:
    """Against the vendor's schema, where it is at hand and speaks of this dialect."""
    if is_twilio(server) or not SCHEMA.exists():
        return
    document = json.loads(SCHEMA.read_text())
    root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    Draft202012Validator(root).validate(value)


async def test_every_parameter_on_a_live_call(
    server: OwnServer, api: Api, phone: RecordingClient, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    call, shown = await begin(phone, server, api)
    conforms(server, "Call", shown)
    assert shown["from"] == "+15550100"
    assert shown["direction"] == "inbound"
    answer = await asyncio.to_thread(
        api.post,
        f"/Calls/{shown['sid']}/Recordings.json",
        RecordingChannels="dual",
        RecordingTrack="both",
        Trim="do-not-trim",
        RecordingStatusCallback=receiver.url,
        RecordingStatusCallbackMethod="POST",
        RecordingStatusCallbackEvent="in-progress completed absent",
    )
    assert answer.status_code == (201 if is_twilio(server) else 200)
    started = answer.json()
    conforms(server, "Recording", started)
    assert started["status"] == "in-progress"
    assert started["call_sid"] == shown["sid"]
    assert str(started["channels"]) == "2"
    assert started["start_time"] is not None
    again = await asyncio.to_thread(
        api.post, f"/Calls/{shown['sid']}/Recordings", RecordingChannels="mono"
    )
    assert again.status_code == 200
    assert again.json() == started
    early = await asyncio.to_thread(api.http.get, f"{api.account}/Recordings/{started['sid']}")
    assert (early.status_code, early.json()["code"]) == (404, 20404)
    await asyncio.sleep(1.5)
    await phone.hang_up(call)
    hook = await receiver.wait_for("completed")
    fetched = await asyncio.to_thread(
        httpx.get, hook.fields["RecordingUrl"], auth=(server.account_sid, server.auth_token)
    )
    assert fetched.status_code == 200
    assert fetched.headers["content-type"] == "audio/x-wav"
    assert [one.event for one in receiver.received] == ["in-progress", "completed"]
    validator = RequestValidator(server.auth_token)
    for one in receiver.received:
        for header in ("x-twilio-signature", "x-signalwire-signature"):
            assert validator.validate(one.url, one.fields, one.header(header))
    assert hook.fields["RecordingSid"] == started["sid"]
    assert hook.fields["RecordingDuration"] in ("1", "2")
    assert hook.fields["RecordingChannels"] == "2"
    assert hook.fields["ErrorCode"] == "0"
    finished = await asyncio.to_thread(api.finished, started["sid"])
    conforms(server, "Recording", finished)
    assert finished["status"] == "completed"
    path = tmp_path / "a.wav"
    path.write_bytes(fetched.content)
    rate_hz, samples = read_wav(path)
    for channel, hz in ((0, 440), (1, 880)):
        ((start, end),) = tone_spans(samples[:, channel], rate_hz, hz)
        assert start < 0.03
        # The phone falls silent before it says BYE, and a busy machine takes its time over that.
        assert end > len(samples) / rate_hz - 0.5
    ended = await asyncio.to_thread(api.get, f"/Calls/{shown['sid']}.json")
    assert ended["status"] == "completed"
    late = await asyncio.to_thread(api.post, f"/Calls/{shown['sid']}/Recordings.json")
    assert (late.status_code, late.json()["code"]) == (400 if is_twilio(server) else 422, 21220)


async def test_nothing_before_the_start_and_everything_until_the_stop(
    server: OwnServer, api: Api, phone: RecordingClient, tmp_path: Path
) -> None:
    """The legs change their tones as requests are sent and answered."""
    legs = [LiveTone(400), LiveTone(500)]

    def switch(hz: int) -> None:
        legs[0].hz, legs[1].hz = hz, hz + 100

    call, shown = await begin(phone, server, api, *legs)
    await asyncio.sleep(0.5)
    switch(800)  # in flight: may be in the file or not
    await asyncio.sleep(0.02)
    started = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")
    switch(1200)
    begun = time.monotonic()
    await asyncio.sleep(1.0)
    seconds = time.monotonic() - begun
    switch(1600)
    await asyncio.to_thread(api.stop, started)
    switch(2000)
    await asyncio.sleep(0.3)
    await phone.hang_up(call)
    finished = await asyncio.to_thread(api.finished, started["sid"])
    assert finished["status"] == "completed"
    path = await asyncio.to_thread(api.download, started["sid"], tmp_path)
    rate_hz, samples = read_wav(path)
    for channel in (0, 1):
        heard = samples[:, channel]
        assert tone_spans(heard, rate_hz, 400 + 100 * channel) == []
        assert tone_spans(heard, rate_hz, 2000 + 100 * channel) == []
        ((start, end),) = tone_spans(heard, rate_hz, 1200 + 100 * channel)
        assert abs((end - start) - seconds) <= 0.025, "a frame of 20 ms at most, and the ear's 5"
        assert start < 0.1
        assert end > len(heard) / rate_hz - 0.1
    report = await asyncio.to_thread(api.integrity, started["sid"])
    assert report["clean"], report["problems"]


@pytest.mark.parametrize(
    ("fields", "channels", "tones"),
    [
        ({}, 1, [{440, 880}]),
        ({"RecordingChannels": "dual"}, 2, [{440}, {880}]),
        ({"RecordingTrack": "inbound", "RecordingChannels": "dual"}, 1, [{440}]),
        ({"RecordingTrack": "outbound"}, 1, [{880}]),
    ],
)
async def test_channels_and_tracks(
    server: OwnServer,
    api: Api,
    phone: RecordingClient,
    tmp_path: Path,
    fields: dict[str, str],
    channels: int,
    tones: list[set[int]],
) -> None:
    call, shown = await begin(phone, server, api, codec="PCMA")
    started = await asyncio.to_thread(api.start, shown["sid"], **fields)
    assert str(started["channels"]) == str(channels)
    await asyncio.sleep(0.6)
    stopped = await asyncio.to_thread(api.stop, started)
    assert stopped["status"] == "stopped"
    await phone.hang_up(call)
    await asyncio.to_thread(api.finished, started["sid"])
    path = await asyncio.to_thread(api.download, started["sid"], tmp_path)
    rate_hz, samples = read_wav(path)
    assert samples.shape[1] == channels
    for channel, expected in enumerate(tones):
        heard = {hz for hz in (440, 880) if tone_spans(samples[:, channel], rate_hz, hz)}
        assert heard == expected


async def test_trim_cuts_the_ends_and_says_absent_of_silence(
    server: OwnServer, api: Api, phone: RecordingClient, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    silent = parse_source("silence")
    legs = [LiveTone(0), LiveTone(0)]  # 0 Hz: nothing but zeros
    call, shown = await begin(phone, server, api, *legs)
    started = await asyncio.to_thread(
        api.start, shown["sid"], Trim="trim-silence", RecordingChannels="dual"
    )
    await asyncio.sleep(0.6)
    legs[0].hz = 440
    await asyncio.sleep(0.6)
    legs[0].hz = 0
    await asyncio.sleep(0.6)
    await phone.hang_up(call)
    finished = await asyncio.to_thread(api.finished, started["sid"])
    assert finished["status"] == "completed"
    path = await asyncio.to_thread(api.download, started["sid"], tmp_path)
    rate_hz, samples = read_wav(path)
    assert abs(len(samples) / rate_hz - 0.6) < 0.1
    assert samples.shape[1] == 2

    call, shown = await begin(phone, server, api, silent, silent)
    started = await asyncio.to_thread(
        api.start,
        shown["sid"],
        Trim="trim-silence",
        RecordingStatusCallback=receiver.url,
        RecordingStatusCallbackMethod="GET",
        RecordingStatusCallbackEvent="absent",
    )
    await asyncio.sleep(0.4)
    await phone.hang_up(call)
    hook = await receiver.wait_for("absent")
    assert hook.method == "GET"
    assert hook.fields["ErrorCode"] == "16102"
    validator = RequestValidator(server.auth_token)
    assert validator.validate(hook.url, {}, hook.header("x-twilio-signature"))
    finished = await asyncio.to_thread(api.finished, started["sid"])
    conforms(server, "Recording", finished)
    assert finished["status"] == "absent"
    assert str(finished["error_code"]) == "16102"
    gone = await asyncio.to_thread(api.http.get, f"{api.account}/Recordings/{started['sid']}.wav")
    assert gone.status_code == 404


async def test_silence_is_kept_unless_it_is_to_be_trimmed(
    server: OwnServer, api: Api, phone: RecordingClient
) -> None:
    silent = parse_source("silence")
    call, shown = await begin(phone, server, api, silent, silent)
    started = await asyncio.to_thread(api.start, shown["sid"])
    await asyncio.sleep(0.6)
    await phone.hang_up(call)
    finished = await asyncio.to_thread(api.finished, started["sid"])
    assert finished["status"] == "completed"


async def test_media_in_both_formats_whole_and_in_part(
    server: OwnServer, api: Api, phone: RecordingClient, tmp_path: Path
) -> None:
    call, shown = await begin(phone, server, api)
    started = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")
    await asyncio.sleep(1.0)
    await phone.hang_up(call)
    await asyncio.to_thread(api.finished, started["sid"])
    path = f"/api/laml{api.account}/Recordings/{started['sid']}"

    def checks() -> None:
        http = api.http
        wav = http.get(path + ".wav")
        bare = http.get(path, headers={"Accept": "audio/*, */*"})
        mp3 = http.get(path + ".mp3")
        assert bare.content == wav.content
        assert wav.content.startswith(b"RIFF")
        assert mp3.headers["content-type"] == "audio/mpeg"
        assert mp3.content[:3] == b"ID3" or mp3.content[0] == 0xFF
        assert 500 < len(mp3.content) < len(wav.content)
        assert http.get(path + ".mp3").content == mp3.content
        for ending, media_type, magic in (
            (".flac", "audio/flac", b"fLaC"),
            (".opus", "audio/ogg", b"OggS"),
            (".ogg", "audio/ogg", b"OggS"),
        ):
            other = http.get(path + ending)
            assert other.headers["content-type"] == media_type
            assert other.content[:4] == magic
            assert 500 < len(other.content) < len(wav.content)
            assert http.get(path + ending).content == other.content
        assert http.get(path + ".ogg").content == http.get(path + ".opus").content
        saved = http.get(path + ".ogg?Download=true").headers["content-disposition"]
        assert saved.endswith('.opus"')
        head = http.head(path + ".wav")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(wav.content))
        part = http.get(path + ".wav", headers={"Range": "bytes=100-199"})
        assert part.status_code == 206
        assert part.content == wav.content[100:200]
        assert part.headers["content-range"] == f"bytes 100-199/{len(wav.content)}"
        past = http.get(path + ".wav", headers={"Range": f"bytes={len(wav.content)}-"})
        assert past.status_code == 416
        unchanged = http.get(path + ".wav", headers={"If-None-Match": wav.headers["etag"]})
        assert unchanged.status_code == 304
        as_json = http.get(path, headers={"Accept": "application/json"})
        assert as_json.json()["sid"] == started["sid"]
        assert as_json.json()["uri"].startswith("/api/laml/2010-04-01/")
        stranger = httpx.get(server.http_url + path, trust_env=False)
        assert (stranger.status_code, stranger.json()["code"]) == (401, 20003)
        assert "media_auth" in stranger.json()["message"]

    await asyncio.to_thread(checks)


async def test_lists_of_calls_and_recordings(
    server: OwnServer, api: Api, phone: RecordingClient
) -> None:
    made = []
    for _ in range(3):
        call, shown = await begin(phone, server, api)
        started = await asyncio.to_thread(api.start, shown["sid"])
        await asyncio.sleep(0.2)
        await phone.hang_up(call)
        made.append((shown["sid"], started["sid"]))

    def checks() -> None:
        for name, sids in (
            ("Calls", [one[0] for one in made]),
            ("Recordings", [one[1] for one in made]),
        ):
            page = api.get(f"/{name}.json", PageSize="2")
            conforms(server, f"{name[:-1]}ListResponse", page)
            listed = page[name.lower()]
            then = api.http.get(page["next_page_uri"]).json()
            listed = [one["sid"] for one in listed + then[name.lower()]]
            assert listed[:3] == sids[::-1]
        only = api.get("/Recordings.json", CallSid=made[0][0])["recordings"]
        assert [one["sid"] for one in only] == [made[0][1]]
        assert api.get("/Recordings.json", **{"DateCreated<": "2020-01-01"})["recordings"] == []
        under = api.get(f"/Calls/{made[0][0]}/Recordings.json")["recordings"]
        assert [one["sid"] for one in under] == [made[0][1]]

    await asyncio.to_thread(checks)
    for _, sid in made:
        await asyncio.to_thread(api.finished, sid)
