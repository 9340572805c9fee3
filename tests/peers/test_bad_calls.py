"""Calls that go wrong, by malice or by mistake: each is refused or ended, and the others go on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.peers.house import (
    Guests,
    House,
    assert_conversation,
    guests_of,
    open_house,
)
from tests.peers.scenarios import (
    Dialog,
    answer,
    callee,
    callee_request,
    caller,
    expect,
    invite,
    pause,
    respond,
    respond_ok,
    sdp,
    speak,
    take,
    take_invite,
    vias,
)
from tests.peers.tshark import assert_well_formed
from tests.ports import free_port_pair

pytestmark = pytest.mark.peer

EARLY = (100, 180, 183)


async def refused(guests: Guests, dialled: str, number: str, status: int, first: str) -> None:
    one = await guests.caller(
        caller(
            first,
            expect(status, optional=EARLY, containing="Warning" if status != 503 else ""),
            Dialog(dialled, number).ack_refusal(),
        )
    )
    await one.succeed()


async def test_what_cannot_be_passed_on(house: House, guests: Guests) -> None:
    """Each is refused with what is wrong; nobody is called."""
    port, number = str(free_port_pair()), house.number()
    plain = invite(port, number)
    cases = [
        (483, plain.replace("Max-Forwards: 70", "Max-Forwards: 0")),
        (488, invite(port, number, body=sdp(audio=False))),
        (488, invite(port, number, body=sdp(codecs=[4]))),
        (404, plain.replace(f"sip:{port}@", "sip:nobody@", 1)),
        (400, invite(port, number, body="v=0\nnonsense\n")),
        (415, invite(port, number, body="hello\n").replace("application/sdp", "text/plain")),
    ]
    await asyncio.gather(*(refused(guests, port, number, status, first) for status, first in cases))
    assert house.api.get("/Calls.json", To=port)["calls"] == []


async def test_a_loop_ends_by_itself(house: House, guests: Guests) -> None:
    """A route that leads back here: the media would go round at the first turn; without an offer
    it goes on until Max-Forwards is used up."""
    number = house.number()
    await refused(guests, "loop", number, 488, invite("loop", number))
    assert {one["status"] for one in await house.calls_from(number, children=2)} == {"failed"}
    number = house.number()
    first = invite("loop", number, body="").replace("Max-Forwards: 70", "Max-Forwards: 12")
    await refused(guests, "loop", number, 483, first)
    assert house.api.live_calls() == []
    calls = house.api.get("/Calls.json", From=number, PageSize="100")["calls"]
    assert len(calls) == 2 * 12
    assert {one["status"] for one in calls} == {"failed"}


@pytest.mark.parametrize(("kind", "status"), [("another codec", 488), ("no description", 488)])
async def test_an_answer_that_is_none(house: House, guests: Guests, kind: str, status: int) -> None:
    """It is acknowledged and hung up, and the caller told."""
    body = sdp(codecs=[8]) if kind == "another codec" else ""
    other = await guests.callee(
        callee(
            take_invite(),
            respond(200, "OK", body=body, again=True),
            take("ACK"),
            take("BYE"),
            respond_ok(),
        )
    )
    number = house.number()
    first = invite(str(other.port), number, body=sdp(codecs=[0]))
    await refused(guests, str(other.port), number, status, first)
    await other.succeed()
    calls = await house.calls_from(number)
    assert {one["status"] for one in calls} == {"failed"}


async def test_a_callee_that_answers_twice(house: House, guests: Guests, tmp_path: Path) -> None:
    """The first counts; the second, of another tag, is acknowledged and hung up at once."""
    other = await guests.callee(
        callee(
            take_invite(),
            respond(200, "OK", body=sdp()),
            take("ACK"),
            speak(),
            pause(200),
            respond(200, "OK", body=sdp(), tag="", cseq="CSeq: 1 INVITE", via=vias()).replace(
                "[last_To:]", "To:[$ours];tag=another"
            ),
            take("ACK", containing="tag=another"),
            take("BYE", containing="tag=another"),
            respond_ok(),
            take("BYE", containing="tag=[0-9]*b"),
            respond_ok(),
        ),
        more=("-nr",),
    )
    number = house.number()
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        caller(
            invite(str(other.port), number),
            expect(200, optional=EARLY, keep=True),
            dialog.ack(),
            speak(),
            pause(1200),
            dialog.bye(),
            expect(200),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    assert_conversation(await house.recording(call, tmp_path))


async def test_a_leg_that_has_forgotten_the_call(
    house: House, guests: Guests, tmp_path: Path
) -> None:
    """It says 481 to what the other side asks: the call is over, the recording is kept."""
    other = await guests.callee(
        callee(
            take_invite(),
            *answer(),
            pause(1000),
            callee_request("INVITE", 1, body=sdp(direction="inactive", version=2)),
            expect(500, optional=(100,)),
            callee_request("ACK", 1).replace("branch=[branch]", "branch=[branch-3]"),
            take("BYE"),
            respond_ok(),
        ),
        more=("-nr",),
    )
    number = house.number()
    one = await guests.caller(
        caller(
            invite(str(other.port), number),
            expect(200, optional=EARLY, keep=True),
            Dialog(str(other.port), number).ack(),
            speak(),
            take("INVITE"),
            respond(481, "Call Does Not Exist", tag=""),
            take("ACK"),
            take("BYE"),
            respond(481, "Call Does Not Exist", tag=""),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    assert_conversation(await house.recording(call, tmp_path))


async def test_a_flood_leaves_live_calls_alone(
    sipp: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """300 INVITEs in a second or two, garbage, and a body of 1 MB, while somebody talks."""
    number = "+15559999"
    with open_house(tmp_path_factory.mktemp("flooded"), settings="max_calls = 1\n") as house:
        async with guests_of(house, tmp_path) as guests:
            other = await guests.callee(callee(take_invite(), *answer(), take("BYE"), respond_ok()))
            dialog = Dialog(str(other.port), number)
            one = await guests.caller(
                caller(
                    invite(str(other.port), number),
                    expect(200, optional=EARLY, keep=True),
                    dialog.ack(),
                    speak(),
                    pause(8000),
                    dialog.bye(),
                    expect(200),
                )
            )
            await asyncio.to_thread(house.api.wait_live, 2)
            dialled = str(free_port_pair())
            flood = await guests.caller(
                caller(
                    invite(dialled, "+15558888"),
                    expect(503, optional=EARLY, containing="Retry-After"),
                    Dialog(dialled, "+15558888").ack_refusal(),
                ),
                calls=300,
                rate=200,
            )
            await asyncio.to_thread(talk_nonsense, house.address)
            await flood.succeed()
            assert len(house.api.live_calls()) == 2
            await asyncio.gather(one.succeed(), other.succeed())
            call, _ = await house.calls_from(number)
            path = await house.recording(call, tmp_path)
            assert_conversation(path, at_least_s=3.8)
            assert house.api.get("/Calls.json", From="+15558888")["calls"] == []


def talk_nonsense(address: str) -> None:
    host, _, port = address.partition(":")
    head = (
        f"INVITE sip:61000@{address} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5;branch=z9hG4bKbig\r\n"
        "From: <sip:big@127.0.0.1>;tag=1\r\nTo: <sip:61000@127.0.0.1>\r\nCall-ID: big\r\n"
        "CSeq: 1 INVITE\r\nContact: <sip:big@127.0.0.1:5>\r\nMax-Forwards: 70\r\n"
        "Content-Type: application/sdp\r\nContent-Length: 1048576\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=5) as stream:
        stream.sendall(head.encode())
        try:
            stream.sendall(b"x" * 1048576)
            assert stream.recv(4096).startswith(b"SIP/2.0 513"), "a body of 1 MB"
        except ConnectionError:
            pass  # closed in the midst of it: nobody reads that much
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in range(0, 1400, 7):
            sender.sendto(bytes((size * 31 + n * n) % 256 for n in range(size)), (host, int(port)))
            sender.sendto(head.encode()[:size], (host, int(port)))


def test_tshark_finds_nothing_wrong_with_what_we_said(house: House) -> None:
    assert_well_formed(house.capture, at_least=30)
