"""Calls that end here, with phones that are not ours and media workers that are real."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from callreel.calls.model import CallStatus
from callreel.calls.voice import DigitHeard, Ending, NotConnected, Played, Target, Tone
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerEvent, media_heard
from tests.capture.test_worker import Process
from tests.peers.agents import Agent
from tests.peers.baresip import Baresip, need_baresip
from tests.peers.scenarios import answer, callee, respond, respond_ok, take, take_invite
from tests.peers.sipp import need_sipp
from tests.ports import free_port_pair
from tests.signalling.voice_house import VoiceHouse, open_voice_house

ONE_HZ, TWO_HZ, OURS_HZ = 440, 880, 1250


@dataclass
class Scene:
    """A house with a media worker, and phones."""

    house: VoiceHouse
    pool: WorkerPool
    folder: Path
    stack: AsyncExitStack
    events: list[WorkerEvent]
    plays: Iterator[int] = field(default_factory=itertools.count)

    async def baresip(self, name: str, hz: int) -> Baresip:
        """One that answers by itself."""
        phone = await Baresip.start(self.folder / name, hz=hz, answers=True)
        self.stack.push_async_callback(phone.close)
        return phone

    async def sipp(self, *pieces: str) -> Agent:
        """One that is called."""
        agent = await Agent.start(self.folder / "sipp", callee(*pieces))
        self.stack.push_async_callback(agent.close)
        return agent

    async def dial(
        self, port: int, *, beside: str | None = None, seconds: float = 5, password: str = ""
    ) -> str:
        row = await self.house.a_row()
        await self.house.phone.dial(
            row.id,
            Target(f"sip:peer@127.0.0.1:{port}", username=password and "us", password=password),
            account_id=self.house.account.id,
            caller="+15550100",
            ring_seconds=seconds,
            ringing=lambda: None,
            beside=beside,
        )
        return row.id

    async def play(self, call_id: str) -> None:
        """A tone of ours, until it is out."""
        heard = Played(call_id, f"p{next(self.plays)}")
        await self.pool.play(call_id, heard.play_id, [Tone(OURS_HZ, 800)])
        await until(lambda: heard in [media_heard(one) for one in self.events])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    low = free_port_pair()
    async with AsyncExitStack() as stack:
        worker = Process(tmp_path, 0, (low, low + 9))
        stack.callback(worker.close)
        events: list[WorkerEvent] = []
        pool = await stack.enter_async_context(
            WorkerPool([worker.path], on_event=events.append, advertised_host="127.0.0.1")
        )
        house = await stack.enter_async_context(open_voice_house(tmp_path, workers=pool))
        yield Scene(house, pool, tmp_path, stack, events)


async def test_two_baresips_hear_us_then_each_other_then_us(scene: Scene) -> None:
    need_baresip()
    house = scene.house
    one = await scene.baresip("one", ONE_HZ)
    two = await scene.baresip("two", TWO_HZ)
    first = await scene.dial(one.port)
    await scene.play(first)
    second = await scene.dial(two.port, beside=first)
    await scene.play(second)  # baresip 1.0 is deaf to a new SSRC that comes with its second packet
    await house.phone.connect(first, second)
    await asyncio.sleep(1.2)  # a conversation
    await house.phone.hang_up(second, reason="enough")
    assert house.phone.live() == {first: None}
    await scene.play(first)
    await house.phone.hang_up(first, reason="enough")
    await one.event("CALL_CLOSED")
    await two.event("CALL_CLOSED")
    for phone in (one, two):
        await phone.close()
    assert one.heard_s(OURS_HZ) > 1.2
    assert one.heard_s(TWO_HZ) > 0.8
    assert two.heard_s(ONE_HZ) > 0.8
    assert 0.6 < two.heard_s(OURS_HZ) < 1
    for call_id in (first, second):
        assert (await house.row(call_id)).status is CallStatus.COMPLETED


async def test_baresip_holds_resumes_presses_keys_and_hangs_up(scene: Scene) -> None:
    need_baresip()
    house = scene.house
    phone = await scene.baresip("one", ONE_HZ)
    call_id = await scene.dial(phone.port)
    await scene.play(call_id)
    await phone.command("hold")
    await until(lambda: "a=recvonly" in phone.log)
    await phone.command("resume")
    await until(lambda: phone.log.count("a=sendrecv") > 2)
    await phone.command("sndcode", "5")
    await until(lambda: DigitHeard(call_id, "5") in [media_heard(one) for one in scene.events])
    await scene.play(call_id)
    await phone.command("hangup")
    assert (await house.ended(call_id)).end_reason == "BYE"
    await until(lambda: house.voice.ends == [(call_id, Ending.PARTY)])
    await phone.close()
    assert phone.heard_s(OURS_HZ) > 0.6  # through its aubridge it hears nothing once it was resumed


CHALLENGE = 'WWW-Authenticate: Digest realm="them", nonce="n0", algorithm=MD5, qop="auth"\n'


async def test_sipp_asks_for_credentials_and_answers(scene: Scene) -> None:
    need_sipp()
    agent = await scene.sipp(
        *(take_invite(), respond(401, "Unauthorized", headers=CHALLENGE), take("ACK")),
        take("INVITE", containing="Authorization: Digest username=.us."),
        *answer(),
        *(take("BYE"), respond_ok()),
    )
    call_id = await scene.dial(agent.port, password="secret")
    await scene.house.phone.hang_up(call_id, reason="enough")
    await agent.succeed()


async def test_sipp_is_busy(scene: Scene) -> None:
    need_sipp()
    agent = await scene.sipp(take_invite(), respond(486, "Busy Here"), take("ACK"))
    with pytest.raises(NotConnected) as caught:
        await scene.dial(agent.port)
    assert (caught.value.status, caught.value.sip_code) == (CallStatus.BUSY, 486)
    await agent.succeed()
    assert scene.pool.calls == []
