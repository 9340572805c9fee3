"""Kamailio between the peers and the server: on the way in and on the way out, and as registrar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.peers.house import CALLEE_HZ, Guests, House, assert_conversation, guests_of, open_house
from tests.peers.kamailio import PASSWORD, USER, Kamailio, run_kamailio
from tests.peers.scenarios import (
    Dialog,
    answer,
    callee,
    callee_request,
    caller,
    expect,
    give_up,
    invite,
    pause,
    respond,
    respond_ok,
    sdp,
    speak,
    take,
    take_invite,
)
from tests.peers.tshark import assert_well_formed
from tests.ports import free_port_pair
from tests.signalling.certificates import Authority

pytestmark = pytest.mark.peer

EARLY = (100, 180, 183)


@pytest.fixture(scope="module")
def sip_port() -> int:
    return free_port_pair()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def kamailio(
    sipp: str, sip_port: int, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kamailio]:
    folder = tmp_path_factory.mktemp("kamailio")
    with run_kamailio(folder, sip_port, authority.issue(("127.0.0.1",))) as kamailio:
        yield kamailio


@pytest.fixture(scope="module")
def house(
    kamailio: Kamailio,
    sip_port: int,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    more = f"""
[[trunks]]
name = "carrier"
uri = "sip:127.0.0.1:{kamailio.port}"

[[trunks]]
name = "carrier-tcp"
uri = "sip:127.0.0.1:{kamailio.port};transport=tcp"

[[trunks]]
name = "carrier-tls"
uri = "sip:127.0.0.1:{kamailio.port + 1};transport=tls"

[[trunks]]
name = "secret"
uri = "sip:127.0.0.1:{kamailio.port}"
username = "{USER}"
password = "{PASSWORD}"
register = true

[[routes]]
prefix = "udp-"
strip = 4
to = ["trunk:carrier"]
record = "dual"

[[routes]]
prefix = "tcp-"
strip = 4
to = ["trunk:carrier-tcp"]
record = "dual"

[[routes]]
prefix = "tls-"
strip = 4
to = ["trunk:carrier-tls"]
record = "dual"

[[routes]]
prefix = "secret-"
to = ["trunk:secret"]
record = "dual"
"""
    folder = tmp_path_factory.mktemp("house")
    with open_house(folder, sip=sip_port, authority=authority, more=more) as house:
        yield house


@pytest.fixture
async def guests(house: House, tmp_path: Path) -> AsyncIterator[Guests]:
    async with guests_of(house, tmp_path) as guests:
        yield guests


@pytest.mark.parametrize(
    ("way_in", "way_out"),
    [("out-", "udp-"), ("out-tcp-", "tcp-"), ("out-tls-", "tls-"), ("out-", "secret-")],
)
async def test_proxied_on_both_sides(
    house: House, guests: Guests, kamailio: Kamailio, tmp_path: Path, way_in: str, way_out: str
) -> None:
    """With hold and back in it, and a BYE of the callee: each through the recorded route."""
    other = await guests.callee(
        callee(
            take_invite(),
            respond(180, "Ringing"),
            *answer(),
            take("INVITE", containing="a=inactive"),
            respond(200, "OK", tag="", body=sdp(direction="inactive", version=2), again=True),
            take("ACK"),
            take("INVITE", containing="a=sendrecv"),
            respond(200, "OK", tag="", body=sdp(version=3), again=True),
            take("ACK"),
            pause(700),
            callee_request("BYE", 1),
            expect(200),
        )
    )
    number = house.number()
    dialled = f"{way_in}{way_out}{other.port}"
    dialog = Dialog(dialled, number)
    one = await guests.caller(
        caller(
            invite(dialled, number),
            expect(200, optional=EARLY, keep=True, containing="Record-Route"),
            dialog.ack(),
            speak(),
            pause(700),
            dialog.reinvite(2, sdp(direction="inactive", version=2)),
            expect(200, optional=(100,)),
            dialog.ack(2),
            dialog.reinvite(3, sdp(version=3)),
            expect(200, optional=(100,)),
            dialog.ack(3),
            take("BYE"),
            respond_ok(),
        ),
        to=f"127.0.0.1:{kamailio.port}",
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, child = await house.calls_from(number)
    assert {call["status"], child["status"]} == {"completed"}
    assert_conversation(await house.recording(call, tmp_path), at_least_s=1.2, holds=1)


async def test_cancelled_and_busy_through_it(
    house: House, guests: Guests, kamailio: Kamailio
) -> None:
    patient = await guests.callee(
        callee(take_invite(hops=2), respond(180, "Ringing"), *give_up(hops=2))
    )
    busy = await guests.callee(callee(take_invite(), respond(486, "Busy Here"), take("ACK")))
    numbers = [house.number(), house.number()]
    to = f"127.0.0.1:{kamailio.port}"
    first, second = f"out-udp-{patient.port}", f"out-udp-{busy.port}"
    gives_up = await guests.caller(
        caller(
            invite(first, numbers[0]),
            expect(180, optional=(100,)),
            Dialog(first, numbers[0]).cancel(),
            expect(200),
            expect(487),
            Dialog(first, numbers[0]).ack_refusal(),
        ),
        to=to,
    )
    hears = await guests.caller(
        caller(
            invite(second, numbers[1]),
            expect(486, optional=EARLY),
            Dialog(second, numbers[1]).ack_refusal(),
        ),
        to=to,
    )
    await asyncio.gather(*(one.succeed() for one in (patient, busy, gives_up, hears)))
    for number, status in zip(numbers, ("canceled", "busy"), strict=True):
        call, child = await house.calls_from(number)
        assert (call["status"], child["status"]) == (status, status)


async def test_we_register_with_it_and_phones_of_its_are_called(
    house: House, guests: Guests, kamailio: Kamailio, tmp_path: Path
) -> None:
    """baresip registers there; our calls reach it by its name, and ours from there as well."""
    phone = await guests.baresip(
        hz=CALLEE_HZ,
        user="bob",
        host=f"127.0.0.1:{kamailio.port}",
        account=";regint=60",
        answers=True,
    )
    await phone.registered()
    number = house.number()
    dialog = Dialog("udp-bob", number)
    one = await guests.caller(
        caller(
            invite("udp-bob", number),
            expect(200, optional=EARLY, keep=True),
            dialog.ack(),
            speak(),
            pause(1000),
            dialog.bye(),
            expect(200),
        )
    )
    await one.succeed()
    call, _ = await house.calls_from(number)
    assert_conversation(await house.recording(call, tmp_path))
    # Ourselves, with digest, at the start: a call to our name there comes back here.
    number = house.number()
    last = await guests.caller(
        caller(
            invite(USER, number),
            expect(404, optional=EARLY),  # the user of our Contact is no number of our routes
            Dialog(USER, number).ack_refusal(),
        ),
        to=f"127.0.0.1:{kamailio.port}",
    )
    await last.succeed()
    assert "callreel" in last.messages


def test_tshark_finds_nothing_wrong_with_what_we_said(house: House) -> None:
    assert_well_formed(house.capture, at_least=30)
