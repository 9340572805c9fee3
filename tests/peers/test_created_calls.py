"""Calls that programs make with the vendors' SDKs, to SIPp and baresip, and through Kamailio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api, Json
from tests.journeys.voice.hearing import tone_wav
from tests.journeys.voice.program import Program
from tests.peers.agents import Agent
from tests.peers.baresip import Baresip
from tests.peers.kamailio import run_kamailio
from tests.peers.scenarios import (
    answer,
    callee,
    callee_request,
    expect,
    give_up,
    pause,
    respond,
    respond_ok,
    take,
    take_invite,
)
from tests.ports import free_port_pair
from tests.sdk.sdks import SDKS, Driver, Raised, Sdk
from tests.signalling.certificates import Authority

pytestmark = pytest.mark.peer

TOKEN = "a-token-of-tests"
HZ = 880
LIVE = ("queued", "ringing", "in-progress")
EVENTS = ["initiated", "ringing", "answered", "completed"]
_CHALLENGE = 'WWW-Authenticate: Digest realm="office", nonce="a8f1", algorithm=MD5, qop="auth"\n'


@dataclass
class Maker:
    """An SDK, the server it speaks to, and the program that is asked and told."""

    sdk: Sdk
    driver: Driver
    api: Api
    program: Program
    server: OwnServer
    folder: Path

    async def ask(self, do: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(self.driver, do, **arguments)

    async def create(self, to: str, **more: Any) -> str:
        """The SID of a created call, which tells of everything."""
        made = await self.ask(
            "create_call",
            to=to,
            from_="+15550100",
            url=self.program.url("/document"),
            status_callback=self.program.url("/status"),
            status_callback_event=EVENTS,
            **more,
        )
        assert made["status"] == "queued"
        return str(made["sid"])

    async def over(self, sid: str, status: str) -> list[str]:
        """What was told of a call until it ended so: CallStatus of each webhook."""
        await asyncio.to_thread(
            self.program.wait,
            "/status",
            lambda told: told["CallSid"] == sid and told["CallStatus"] == status,
        )
        assert (await self.ask("call", call_sid=sid))["status"] == status
        told = [one.fields for one in self.program.all("/status")]
        return [one["CallStatus"] for one in told if one["CallSid"] == sid]

    async def recording(self, sid: str) -> tuple[Json, Path]:
        """The one recording of a call, finished."""
        page = await asyncio.to_thread(self.api.get, "/Recordings.json", CallSid=sid)
        (made,) = page["recordings"]
        finished = await asyncio.to_thread(self.api.finished, made["sid"])
        assert finished["status"] == "completed", finished
        return finished, await asyncio.to_thread(self.api.download, made["sid"], self.folder)


@pytest.fixture(scope="module", params=["twilio-python", "signalwire-python"])
def made(
    request: pytest.FixtureRequest, sipp: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Maker]:
    sdk = SDKS[request.param]
    if sdk.missing:
        pytest.skip(sdk.missing)
    folder = tmp_path_factory.mktemp("made")
    sip = free_port_pair()
    pem = Authority(folder).issue(("127.0.0.1",))
    with run_kamailio(folder / "kamailio", sip, pem) as kamailio, Program(TOKEN) as program:
        config = folder / "callreel.toml"
        config.write_text(
            f'[[trunks]]\nname = "carrier"\nuri = "sip:127.0.0.1:{kamailio.port}"\n'
            f'[[accounts]]\nvoice_url = "{program.url("/document")}"\n'
        )
        options = ("--config", str(config), "--sip", f"127.0.0.1:{sip}")
        with OwnServer(folder, sdk.account_sid, TOKEN, options) as server:
            driver = Driver(sdk, server.http_url, TOKEN, folder)
            api = Api(server)
            yield Maker(sdk, driver, api, program, server, folder)
            driver.close()
            api.http.close()
        assert "Traceback" not in server.log, server.log


@pytest.fixture
async def maker(made: Maker) -> Maker:
    made.program.asked.clear()
    made.program.pages.clear()
    made.program.pages["/document"] = "<Response><Pause length='2'/></Response>"
    return made


@pytest.fixture
async def agents(tmp_path: Path) -> AsyncIterator[list[Agent]]:
    agents: list[Agent] = []
    yield agents
    for agent in agents:
        await agent.close()


async def end(agents: list[Agent], folder: Path, *pieces: str) -> Agent:
    agent = await Agent.start(folder / f"sipp-{len(agents)}", callee(*pieces), hz=HZ)
    agents.append(agent)
    return agent


def uri(agent: Agent, user: str = "peer") -> str:
    return f"sip:{user}@127.0.0.1:{agent.port}"


async def test_answered_by_sipp_and_recorded_from_the_answer_on(
    maker: Maker, agents: list[Agent], tmp_path: Path
) -> None:
    maker.program.pages["/document"] = await maker.ask(
        "voicemail", action=maker.program.url("/thanks"), recorded=maker.program.url("/recorded")
    )
    agent = await end(
        agents,
        tmp_path,
        take_invite(),
        respond(180, "Ringing"),
        pause(300),
        *answer(),
        pause(2500),
        callee_request("BYE", 1),
        expect(200),
    )
    sid = await maker.create(uri(agent), record=True, recording_channels="dual")
    await agent.succeed()
    assert await maker.over(sid, "completed") == [
        *("initiated", "ringing", "in-progress", "completed")
    ]
    page = await asyncio.to_thread(maker.api.get, "/Recordings.json", CallSid=sid)
    sources = {one["source"].lower(): one for one in page["recordings"]}
    assert set(sources) == {"outboundapi", "recordverb"}
    for source, channels in (("outboundapi", "2"), ("recordverb", "1")):
        recording = sources[source]
        finished = await asyncio.to_thread(maker.api.finished, recording["sid"])
        assert str(finished["channels"]) == channels
        assert finished["status"] == "completed"
        path = await asyncio.to_thread(maker.api.download, recording["sid"], tmp_path)
        rate_hz, samples = read_wav(path)
        ((start, stop),) = tone_spans(samples[:, 0], rate_hz, HZ)
        assert start < 0.3, "trimmed to where somebody speaks"
        assert stop - start > 0.5
    (thanks,) = await asyncio.to_thread(maker.program.wait, "/thanks")
    assert thanks["Digits"] == "hangup"


async def test_baresip_answers_and_the_call_is_redirected(maker: Maker, tmp_path: Path) -> None:
    pages = maker.program.pages
    pages["/document"] = await maker.ask("menu", action="/chosen")
    pages["/elsewhere"] = "<Response><Play>/tone.wav</Play></Response>"
    pages["/tone.wav"] = tone_wav(1300, seconds=1.0)
    phone = await Baresip.start(tmp_path / "baresip", hz=HZ, answers=True)
    try:
        sid = await maker.create(f"sip:peer@127.0.0.1:{phone.port}")
        await phone.event("CALL_ESTABLISHED")
        await asyncio.to_thread(
            maker.program.wait, "/status", lambda told: told["CallStatus"] == "in-progress"
        )
        await maker.ask("redirect_call", call_sid=sid, url=maker.program.url("/elsewhere"))
        told = await maker.over(sid, "completed")
        assert told[-2:] == ["in-progress", "completed"]
        with pytest.raises(Raised) as refused:  # it is dead
            await maker.ask("redirect_call", call_sid=sid, url=maker.program.url("/elsewhere"))
        assert refused.value.code == 21220
    finally:
        await phone.close()
    assert phone.heard_s(1300) > 0.8


async def test_busy_declined_and_not_there(
    maker: Maker, agents: list[Agent], tmp_path: Path
) -> None:
    for code, phrase, status in (
        (486, "Busy Here", "busy"),
        (600, "Busy Everywhere", "busy"),
        (404, "Not Found", "failed"),
        (480, "Temporarily Unavailable", "no-answer"),
    ):
        agent = await end(agents, tmp_path, take_invite(), respond(code, phrase), take("ACK"))
        sid = await maker.create(uri(agent))
        await agent.succeed()
        assert (await maker.over(sid, status))[-1] == status
        told = [one.fields for one in maker.program.all("/status")]
        (last,) = [one for one in told if (one["CallSid"], one["CallStatus"]) == (sid, status)]
        assert last["SipResultCode"] == str(code)


async def test_not_answered_in_time_and_taken_back(
    maker: Maker, agents: list[Agent], tmp_path: Path
) -> None:
    rings = (take_invite(), respond(180, "Ringing"), *give_up())
    slow, patient = await end(agents, tmp_path, *rings), await end(agents, tmp_path, *rings)
    late = await maker.create(uri(slow), timeout=1)
    canceled = await maker.create(uri(patient))
    await asyncio.to_thread(
        maker.program.wait,
        "/status",
        lambda told: (told["CallSid"], told["CallStatus"]) == (canceled, "ringing"),
    )
    ended = await maker.ask("update_call", call_sid=canceled, status="canceled")
    assert ended["status"] == "canceled"
    assert await maker.over(late, "no-answer") == ["initiated", "ringing", "no-answer"]
    assert await maker.over(canceled, "canceled") == ["initiated", "ringing", "canceled"]
    await asyncio.gather(slow.succeed(), patient.succeed())


async def test_whoever_asks_for_credentials_is_given_them(
    maker: Maker, agents: list[Agent], tmp_path: Path
) -> None:
    agent = await end(
        agents,
        tmp_path,
        take_invite(),
        respond(401, "Unauthorized", headers=_CHALLENGE),
        take("ACK"),
        take("INVITE", containing="Authorization: Digest .*username=.*ann.*"),
        *answer(),
        take("BYE"),
        respond_ok(),
    )
    maker.program.pages["/document"] = "<Response><Hangup/></Response>"
    sid = await maker.create(uri(agent), sip_auth_username="ann", sip_auth_password="open,Sesame")
    await agent.succeed()
    await maker.over(sid, "completed")


async def test_a_number_goes_through_the_trunk(
    maker: Maker, agents: list[Agent], tmp_path: Path
) -> None:
    agent = await end(agents, tmp_path, take_invite(hops=2), *answer(), take("BYE"), respond_ok())
    maker.program.pages["/document"] = "<Response><Pause length='1'/></Response>"
    sid = await maker.create(str(agent.port), caller_id="+15550177", record=True)
    await agent.succeed()
    await maker.over(sid, "completed")
    assert "Record-Route" in agent.messages
    assert "sip:+15550177@" in agent.messages
    recording, path = await maker.recording(sid)
    assert recording["source"].lower() == "outboundapi"
    rate_hz, samples = read_wav(path)
    assert tone_spans(samples[:, 0], rate_hz, HZ)


async def test_bridged_with_a_second_phone_and_recorded(
    maker: Maker, agents: list[Agent], tmp_path: Path
) -> None:
    """The vendor's own builder says whom to dial; whoever hangs up first ends it."""
    first = await end(agents, tmp_path, take_invite(), *answer(), take("BYE"), respond_ok())
    second = await Agent.start(
        tmp_path / "second",
        callee(
            take_invite(),
            respond(180, "Ringing"),
            pause(300),
            *answer(),
            pause(1200),
            callee_request("BYE", 1),
            expect(200),
        ),
        hz=1600,
    )
    agents.append(second)
    maker.program.pages["/document"] = await maker.ask(
        "bridged", sip_uri=uri(second), action=maker.program.url("/after")
    )
    maker.program.pages["/after"] = "<Response><Hangup/></Response>"
    sid = await maker.create(uri(first))
    await asyncio.gather(first.succeed(), second.succeed())
    await maker.over(sid, "completed")
    recording, path = await maker.recording(sid)
    assert recording["source"] == "DialVerb"
    rate_hz, samples = read_wav(path)
    for channel, there, elsewhere in ((0, HZ, 1600), (1, 1600, HZ)):
        assert tone_spans(samples[:, channel], rate_hz, there)
        assert not tone_spans(samples[:, channel], rate_hz, elsewhere)
    (after,) = maker.program.wait("/after")
    assert after["DialCallStatus"] == "completed"
    assert after["RecordingSid"] == recording["sid"]
