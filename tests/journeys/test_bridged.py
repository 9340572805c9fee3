"""Calls that are passed on and recorded: our phones on both sides of the real server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.call import CallFailed, PhoneCall
from callreel.phone.softphone import Phone
from callreel.testing.ears import read_wav, tone_spans
from callreel.wire.sip.flow import Transport
from tests.journeys.api import Api, Json
from tests.journeys.test_ends import processes
from tests.phone.phones import Phones, spans, talk
from tests.ports import free_port_pair

SID = "AC" + "b2" * 16


@dataclass
class House:
    """A server, its API, and phones that are called by the user part of what is dialled."""

    server: OwnServer
    api: Api
    phones: Phones
    desks: dict[str, Phone]

    def uri(self, dialled: str) -> str:
        return f"sip:{dialled}@{self.server.sip_uri.removeprefix('sip:')}"

    async def shown(self, **query: str) -> list[Json]:
        page = await asyncio.to_thread(lambda: self.api.get("/Calls.json", **query))
        found: list[Json] = page["calls"]
        return found

    async def parent(self, dialled: str) -> Json:
        """The inbound call to what was dialled."""
        return next(one for one in await self.shown(To=dialled) if not one["parent_call_sid"])

    async def recordings_of(self, sid: str) -> list[Json]:
        page = await asyncio.to_thread(self.api.get, "/Recordings.json", CallSid=sid)
        found: list[Json] = page["recordings"]
        return found

    async def until_shown(self, status: str, **query: str) -> Json:
        async with asyncio.timeout(10):
            while True:
                for one in await self.shown(**query):
                    if one["status"] == status:
                        return one
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return [free_port_pair() for _ in range(3)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ports: list[int]) -> Iterator[OwnServer]:
    folder = tmp_path_factory.mktemp("server")
    one, two, three = (f'"sip:{{number}}@127.0.0.1:{port}"' for port in ports)
    (folder / "callreel.toml").write_text(
        f"""
[[routes]]
prefix = "1"
to = [{one}]

[[routes]]
prefix = "2"
to = [{one}, {two}]
ring_seconds = 1

[[routes]]
prefix = "3"
to = [{one}, {two}]
ring = "at-once"

[[routes]]
prefix = "4"
to = [{one}]
record = "dual"

[[routes]]
prefix = "5"
to = [{three}]
"""
    )
    options = ("--config", str(folder / "callreel.toml"))
    with OwnServer(folder, SID, "a-token-of-tests", options=options) as server:
        yield server
    assert "Traceback" not in server.log


@pytest.fixture
async def house(server: OwnServer, ports: list[int], tmp_path: Path) -> AsyncIterator[House]:
    phones, api = Phones(), Api(server)
    try:
        desks = {
            name: await phones.make(
                talk(f"tone:{hz}", tmp_path / f"{name}.wav"), port=port, takes_calls=True
            )
            for name, hz, port in zip(
                ("one", "two", "three"), (880, 1600, 2500), ports, strict=True
            )
        }
        desks["caller"] = await phones.make(talk("tone:440", tmp_path / "caller.wav"))
        yield House(server, api, phones, desks)
    finally:
        await phones.close()
        api.http.close()


async def connected(house: House, dialled: str, desk: str = "one") -> tuple[PhoneCall, PhoneCall]:
    dialling = asyncio.create_task(house.desks["caller"].call(house.uri(dialled)))
    callee = house.desks[desk]
    theirs = await asyncio.wait_for(callee.next_call(), 5)
    callee.ring(theirs)
    callee.answer(theirs)
    return await asyncio.wait_for(dialling, 5), theirs


async def over(*calls: PhoneCall) -> None:
    for call in calls:
        await asyncio.wait_for(call.ended.wait(), 5)


async def recorded(house: House, sid: str, folder: Path) -> list[set[int]]:
    """Which tones are in each channel of a finished recording."""
    finished = await asyncio.to_thread(house.api.finished, sid)
    assert finished["status"] == "completed"
    report = await asyncio.to_thread(house.api.integrity, sid)
    assert report["clean"], report["problems"]
    rate_hz, samples = read_wav(await asyncio.to_thread(house.api.download, sid, folder))
    return [
        {hz for hz in (440, 880, 1600, 2500) if tone_spans(samples[:, channel], rate_hz, hz)}
        for channel in range(samples.shape[1])
    ]


@pytest.mark.parametrize("who_hangs_up", ["caller", "callee"])
async def test_each_hears_the_other_and_both_calls_can_be_recorded(
    house: House, tmp_path: Path, who_hangs_up: str
) -> None:
    ours, theirs = await connected(house, "100")
    parent = await house.parent("100")
    (child,) = await house.shown(ParentCallSid=parent["sid"])
    assert (child["status"], child["direction"]) == ("in-progress", "outbound-dial")
    on_parent = await asyncio.to_thread(
        lambda: house.api.start(parent["sid"], RecordingChannels="dual")
    )
    on_child = await asyncio.to_thread(
        lambda: house.api.start(child["sid"], RecordingChannels="dual")
    )
    inbound = await asyncio.to_thread(
        lambda: house.api.post(f"/Calls/{parent['sid']}/Recordings.json", RecordingTrack="inbound")
    )
    assert inbound.json()["sid"] == on_parent["sid"], "one recording by the API at a time"
    await asyncio.sleep(1.0)
    if who_hangs_up == "caller":
        await house.desks["caller"].hang_up(ours)
    else:
        await house.desks["one"].hang_up(theirs)
    await over(ours, theirs)
    assert await recorded(house, on_parent["sid"], tmp_path) == [{440}, {880}]
    assert await recorded(house, on_child["sid"], tmp_path) == [{880}, {440}]
    for name, heard in (("caller", 880), ("one", 440)):
        ((start, end),) = spans(tmp_path / f"{name}.wav", heard)
        assert start < 0.2
        assert end > 0.9
    for one in (parent, child):
        shown = await asyncio.to_thread(house.api.get, f"/Calls/{one['sid']}.json")
        assert shown["status"] == "completed"


async def test_a_route_that_records_begins_with_the_answer(house: House, tmp_path: Path) -> None:
    dialling = asyncio.create_task(house.desks["caller"].call(house.uri("400")))
    theirs = await asyncio.wait_for(house.desks["one"].next_call(), 5)
    house.desks["one"].ring(theirs, early=True)
    await asyncio.sleep(0.5)
    parent = await house.parent("400")
    assert parent["status"] == "ringing"
    assert await house.recordings_of(parent["sid"]) == [], "ringing is not recorded"
    house.desks["one"].answer(theirs)
    ours = await dialling
    await asyncio.sleep(0.8)
    await house.desks["caller"].hang_up(ours)
    await over(ours, theirs)
    (recording,) = await house.recordings_of(parent["sid"])
    assert recording["source"] == "Trunking"
    assert await recorded(house, recording["sid"], tmp_path) == [{440}, {880}]
    finished = await asyncio.to_thread(house.api.finished, recording["sid"])
    assert finished["duration"] == "1"


async def test_busy_not_answered_and_refused(house: House) -> None:
    async def refused(dialled: str, work: Callable[[PhoneCall], None]) -> int:
        dialling = asyncio.create_task(house.desks["caller"].call(house.uri(dialled)))
        work(await asyncio.wait_for(house.desks["one"].next_call(), 5))
        with pytest.raises(CallFailed) as failure:
            await asyncio.wait_for(dialling, 5)
        return failure.value.status

    one = house.desks["one"]
    for status, then in ((486, "busy"), (603, "failed"), (404, "failed")):
        assert await refused(f"1{status}", partial(one.refuse, status=status)) == status
        parent = await house.until_shown(then, To=f"1{status}")
        assert parent["status"] == then
    with pytest.raises(CallFailed) as failure:
        await house.desks["caller"].call(house.uri("999"))
    assert failure.value.status == 404


async def test_the_next_is_tried_and_of_all_at_once_the_first_wins(house: House) -> None:
    dialling = asyncio.create_task(house.desks["caller"].call(house.uri("200")))
    silent = await asyncio.wait_for(house.desks["one"].next_call(), 5)
    house.desks["one"].ring(silent)
    theirs = await asyncio.wait_for(house.desks["two"].next_call(), 5)
    await over(silent)
    assert silent.status == 487
    house.desks["two"].answer(theirs)
    ours = await asyncio.wait_for(dialling, 5)
    parent = await house.parent("200")
    children = await house.shown(ParentCallSid=parent["sid"])
    assert sorted(one["status"] for one in children) == ["in-progress", "no-answer"]
    await house.desks["two"].hang_up(theirs)
    await over(ours)

    dialling = asyncio.create_task(house.desks["caller"].call(house.uri("300")))
    first = await asyncio.wait_for(house.desks["one"].next_call(), 5)
    second = await asyncio.wait_for(house.desks["two"].next_call(), 5)
    for name, call in (("one", first), ("two", second)):
        house.desks[name].ring(call)
    house.desks["two"].answer(second)
    ours = await asyncio.wait_for(dialling, 5)
    await over(first)
    assert first.status == 487
    await house.desks["caller"].hang_up(ours)
    await over(second)
    await house.until_shown("completed", To="300")
    parent = await house.parent("300")
    children = await house.shown(ParentCallSid=parent["sid"])
    assert sorted(one["status"] for one in children) == ["canceled", "completed"]


async def test_cancelled_by_the_caller_and_ended_by_the_api(house: House) -> None:
    dialling = asyncio.create_task(house.desks["caller"].call(house.uri("150")))
    theirs = await asyncio.wait_for(house.desks["one"].next_call(), 5)
    house.desks["one"].ring(theirs)
    await asyncio.sleep(0.2)
    dialling.cancel()
    await over(theirs)
    assert theirs.status == 487
    parent = await house.until_shown("canceled", To="150")
    assert parent["duration"] == "0"

    ours, theirs = await connected(house, "151")
    parent = await house.until_shown("in-progress", To="151")
    ended = await asyncio.to_thread(
        lambda: house.api.post(f"/Calls/{parent['sid']}.json", Status="completed")
    )
    assert ended.json()["status"] == "completed"
    await over(ours, theirs)


async def test_redirected(house: House) -> None:
    dialling = asyncio.create_task(house.desks["caller"].call(house.uri("160")))
    moved = await asyncio.wait_for(house.desks["one"].next_call(), 5)
    house.desks["one"].redirect(moved, "sip:560@elsewhere.example.com")
    theirs = await asyncio.wait_for(house.desks["three"].next_call(), 5)
    house.desks["three"].answer(theirs)
    ours = await asyncio.wait_for(dialling, 5)
    await house.desks["caller"].hang_up(ours)
    await over(theirs)


async def test_hold_is_passed_on_and_off_again(house: House, tmp_path: Path) -> None:
    ours, theirs = await connected(house, "170")
    await asyncio.sleep(0.4)
    await house.desks["caller"].hold(ours)
    assert theirs.is_held
    await asyncio.sleep(0.5)
    await house.desks["caller"].resume(ours)
    assert not theirs.is_held
    await asyncio.sleep(0.4)
    await house.desks["one"].hold(theirs)
    assert ours.is_held
    await house.desks["one"].hang_up(theirs)
    await over(ours)
    heard = spans(tmp_path / "one.wav", 440)
    assert len(heard) == 2


async def test_a_blind_transfer_takes_the_recording_along(house: House, tmp_path: Path) -> None:
    ours, theirs = await connected(house, "480")
    parent = await house.parent("480")
    await asyncio.sleep(0.6)
    agent = house.desks["one"]._agent
    assert theirs.dialog is not None
    answer = await agent.request_in_dialog(
        theirs.dialog, "REFER", headers=[("Refer-To", "<sip:580@127.0.0.1>")]
    )
    assert answer.code == 202
    third = await asyncio.wait_for(house.desks["three"].next_call(), 5)
    house.desks["three"].answer(third)
    await over(theirs)
    await asyncio.sleep(0.8)
    await house.desks["caller"].hang_up(ours)
    await over(third)
    (recording,) = await house.recordings_of(parent["sid"])
    assert await recorded(house, recording["sid"], tmp_path) == [{440}, {880, 2500}]
    assert spans(tmp_path / "caller.wav", 2500)
    assert spans(tmp_path / "three.wav", 440)


async def test_a_killed_control_process_is_not_heard(house: House, tmp_path: Path) -> None:
    ours, theirs = await connected(house, "490")
    parent = await house.parent("490")
    await asyncio.sleep(0.5)
    (control,) = processes(house.server, "callreel.server ")
    os.kill(control, signal.SIGKILL)
    await asyncio.sleep(0.5)
    async with asyncio.timeout(20):
        while not await _is_up(house):
            await asyncio.sleep(0.1)
    await house.desks["caller"].hang_up(ours)
    await over(theirs)
    (recording,) = await house.recordings_of(parent["sid"])
    assert await recorded(house, recording["sid"], tmp_path) == [{440}, {880}]
    assert len(spans(tmp_path / "caller.wav", 880)) == 1, "no gap"


async def _is_up(house: House) -> bool:
    def ask() -> bool:
        try:
            return house.api.http.get("/healthz").status_code == 200
        except OSError:
            return False
        except Exception:
            return False

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_party_that_vanishes_ends_the_call_and_a_silent_one_does_not(
    tmp_path: Path, gone: bool
) -> None:
    phones = Phones()
    callee = await phones.make(talk("tone:880"), takes_calls=True)
    port = callee.addresses[Transport.TCP][1]
    (tmp_path / "callreel.toml").write_text(
        f"""
media_timeout_seconds = 1.0

[[routes]]
prefix = ""
to = ["sip:{{number}}@127.0.0.1:{port};transport=tcp"]
record = "dual"
"""
    )
    options = ("--config", str(tmp_path / "callreel.toml"))
    with OwnServer(tmp_path, SID, "a-token-of-tests", options=options) as server:
        caller = await phones.make(talk("tone:440"))
        uri = f"sip:100@{server.sip_uri.removeprefix('sip:')}"
        dialling = asyncio.create_task(caller.call(uri))
        theirs = await asyncio.wait_for(callee.next_call(), 5)
        callee.answer(theirs)
        ours = await dialling
        await asyncio.sleep(0.5)
        assert theirs.media is not None
        theirs.media.close()  # it says nothing any more
        if gone:
            await callee._agent.close()
            await asyncio.wait_for(ours.ended.wait(), 10)
        else:
            await asyncio.sleep(3)
            assert not ours.ended.is_set()
            assert "silent" in server.log
            await caller.hang_up(ours)
        api = Api(server)
        (recording,) = api.get("/Recordings.json")["recordings"]
        finished = await asyncio.to_thread(api.finished, recording["sid"])
        assert finished["status"] == "completed"
        assert ("the party is gone" in server.log) == gone
        api.http.close()
    await phones.close()
