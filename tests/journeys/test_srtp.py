"""SRTP through the real server: phones that speak it, and phones that do not, recorded."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callreel.base.errors import PeerError
from callreel.demo.own_server import OwnServer
from callreel.phone.call import CallFailed, PhoneCall
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sender import RtpSender
from callreel.phone.softphone import Phone
from callreel.phone.sources import encode_source, parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from callreel.wire.rtp import Packetizer
from callreel.wire.sdes import Suite
from tests.journeys.api import Api
from tests.journeys.test_ends import ended_well, processes
from tests.phone.phones import Phones, spans, talk
from tests.ports import free_port_pair

SID = "AC" + "b5" * 16
CM = (Suite.AES_CM_128_HMAC_SHA1_80,)
GCM = (Suite.AEAD_AES_256_GCM,)


class House:
    """A server whose trunk ``safe`` wants SRTP and whose trunk ``plain`` does not."""

    def __init__(self, server: OwnServer, ports: list[int], folder: Path) -> None:
        self.server = server
        self.api = Api(server)
        self.phones = Phones()
        self.ports = ports
        self.folder = folder

    async def caller(self, suites: tuple[Suite, ...] = ()) -> Phone:
        return await self.phones.make(talk("tone:440", self.folder / "caller.wav", suites=suites))

    async def callee(self, suites: tuple[Suite, ...] = (), *, safe: bool = False) -> Phone:
        return await self.phones.make(
            talk("tone:880", self.folder / "callee.wav", suites=suites),
            port=self.ports[safe],
            takes_calls=True,
        )

    async def connect(
        self, caller: Phone, callee: Phone, dialled: str
    ) -> tuple[PhoneCall, PhoneCall]:
        uri = f"sip:{dialled}@{self.server.sip_uri.removeprefix('sip:')}"
        dialling = asyncio.create_task(caller.call(uri))
        theirs = await asyncio.wait_for(callee.next_call(), 5)
        callee.ring(theirs)
        callee.answer(theirs)
        return await asyncio.wait_for(dialling, 5), theirs

    async def recording_of(self, dialled: str) -> str:
        def find() -> str:
            (parent,) = [
                one
                for one in self.api.get("/Calls.json", To=dialled)["calls"]
                if not one["parent_call_sid"]
            ]
            (one,) = self.api.get("/Recordings.json", CallSid=parent["sid"])["recordings"]
            return str(one["sid"])

        return await asyncio.to_thread(find)

    async def heard_in(self, dialled: str, *, clean: bool = True) -> list[set[int]]:
        sid = await self.recording_of(dialled)
        finished = await asyncio.to_thread(self.api.finished, sid)
        assert finished["status"] == "completed"
        report = await asyncio.to_thread(self.api.integrity, sid)
        assert report["clean"] is clean, report["problems"]
        rate_hz, samples = read_wav(await asyncio.to_thread(self.api.download, sid, self.folder))
        return [
            {hz for hz in (440, 880) if tone_spans(samples[:, channel], rate_hz, hz)}
            for channel in range(2)
        ]


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return [free_port_pair() for _ in range(2)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ports: list[int]) -> Iterator[OwnServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "callreel.toml").write_text(
        f"""
[[trunks]]
name = "plain"
uri = "sip:127.0.0.1:{ports[0]}"

[[trunks]]
name = "safe"
uri = "sip:127.0.0.1:{ports[1]}"
srtp = "required"

[[routes]]
prefix = "1"
to = ["trunk:plain"]
record = "dual"

[[routes]]
prefix = "2"
to = ["trunk:safe"]
record = "dual"
"""
    )
    options = ("--config", str(folder / "callreel.toml"))
    with OwnServer(folder, SID, "a-token-of-tests", options=options) as server:
        yield server
    assert "Traceback" not in server.log
    assert "inline:" not in server.log, "no key is ever logged"


@pytest.fixture
async def house(server: OwnServer, ports: list[int], tmp_path: Path) -> AsyncIterator[House]:
    house = House(server, ports, tmp_path)
    yield house
    await house.phones.close()
    house.api.http.close()


def journals(server: OwnServer) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in server.data.glob("journals/*/*.seg")}


@pytest.mark.parametrize(
    ("dialled", "ours", "theirs"),
    [
        ("101", CM, ()),  # undone on the way
        ("102", GCM, ()),
        ("203", (), CM),  # done on the way
        ("204", CM, CM),  # passed through
        ("205", GCM, (*GCM, *CM)),
        ("206", GCM, CM),  # no suite in common: undone and done again
    ],
)
async def test_each_hears_the_other_and_it_is_recorded(
    house: House,
    tmp_path: Path,
    dialled: str,
    ours: tuple[Suite, ...],
    theirs: tuple[Suite, ...],
) -> None:
    caller = await house.caller(ours)
    callee = await house.callee(theirs, safe=dialled.startswith("2"))
    one, other = await house.connect(caller, callee, dialled)
    assert one.negotiation is not None
    assert other.negotiation is not None
    told = one.negotiation.agreed, other.negotiation.agreed
    assert [agreed is not None and agreed.srtp is not None for agreed in told] == [
        bool(ours),
        bool(theirs),
    ]
    await asyncio.sleep(1.0)
    await caller.hang_up(one)
    await asyncio.wait_for(other.ended.wait(), 5)
    for name, heard in (("caller", 880), ("callee", 440)):
        ((start, end),) = spans(tmp_path / f"{name}.wav", heard)
        assert end - start > 0.6
    assert await house.heard_in(dialled) == [{440}, {880}]
    report = await asyncio.to_thread(house.api.integrity, await house.recording_of(dialled))
    assert [one["srtp"] for one in report["streams"]] == [bool(ours), bool(theirs)]


async def test_keys_pass_through_where_both_can(house: House) -> None:
    caller, callee = await house.caller(CM), await house.callee(CM, safe=True)
    one, other = await house.connect(caller, callee, "210")
    assert one.negotiation is not None
    assert other.negotiation is not None
    ours, theirs = one.negotiation.agreed, other.negotiation.agreed
    assert ours is not None
    assert theirs is not None
    assert ours.srtp is not None
    assert theirs.srtp is not None
    assert ours.srtp.send == theirs.srtp.receive
    assert ours.srtp.receive == theirs.srtp.send
    await caller.hang_up(one)
    await asyncio.wait_for(other.ended.wait(), 5)


async def test_a_hold_and_back_goes_on_with_the_same_keys(house: House, tmp_path: Path) -> None:
    for dialled, theirs in (("120", ()), ("220", CM)):
        caller = await house.caller(CM)
        callee = await house.callee(theirs, safe=bool(theirs))
        one, other = await house.connect(caller, callee, dialled)
        await asyncio.sleep(0.5)
        await caller.hold(one)
        await asyncio.sleep(0.3)
        await caller.resume(one)
        await asyncio.sleep(0.5)
        await callee.hang_up(other)
        await asyncio.wait_for(one.ended.wait(), 5)
        assert len(spans(tmp_path / "callee.wav", 440)) == 2
        assert len(spans(tmp_path / "caller.wav", 880)) >= 1
        assert await house.heard_in(dialled) == [{440}, {880}]
        await house.phones.close()
        house.phones.all.clear()


async def test_a_transfer_to_somebody_without_srtp(house: House, tmp_path: Path) -> None:
    """Keys were passed through; the new party has none, so the caller is given one of ours."""
    caller, callee = await house.caller(CM), await house.callee(CM, safe=True)
    third = await house.phones.make(
        talk("tone:1600", tmp_path / "third.wav"), port=house.ports[0], takes_calls=True
    )
    one, other = await house.connect(caller, callee, "270")
    assert one.negotiation is not None
    before = one.negotiation.agreed
    await asyncio.sleep(0.6)
    assert other.dialog is not None
    answer = await callee._agent.request_in_dialog(
        other.dialog, "REFER", headers=[("Refer-To", "<sip:170@127.0.0.1>")]
    )
    assert answer.code == 202
    new = await asyncio.wait_for(third.next_call(), 5)
    third.answer(new)
    await asyncio.wait_for(other.ended.wait(), 5)
    await asyncio.sleep(0.8)
    await caller.hang_up(one)
    await asyncio.wait_for(new.ended.wait(), 5)
    after = one.negotiation.agreed
    assert before is not None
    assert after is not None
    assert before.srtp is not None
    assert after.srtp is not None
    assert after.srtp.receive != before.srtp.receive
    assert spans(tmp_path / "caller.wav", 880)
    assert spans(tmp_path / "caller.wav", 1600)
    assert spans(tmp_path / "third.wav", 440)
    assert await house.heard_in("270") == [{440}, {880}]


async def test_what_is_on_disk_tells_neither_what_was_said_nor_the_keys(
    house: House, server: OwnServer
) -> None:
    caller, callee = await house.caller(CM), await house.callee()
    one, other = await house.connect(caller, callee, "130")
    await asyncio.sleep(1.2)
    assert one.negotiation is not None
    agreed = one.negotiation.agreed
    assert agreed is not None
    assert agreed.srtp is not None
    kept = b"".join(journals(server).values())
    assert kept.count(b'"sealed"') >= 1
    database = sqlite3.connect(server.data / "callreel.db")
    sessions = "".join(state for (state,) in database.execute("SELECT state FROM sessions"))
    database.close()
    assert sessions
    assert "crypto" not in sessions
    every = [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
    for key in (agreed.srtp.send, agreed.srtp.receive):
        spellings = (key.master, key.master.hex().encode(), base64.b64encode(key.master))
        for spelling in spellings:
            assert not any(spelling in file for file in every)
    await caller.hang_up(one)
    await asyncio.wait_for(other.ended.wait(), 5)
    assert await house.heard_in("130") == [{440}, {880}]


async def test_a_restarted_worker_goes_on(house: House, server: OwnServer, tmp_path: Path) -> None:
    caller, callee = await house.caller(CM), await house.callee(GCM, safe=True)
    one, other = await house.connect(caller, callee, "240")
    await asyncio.sleep(0.6)
    for pid in processes(server, "callreel.capture.worker"):
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(2.5)
    await caller.hang_up(one)
    await asyncio.wait_for(other.ended.wait(), 5)
    for name, heard in (("caller", 880), ("callee", 440)):
        assert spans(tmp_path / f"{name}.wav", heard)[-1][1] > 2.5
    assert await house.heard_in("240", clean=False) == [{440}, {880}]
    report = await asyncio.to_thread(house.api.integrity, await house.recording_of("240"))
    assert [one["packets"]["unauthentic"] for one in report["streams"]] == [0, 0]


async def test_a_trunk_that_wants_srtp_gets_nothing_else(house: House) -> None:
    caller, callee = await house.caller(), await house.callee(safe=True)
    uri = f"sip:250@{house.server.sip_uri.removeprefix('sip:')}"
    dialling = asyncio.create_task(caller.call(uri))
    theirs = await asyncio.wait_for(callee.next_call(), 5)
    with pytest.raises(PeerError):
        callee.answer(theirs)  # it speaks plain RTP alone, and was offered none
    with pytest.raises(CallFailed) as failure:
        await asyncio.wait_for(dialling, 5)
    assert failure.value.status == 488


async def test_a_wrong_key_is_not_heard_and_reported(house: House, tmp_path: Path) -> None:
    caller, callee = await house.caller(CM), await house.callee()
    one, other = await house.connect(caller, callee, "160")
    await asyncio.sleep(0.5)
    assert one.media is not None
    protector = one.media._protector
    assert protector is not None
    key = replace(protector.key, master=bytes(30))
    one.media._protector = type(protector)(key)
    await asyncio.sleep(0.7)
    await caller.hang_up(one)
    await asyncio.wait_for(other.ended.wait(), 5)
    ((_, end),) = spans(tmp_path / "callee.wav", 440)
    assert end < 0.7
    assert await house.heard_in("160", clean=False) == [{440}, {880}]
    report = await asyncio.to_thread(house.api.integrity, await house.recording_of("160"))
    inbound = report["streams"][0]["packets"]
    assert inbound["unauthentic"] > 20
    assert any("failed authentication" in problem for problem in report["problems"])


async def siprec(client: RecordingClient, server: OwnServer, suite: Suite | None) -> ClientCall:
    return await client.call(
        server.sip_uri,
        [parse_source("tone:440"), parse_source("tone:880")],
        caller=Party("sip:+15550100@pbx.example.com", "Caller"),
        callee=Party("sip:+15550199@pbx.example.com", "Callee"),
        suite=suite,
    )


@pytest.fixture
async def client() -> AsyncIterator[RecordingClient]:
    made = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await made.start()
    yield made
    await made.close()


@pytest.mark.parametrize("suite", list(Suite))
async def test_a_recording_session_over_srtp(
    house: House, server: OwnServer, client: RecordingClient, tmp_path: Path, suite: Suite
) -> None:
    call = await siprec(client, server, suite)
    (shown,) = await asyncio.to_thread(house.api.wait_live)
    started = await asyncio.to_thread(house.api.start, shown["sid"], RecordingChannels="dual")
    await asyncio.sleep(0.6)
    await client.hold(call, on=True)
    await asyncio.sleep(0.2)
    await client.hold(call, on=False)
    await asyncio.sleep(0.4)
    # Somebody at the very same address and port, without the key.
    sender = call.streams[0]
    assert isinstance(sender, RtpSender)
    assert sender.remote is not None
    stranger = Packetizer(ssrc=7, payload_type=0, sequence=1, timestamp=1)
    shouting = encode_source(parse_source("tone:1500"), "PCMU")
    for number in range(50):
        injected = stranger.packet(shouting.frame(number), ticks=160)
        sender._socket.sendto(injected, sender.remote)
        sender._socket.sendto(injected[:2] + bytes(2) + injected[4:], sender.remote)
    await asyncio.sleep(0.3)
    await client.hang_up(call)
    report = await ended_well(house.api, started["sid"], tmp_path, seconds=1.0)
    one, other = report["streams"]
    assert (one["packets"]["unauthentic"], other["packets"]["unauthentic"]) == (100, 0)
    assert (one["packets"]["lost"], other["packets"]["lost"]) == (0, 0)
    rate_hz, samples = read_wav(next(tmp_path.glob("*.wav")))
    assert tone_spans(samples[:, 0], rate_hz, 1500) == []
