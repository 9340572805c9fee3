"""Every path of the contract's table on live calls, beyond the endpoint it began with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from callreel.audio.mixing import mix
from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api, Json
from tests.journeys.test_seed_endpoint import SIGNALWIRE, TWILIO, conforms, is_twilio

CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")


@pytest.fixture(scope="module", params=[SIGNALWIRE, TWILIO], ids=["signalwire", "twilio"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    with OwnServer(tmp_path_factory.mktemp("server"), request.param, "a-token-of-tests") as server:
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


def refused(server: OwnServer, answer: httpx.Response, code: int, status: int = 0) -> None:
    assert answer.status_code == (status or (400 if is_twilio(server) else 422)), answer.text
    assert answer.json()["code"] == code
    assert answer.json()["status"] == answer.status_code
    conforms(server, "CompatibilityErrorResponse", answer.json())


async def a_call(phone: RecordingClient, server: OwnServer, api: Api) -> tuple[ClientCall, Json]:
    tones = [parse_source("tone:440"), parse_source("tone:880")]
    before = {one["sid"] for one in await asyncio.to_thread(api.live_calls)}
    call = await phone.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)
    live = await asyncio.to_thread(api.live_calls)
    (shown,) = [one for one in live if one["sid"] not in before]
    return call, shown


async def a_recording(phone: RecordingClient, server: OwnServer, api: Api, **fields: str) -> Json:
    """Finished, of a call that is over."""
    call, shown = await a_call(phone, server, api)
    started = await asyncio.to_thread(api.start, shown["sid"], **fields)
    await asyncio.sleep(0.6)
    await phone.hang_up(call)
    return await asyncio.to_thread(api.finished, started["sid"])


async def test_a_call_is_ended_by_the_api_and_its_recording_kept(
    server: OwnServer, api: Api, phone: RecordingClient
) -> None:
    call, shown = await a_call(phone, server, api)
    started = await asyncio.to_thread(api.start, shown["sid"])
    path = f"/Calls/{shown['sid']}.json"
    await asyncio.sleep(0.4)

    def checks() -> None:
        refused(server, api.post(path, Status="canceled"), 10000)
        refused(server, api.post(path, Status=""), 10000)
        refused(server, api.post(path, Status="in-progress"), 10000)
        refused(server, api.post(path), 10000)
        refused(server, api.post(path, Url="nowhere"), 21402)
        refused(server, api.post(path, Url="https://example.com/", Method="PUT"), 21209)
        refused(server, api.post(path, Url="https://example.com/"), 21220)
        refused(server, api.post(path, Twiml="<Response/>"), 21220)
        refused(server, api.http.delete(f"{api.account}{path}"), 20009)
        assert api.get(path)["status"] == "in-progress"
        ended = api.post(path, Status="completed")
        assert ended.status_code == 200
        conforms(server, "Call", ended.json())
        assert ended.json()["status"] == "completed"
        assert ended.json()["end_time"] is not None
        twice = 21220 if is_twilio(server) else 10000
        for status in ("completed", "canceled"):
            refused(server, api.post(path, Status=status), twice)
        refused(server, api.post(path, Url="https://example.com/"), 21220)

    await asyncio.to_thread(checks)
    await asyncio.wait_for(call.ended.wait(), 5)  # the peer was sent a BYE
    finished = await asyncio.to_thread(api.finished, started["sid"])
    assert finished["status"] == "completed"

    def delete() -> None:
        gone = api.http.delete(f"{api.account}{path}")
        assert (gone.status_code, gone.content) == (204, b"")
        for answer in (
            api.http.get(f"{api.account}{path}"),
            api.http.delete(f"{api.account}{path}"),
            api.post(path, Status="completed"),
            api.http.get(f"{api.account}/Calls/{shown['sid']}/Recordings.json"),
        ):
            refused(server, answer, 20404, 404)
        assert api.get(f"/Recordings/{started['sid']}.json")["status"] == "completed"

    await asyncio.to_thread(delete)


@pytest.mark.parametrize("under_call", [False, True])
async def test_a_recording_is_deleted_for_good(
    server: OwnServer, api: Api, phone: RecordingClient, under_call: bool
) -> None:
    call, shown = await a_call(phone, server, api)
    started = await asyncio.to_thread(api.start, shown["sid"], RecordingChannels="dual")
    in_account = f"{api.account}/Recordings/{started['sid']}"
    in_call = f"{api.account}/Calls/{shown['sid']}/Recordings/{started['sid']}"
    path = in_call if under_call else in_account
    await asyncio.sleep(0.3)

    def live() -> None:
        refused(server, api.http.delete(f"{path}.json"), 20009)
        current = f"{api.account}/Calls/{shown['sid']}/Recordings/Twilio.CURRENT.json"
        refused(server, api.http.delete(current), 20009)
        refused(server, api.http.get(f"{in_account}.wav"), 20404, 404)
        assert api.get(f"/Recordings/{started['sid']}.json")["status"] == "in-progress"

    await asyncio.to_thread(live)
    await phone.hang_up(call)
    await asyncio.to_thread(api.finished, started["sid"])

    def delete() -> None:
        for url in (".wav", ".mp3", ".wav?RequestedChannels=1", ".mp3?RequestedChannels=1"):
            assert api.http.get(in_account + url).status_code == 200
        media = server.data / "media"
        assert len([one for one in media.rglob("*") if one.is_file()]) >= 5
        other = f"{api.account}/Calls/{'0' * 32}/Recordings/{started['sid']}.json"
        refused(server, api.http.delete(other), 20404, 404)
        gone = api.http.delete(f"{path}.json")
        assert (gone.status_code, gone.content) == (204, b"")
        id_ = re.sub("^RE|-", "", started["sid"])
        assert not [one for one in server.data.rglob("*") if id_ in one.name]
        for answer in (
            api.http.delete(f"{path}.json"),
            api.http.get(f"{in_account}.json"),
            api.http.get(f"{in_account}.wav"),
            api.http.get(f"{in_account}.mp3"),
            api.http.get(f"{in_account}/Integrity.json"),
            api.http.get(f"{in_call}.json"),
            api.http.post(f"{in_call}.json", data={"Status": "stopped"}),
        ):
            refused(server, answer, 20404, 404)
        assert api.get("/Recordings.json", CallSid=shown["sid"])["recordings"] == []

    await asyncio.to_thread(delete)


async def test_media_mixed_down_saved_and_by_range(
    server: OwnServer, api: Api, phone: RecordingClient, tmp_path: Path
) -> None:
    dual = await a_recording(phone, server, api, RecordingChannels="dual")
    mono = await a_recording(phone, server, api)

    def checks() -> None:
        path = f"{api.account}/Recordings/{dual['sid']}"
        whole = api.http.get(f"{path}.wav")
        rate_hz, both = read_wav(api.download(dual["sid"], tmp_path))
        mixed = api.download(dual["sid"], tmp_path, ".wav?RequestedChannels=1")
        _, one = read_wav(mixed)
        assert one.shape == (len(both), 1)
        assert (one[:, 0] == mix(both[:, 0], both[:, 1])).all()
        assert tone_spans(one[:, 0], rate_hz, 440)
        assert tone_spans(one[:, 0], rate_hz, 880)
        two = api.http.get(f"{path}?RequestedChannels=2")
        assert two.content == whole.content
        small = api.http.get(f"{path}.mp3?RequestedChannels=1")
        assert small.headers["content-type"] == "audio/mpeg"
        assert len(small.content) < len(api.http.get(f"{path}.mp3").content)
        assert len({x.headers["etag"] for x in (whole, small, api.http.get(f"{path}.mp3"))}) == 3
        for asked in ("1", "2"):
            as_it_is = api.http.get(
                f"{api.account}/Recordings/{mono['sid']}.wav?RequestedChannels={asked}"
            )
            plain = api.http.get(f"{api.account}/Recordings/{mono['sid']}.wav")
            assert as_it_is.content == plain.content
        for wrong in ("0", "3", "mono", "1.0", "-1"):
            refused(server, api.http.get(f"{path}.wav?RequestedChannels={wrong}"), 10000)
        refused(server, api.http.get(f"{path}.wav?Download=maybe"), 10000)
        saved = api.http.get(f"{path}.mp3?Download=true")
        named = f'attachment; filename="{dual["sid"]}.mp3"'
        assert saved.headers["content-disposition"] == named
        named = f'attachment; filename="{dual["sid"]}.wav"'
        assert api.http.head(f"{path}?Download=True").headers["content-disposition"] == named
        assert "content-disposition" not in whole.headers
        size = len(whole.content)
        last = api.http.get(f"{path}.wav", headers={"Range": "bytes=-100"})
        assert (last.status_code, last.content) == (206, whole.content[-100:])
        rest = api.http.get(f"{path}.wav", headers={"Range": f"bytes={size - 7}-"})
        assert (rest.status_code, rest.content) == (206, whole.content[-7:])
        past = api.http.get(f"{path}.wav", headers={"Range": f"bytes={size}-"})
        refused(server, past, 10000, 416)
        assert past.headers["content-range"] == f"bytes */{size}"
        other = api.http.get(f"{path}.wav", headers={"Range": "bytes=0-9", "If-Range": '"another"'})
        assert (other.status_code, len(other.content)) == (200, size)
        head = api.http.head(f"{path}.wav", headers={"Range": "bytes=0-9"})
        assert (head.status_code, head.headers["content-length"]) == (200, str(size))
        etag = whole.headers["etag"]
        for given in (f'"x", W/{etag}', "*", etag):
            unchanged = api.http.get(f"{path}.wav", headers={"If-None-Match": given})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert api.http.get(f"{path}.wav", headers={"If-None-Match": '"x"'}).status_code == 200

    await asyncio.to_thread(checks)


async def test_what_the_bare_path_gives_is_decided_by_accept(
    server: OwnServer, api: Api, phone: RecordingClient
) -> None:
    made = await a_recording(phone, server, api)

    def checks() -> None:
        path = f"{api.account}/Recordings/{made['sid']}"
        for accept, wanted in (
            ("application/json", "application/json"),
            ("application/json;q=0.9, audio/*", "application/json"),
            ("audio/*, application/json", "audio/x-wav"),
            ("*/*", "audio/x-wav"),
            ("", "audio/x-wav"),
        ):
            answer = api.http.get(path, headers={"Accept": accept})
            assert (answer.status_code, answer.headers["content-type"]) == (200, wanted)
        for prefix in ("", "/api/laml", "/api/laml/api/laml"):
            shown = api.http.get(f"{prefix}{path}.json").json()
            conforms(server, "Recording", shown)
            assert shown["uri"] == f"{prefix[:9]}{path}.json"

    await asyncio.to_thread(checks)


def test_conferences_have_no_recordings_yet(server: OwnServer, api: Api) -> None:
    sid = "CF" + "d" * 32
    path = f"/Conferences/{sid}/Recordings"
    page = api.get(f"{path}.json", **{"DateCreated>": "2026-01-01", "PageSize": "3"})
    conforms(server, "ConferenceRecordingListResponse", page)
    assert page["recordings"] == []
    assert page["next_page_uri"] is None
    assert page["page_size"] == 3
    refused(server, api.http.get(f"{api.account}{path}.json?DateCreated=soon"), 10000)
    refused(server, api.http.get(f"{api.account}{path}.json?PageSize=0"), 54454)
    refused(server, api.http.get(f"{api.account}/Conferences/x/Recordings.json"), 20404, 404)
    for one in (f"{path}/RE{'e' * 32}.json", f"{path}/Twilio.CURRENT.json"):
        refused(server, api.http.get(f"{api.account}{one}"), 20404, 404)
        refused(server, api.http.delete(f"{api.account}{one}"), 20404, 404)
        refused(server, api.post(one, Status="paused", PauseBehavior="skip"), 20404, 404)
        refused(server, api.post(one), 10000)
        refused(server, api.post(one, Status="paused", PauseBehavior="no"), 10000)
    refused(server, api.post(f"{path}.json"), 20004, 405)
    assert api.get("/Recordings.json", ConferenceSid=sid)["recordings"] == []


def test_a_wrong_method_is_told_every_right_one(server: OwnServer, api: Api) -> None:
    for path, allowed in (
        ("/Calls", "GET, POST"),
        ("/Recordings", "GET"),
        (f"/Calls/CA{'a' * 32}", "DELETE, GET, POST"),
        (f"/Calls/CA{'a' * 32}/Recordings", "GET, POST"),
        (f"/Calls/CA{'a' * 32}/Recordings/RE{'a' * 32}", "DELETE, GET, POST"),
        (f"/Recordings/RE{'a' * 32}", "DELETE, GET, HEAD"),
        (f"/Conferences/CF{'a' * 32}/Recordings/RE{'a' * 32}", "DELETE, GET, POST"),
    ):
        answer = api.http.put(f"{api.account}{path}.json")
        refused(server, answer, 20004, 405)
        assert answer.headers["allow"] == allowed


async def test_each_status_and_each_event(
    server: OwnServer, api: Api, phone: RecordingClient
) -> None:
    """Contract §7: in-progress, paused, in-progress, stopped, completed; and absent."""
    async with WebhookReceiver() as receiver:
        asked = {
            "RecordingStatusCallback": receiver.url,
            "RecordingStatusCallbackEvent": "in-progress completed absent",
        }
        call, shown = await a_call(phone, server, api)
        started = await asyncio.to_thread(api.start, shown["sid"], **asked)
        path = f"/Calls/{shown['sid']}/Recordings/{started['sid']}.json"
        seen = [started["status"]]
        for status in ("paused", "in-progress", "paused", "stopped"):
            await asyncio.sleep(0.2)
            answer = await asyncio.to_thread(api.post, path, Status=status)
            conforms(server, "Recording", answer.json())
            seen.append(answer.json()["status"])
        finished = await asyncio.to_thread(api.finished, started["sid"])
        conforms(server, "Recording", finished)
        seen.append(finished["status"])
        assert seen == ["in-progress", "paused", "in-progress", "paused", "stopped", "completed"]
        await phone.hang_up(call)
        # Nobody says anything: nothing is left once the silence is trimmed.
        quiet = [parse_source("silence")] * 2
        call = await phone.call(server.sip_uri, quiet, caller=CALLER, callee=CALLEE)
        (shown,) = await asyncio.to_thread(api.wait_live)
        silent = await asyncio.to_thread(api.start, shown["sid"], Trim="trim-silence", **asked)
        await asyncio.sleep(0.4)
        await phone.hang_up(call)
        absent = await asyncio.to_thread(api.finished, silent["sid"])
        conforms(server, "Recording", absent)
        assert (absent["status"], str(absent["error_code"])) == ("absent", "16102")
        await receiver.wait_for("absent")
        events = {
            sid: [
                one.fields["RecordingStatus"]
                for one in receiver.received
                if one.fields["RecordingSid"] == sid
            ]
            for sid in (started["sid"], silent["sid"])
        }
        assert events == {
            started["sid"]: ["in-progress", "completed"],
            silent["sid"]: ["in-progress", "absent"],
        }


async def test_every_filter_and_date_form(
    server: OwnServer, api: Api, phone: RecordingClient
) -> None:
    made = [await a_recording(phone, server, api) for _ in range(3)]

    def listed(**query: str) -> list[str]:
        return [one["sid"] for one in api.get("/Recordings.json", **query)["recordings"]]

    def checks() -> None:
        sids = [one["sid"] for one in reversed(made)]
        assert listed()[:3] == sids
        assert listed(CallSid=made[1]["call_sid"]) == [made[1]["sid"]]
        assert listed(CallSid="nonsense") == []
        day = made[0]["date_created"]
        for today, tomorrow in (
            (day, "Fri, 01 Jan 2100 00:00:00 +0000"),
            (in_form(day, "%Y-%m-%d"), "2100-01-01"),
            (in_form(day, "%Y-%m-%dT%H:%M:%SZ"), "2100-01-01T00:00:00Z"),
            (in_form(day, "%Y-%m-%dT%H:%M:%S+00:00"), "2100-01-01T00:00:00.5+00:00"),
        ):
            assert listed(DateCreated=today)[:3] == sids
            assert listed(**{"DateCreated>": today})[:3] == sids
            assert listed(**{"DateCreated<": tomorrow})[:3] == sids
            assert listed(**{"DateCreated<": today})[:3] != sids
            assert listed(**{"DateCreated>": tomorrow}) == []
            assert listed(DateCreated=tomorrow) == []
            both = {"DateCreated>": today, "DateCreated<": tomorrow}
            assert listed(**both, CallSid=made[2]["call_sid"]) == [made[2]["sid"]]
        answer = api.http.get(f"{api.account}/Recordings.json?DateCreated>=2026-01-01&PageSize=1")
        page = answer.json()
        walked = [page["recordings"][0]["sid"]]
        while page["next_page_uri"] is not None:
            assert "DateCreated%3E=2026-01-01" in page["next_page_uri"]
            page = api.http.get(page["next_page_uri"]).json()
            conforms(server, "RecordingListResponse", page)
            walked.append(page["recordings"][0]["sid"])
        assert walked == listed()
        back = [page["recordings"][0]["sid"]]
        while page["previous_page_uri"] is not None:
            page = api.http.get(page["previous_page_uri"]).json()
            back.append(page["recordings"][0]["sid"])
        assert back == walked[::-1]
        calls = [one["sid"] for one in api.get("/Calls.json", Status="completed")["calls"]]
        assert calls[:3] == [one["call_sid"] for one in reversed(made)]
        for query, some in (
            ({"To": "+15550199", "From": "+15550100"}, True),
            ({"To": "+15550100"}, False),
            ({"Status": "ringing"}, False),
            ({"ParentCallSid": made[0]["call_sid"]}, False),
            ({"StartTime": in_form(day, "%Y-%m-%d")}, True),
            ({"StartTime>": "2100-01-01"}, False),
            ({"StartTime<": "2100-01-01", "EndTime>": "2026-01-01T00:00:00Z"}, True),
            ({"EndTime<": "2026-01-01"}, False),
            ({"EndTime": "2026-01-01"}, False),
        ):
            page = api.get("/Calls.json", **query)
            conforms(server, "CallListResponse", page)
            assert bool(page["calls"]) == some, query

    await asyncio.to_thread(checks)


def in_form(rfc2822: str, form: str) -> str:
    return parsedate_to_datetime(rfc2822).strftime(form)
