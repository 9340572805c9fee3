"""baresip calls, and is called: by itself and by our phone, over each transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callreel.phone.call import EventKind
from tests.peers.baresip import need_baresip
from tests.peers.house import (
    CALLEE_HZ,
    CALLER_HZ,
    Guests,
    House,
    assert_conversation,
    guests_of,
    heard_s,
    open_house,
    spans,
)
from tests.peers.tshark import assert_well_formed
from tests.phone.phones import Phones, talk
from tests.ports import free_port_pair
from tests.signalling.certificates import Authority

pytestmark = pytest.mark.peer

TRANSPORTS = ("udp", "tcp", "tls")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Path:
    """Of the peers."""
    return authority.issue(("127.0.0.1",))


@pytest.fixture(scope="module")
def house(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    need_baresip()
    with open_house(tmp_path_factory.mktemp("house"), authority=authority) as house:
        yield house


@pytest.fixture
async def guests(house: House, tmp_path: Path) -> AsyncIterator[Guests]:
    async with guests_of(house, tmp_path) as guests:
        yield guests


@pytest.fixture
async def phones() -> AsyncIterator[Phones]:
    phones = Phones()
    yield phones
    await phones.close()


async def test_both_sides_over_each_transport(
    house: House, guests: Guests, certificate: Path, tmp_path: Path
) -> None:
    """All of them at once; hung up by the caller, by the callee and by the API."""

    async def conversation(transport: str) -> None:
        number = house.number()
        callee = await guests.baresip(hz=CALLEE_HZ, answers=True, certificate=certificate)
        caller = await guests.baresip(hz=CALLER_HZ, user=number, certificate=certificate)
        await caller.command("dial", house.uri(callee.dialled(transport), transport))
        await caller.event("CALL_ESTABLISHED")
        await callee.event("CALL_ESTABLISHED")
        await asyncio.sleep(1.2)
        match transport:
            case "udp":
                await caller.command("hangup")
            case "tcp":
                await callee.command("hangup")
            case _:
                call, _ = await house.calls_from(number, over=False)
                answer = await asyncio.to_thread(
                    house.api.post, f"/Calls/{call['sid']}.json", Status="completed"
                )
                assert answer.status_code == 200, answer.text
        await caller.event("CALL_CLOSED")
        await callee.event("CALL_CLOSED")
        await caller.close()
        await callee.close()
        call, child = await house.calls_from(number)
        assert {call["status"], child["status"]} == {"completed"}
        assert_conversation(await house.recording(call, tmp_path / transport))
        assert caller.heard_s(CALLEE_HZ) > 0.9
        assert callee.heard_s(CALLER_HZ) > 0.9

    await asyncio.gather(*(conversation(transport) for transport in TRANSPORTS))


async def test_not_answered_refused_and_cancelled(house: House, guests: Guests) -> None:
    callee = await guests.baresip(hz=CALLEE_HZ)
    caller = await guests.baresip(hz=CALLER_HZ, user=(number := house.number()))
    await caller.command("dial", house.uri(callee.dialled()))
    await callee.event("CALL_INCOMING")
    await callee.command("hangup")
    closed = await caller.event("CALL_CLOSED")
    assert "486" in closed["param"], closed
    await house.calls_from(number)
    await caller.command("dial", house.uri(callee.dialled()))
    await callee.event("CALL_INCOMING", 2)
    await caller.event("CALL_RINGING", 2)
    await caller.command("hangup")
    await callee.event("CALL_CLOSED", 2)
    await caller.command("dial", house.uri(f"short{callee.port}"))
    closed = await caller.event("CALL_CLOSED", 3)
    assert "480" in closed["param"], closed
    calls = await house.calls_from(number, children=5)
    assert sorted(one["status"] for one in calls) == [
        *("busy", "busy", "canceled", "canceled", "no-answer", "no-answer")
    ]


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_hold_and_back(house: House, guests: Guests, tmp_path: Path, who: str) -> None:
    callee = await guests.baresip(hz=CALLEE_HZ, answers=True)
    caller = await guests.baresip(hz=CALLER_HZ, user=(number := house.number()))
    await caller.command("dial", house.uri(callee.dialled()))
    await caller.event("CALL_ESTABLISHED")
    holds = caller if who == "caller" else callee
    await asyncio.sleep(0.7)
    await holds.command("hold")
    await asyncio.sleep(0.7)
    await holds.command("resume")
    await asyncio.sleep(0.7)
    await caller.command("hangup")
    call, _ = await house.calls_from(number)
    path = await house.recording(call, tmp_path)
    held = (2, CALLEE_HZ) if who == "caller" else (1, CALLER_HZ)
    first, second = spans(path, *held)
    assert second[0] - first[1] > 0.5


async def test_our_phone_and_baresip_call_each_other(
    house: House, guests: Guests, phones: Phones, tmp_path: Path
) -> None:
    baresip = await guests.baresip(hz=CALLEE_HZ, answers=True)
    port = free_port_pair()
    phone = await phones.make(talk(f"tone:{CALLER_HZ}"), takes_calls=True, user="peer", port=port)
    number = house.number()
    call = await phone.call(house.uri(baresip.dialled()), from_uri=f"sip:{number}@127.0.0.1")
    await asyncio.sleep(0.3)
    await phone.hold(call)
    await asyncio.sleep(0.3)
    await phone.resume(call)
    await asyncio.sleep(1.0)
    await phone.hang_up(call)
    row, _ = await house.calls_from(number)
    path = await house.recording(row, tmp_path / "called")
    assert heard_s(path, 1, CALLER_HZ) > 1.0
    assert heard_s(path, 2, CALLEE_HZ) > 1.0

    caller = await guests.baresip(hz=CALLER_HZ, user=(number := house.number()))
    await caller.command("dial", house.uri(str(port)))
    taken = await asyncio.wait_for(phone.next_call(), 5)
    phone.ring(taken)
    phone.answer(taken, talk(f"tone:{CALLEE_HZ}"))
    await taken.wait_for(EventKind.ANSWERED)
    await asyncio.sleep(1.2)
    await phone.hang_up(taken)
    await caller.event("CALL_CLOSED")
    row, _ = await house.calls_from(number)
    assert_conversation(await house.recording(row, tmp_path / "taken"))


def test_tshark_finds_nothing_wrong_with_what_we_said(house: House) -> None:
    assert_well_formed(house.capture, at_least=40)
