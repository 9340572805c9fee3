"""Calls passed on between two SIPps: each way in which a call can go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.house import (
    CALLEE_HZ,
    CALLER_HZ,
    Guests,
    House,
    assert_conversation,
    heard_s,
    spans,
)
from tests.peers.scenarios import (
    Dialog,
    answer,
    callee,
    callee_request,
    caller,
    expect,
    give_up,
    hush,
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

TALK_MS = 1000
RINGING = respond(180, "Ringing")
EARLY = (100, 180, 181, 183)


@pytest.mark.parametrize("who", ["caller", "callee"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_answered_and_hung_up(
    house: House, guests: Guests, tmp_path: Path, transport: str, who: str
) -> None:
    called_ends = (
        [take("BYE"), respond_ok()]
        if who == "caller"
        else [pause(TALK_MS), callee_request("BYE", 1), expect(200)]
    )
    other = await guests.callee(
        callee(take_invite(), RINGING, *answer(), *called_ends), transport=transport
    )
    number = house.number()
    dialled = f"tcp{other.port}" if transport == "tcp" else str(other.port)
    dialog = Dialog(dialled, number)
    calling_ends = (
        [pause(TALK_MS), dialog.bye(), expect(200)]
        if who == "caller"
        else [take("BYE"), respond_ok()]
    )
    one = await guests.caller(
        caller(
            invite(dialled, number),
            expect(200, optional=EARLY, keep=True),
            dialog.ack(),
            speak(),
            *calling_ends,
        ),
        transport=transport,
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, child = await house.calls_from(number)
    assert (call["direction"], child["direction"]) == ("inbound", "outbound-dial")
    assert child["parent_call_sid"] == call["sid"]
    assert {call["status"], child["status"]} == {"completed"}
    assert_conversation(await house.recording(call, tmp_path))


async def refused(
    house: House, guests: Guests, dialled: str, status: int
) -> list[dict[str, object]]:
    """A call that is to be refused with a status; it and its children, once it is over."""
    number = house.number()
    one = await guests.caller(
        caller(
            invite(dialled, number),
            expect(status, optional=EARLY),
            Dialog(dialled, number).ack_refusal(),
        )
    )
    await one.succeed()
    return await house.calls_from(number)


@pytest.mark.parametrize(
    ("status", "told", "call_status", "child_status"),
    [
        (486, 486, "busy", "busy"),
        (603, 603, "failed", "failed"),
        (404, 404, "failed", "failed"),
        (480, 480, "no-answer", "no-answer"),
        (503, 503, "failed", "failed"),
    ],
)
async def test_refused(
    house: House, guests: Guests, status: int, told: int, call_status: str, child_status: str
) -> None:
    other = await guests.callee(
        callee(take_invite(), RINGING, respond(status, "No", headers=""), take("ACK"))
    )
    call, child = await refused(house, guests, str(other.port), told)
    assert (call["status"], child["status"]) == (call_status, child_status)
    await other.succeed()


async def test_nobody_there(house: House, guests: Guests) -> None:
    call, child = await refused(house, guests, f"short{free_port_pair()}", 480)
    assert (call["status"], child["status"]) == ("no-answer", "no-answer")


async def test_not_answered(house: House, guests: Guests) -> None:
    other = await guests.callee(callee(take_invite(), RINGING, *give_up()))
    call, child = await refused(house, guests, f"short{other.port}", 480)
    assert (call["status"], child["status"]) == ("no-answer", "no-answer")
    await other.succeed()


async def test_cancelled_by_the_caller(house: House, guests: Guests) -> None:
    other = await guests.callee(callee(take_invite(), RINGING, *give_up()))
    number = house.number()
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        caller(
            invite(str(other.port), number),
            expect(180, optional=(100,)),
            dialog.cancel(),
            expect(200),
            expect(487),
            dialog.ack_refusal(),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, child = await house.calls_from(number)
    assert (call["status"], child["status"]) == ("canceled", "canceled")


async def test_redirected(house: House, guests: Guests, tmp_path: Path) -> None:
    """To where our routes say the new number is."""
    second = await guests.callee(callee(take_invite(), *answer(), take("BYE"), respond_ok()))
    first = await guests.callee(
        callee(
            take_invite(),
            respond(302, "Moved", headers=f"Contact: <sip:{second.port}@elsewhere.invalid>\n"),
            take("ACK"),
        )
    )
    number = house.number()
    one = await guests.caller(talking(str(first.port), number))
    await asyncio.gather(one.succeed(), first.succeed(), second.succeed())
    call, *children = await house.calls_from(number, children=2)
    assert sorted(child["status"] for child in children) == ["completed", "failed"]
    assert_conversation(await house.recording(call, tmp_path))


def talking(dialled: str, number: str, *pieces: str, body: str | None = None) -> str:
    """A caller that talks for a second, or does the ``pieces``, and hangs up."""
    dialog = Dialog(dialled, number)
    return caller(
        invite(dialled, number, body=body),
        expect(200, optional=EARLY, keep=True),
        dialog.ack(),
        speak(),
        *(pieces or [pause(TALK_MS)]),
        dialog.bye(99),
        expect(200),
    )


HOLDS = [("sendonly", "[media_ip]"), ("inactive", "[media_ip]"), ("sendrecv", "0.0.0.0")]


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_on_hold_and_back(house: House, guests: Guests, tmp_path: Path, who: str) -> None:
    """In each way there is, one after the other; who is held hears it, and is recorded as held."""
    changes: list[tuple[str, str, str]] = []
    for direction, address in HOLDS:
        changes += [(direction, address, ""), ("sendrecv", "[media_ip]", "")]
    number = house.number()

    def asks(request: Callable[[int, str], str], ack: Callable[[int], str]) -> list[str]:
        steps = [pause(500)]
        for cseq, (direction, address, _) in enumerate(changes, 2):
            held = (direction, address) != ("sendrecv", "[media_ip]")
            body = sdp(direction=direction, address=address, version=cseq)
            steps += [hush(True)] if held else []
            steps += [request(cseq, body), expect(200, optional=(100,)), ack(cseq)]
            steps += [] if held else [hush(False)]
            steps += [pause(400)]
        return steps

    def takes() -> list[str]:
        steps = []
        for version, (direction, address, _) in enumerate(changes, 2):
            held = (direction, address) != ("sendrecv", "[media_ip]")
            told = "sendonly" if address == "0.0.0.0" else direction
            answers = {"sendonly": "recvonly"}.get(told, told)
            steps += [
                take("INVITE", containing=f"a={told}"),
                *([hush(True)] if held else []),
                respond(
                    200, "OK", tag="", body=sdp(direction=answers, version=version), again=True
                ),
                take("ACK"),
                *([] if held else [hush(False)]),
            ]
        return steps

    if who == "caller":
        other = await guests.callee(
            callee(take_invite(), *answer(), *takes(), take("BYE"), respond_ok())
        )
        dialog = Dialog(str(other.port), number)
        does = asks(dialog.reinvite, dialog.ack)
    else:
        other = await guests.callee(
            callee(
                take_invite(),
                *answer(),
                *asks(
                    lambda cseq, body: callee_request("INVITE", cseq, body=body),
                    lambda cseq: callee_request("ACK", cseq),
                ),
                take("BYE"),
                respond_ok(),
            )
        )
        does = [*takes(), pause(900)]
    one = await guests.caller(talking(str(other.port), number, *does))
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    path = await house.recording(call, tmp_path)
    for channel, hz in ((1, CALLER_HZ), (2, CALLEE_HZ)):
        assert len(spans(path, channel, hz)) == 4, (channel, spans(path, channel, hz))


async def test_codec_changed_by_reinvite(house: House, guests: Guests, tmp_path: Path) -> None:
    number = house.number()
    other = await guests.callee(
        callee(
            take_invite(),
            *answer(body=sdp(codecs=[0])),
            take("INVITE", containing="RTP/AVP 8"),
            respond(200, "OK", tag="", body=sdp(codecs=[8], version=2), again=True),
            take("ACK"),
            speak(8),
            take("BYE"),
            respond_ok(),
        )
    )
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        talking(
            str(other.port),
            number,
            pause(700),
            dialog.reinvite(2, sdp(codecs=[8], version=2)),
            expect(200, optional=(100,), containing="RTP/AVP 8"),
            dialog.ack(2),
            speak(8),
            pause(700),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    path = await house.recording(call, tmp_path)
    for channel, hz in ((1, CALLER_HZ), (2, CALLEE_HZ)):
        assert heard_s(path, channel, hz) > 1.2
    (made,) = house.api.get(f"/Calls/{call['sid']}/Recordings.json")["recordings"]
    report = await asyncio.to_thread(house.api.integrity, made["sid"])
    assert "PCMA" in str(report), report


async def test_update_with_an_offer_and_without(house: House, guests: Guests) -> None:
    """The offer goes to the other side; what only refreshes does not."""
    number = house.number()
    other = await guests.callee(
        callee(
            take_invite(),
            *answer(headers="Allow: INVITE, ACK, BYE, CANCEL, UPDATE\n"),
            take("INVITE", containing="a=inactive"),
            respond(200, "OK", tag="", body=sdp(direction="inactive", version=2), again=True),
            take("ACK"),
            take("BYE"),
            respond_ok(),
        )
    )
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        talking(
            str(other.port),
            number,
            dialog.request("UPDATE", 2),
            expect(200),
            dialog.request("UPDATE", 3, body=sdp(direction="inactive", version=2)),
            expect(200, containing="a=inactive"),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    await house.calls_from(number)


async def test_late_offer(house: House, guests: Guests, tmp_path: Path) -> None:
    number = house.number()
    other = await guests.callee(
        callee(
            take_invite(),
            respond(180, "Ringing"),
            respond(200, "OK", body=sdp(), again=True),
            take("ACK", containing="m=audio"),
            speak(),
            take("BYE"),
            respond_ok(),
        )
    )
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        caller(
            invite(str(other.port), number, body=""),
            expect(200, optional=EARLY, keep=True, containing="m=audio"),
            dialog.ack(body=sdp(codecs=[0])),
            speak(),
            pause(TALK_MS),
            dialog.bye(),
            expect(200),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    assert_conversation(await house.recording(call, tmp_path))


async def test_early_media(house: House, guests: Guests, tmp_path: Path) -> None:
    """Heard by the caller, and not recorded: nobody has answered."""
    number = house.number()
    other = await guests.callee(
        callee(
            take_invite(),
            respond(183, "Session Progress", body=sdp()),
            speak(),
            pause(1000),
            respond(200, "OK", body=sdp(), again=True),
            take("ACK"),
            take("BYE"),
            respond_ok(),
        )
    )
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        caller(
            invite(str(other.port), number),
            expect(183, optional=(100,), containing="m=audio"),
            expect(200, keep=True),
            dialog.ack(),
            speak(),
            pause(TALK_MS),
            dialog.bye(),
            expect(200),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    path = await house.recording(call, tmp_path)
    assert_conversation(path)
    assert heard_s(path, 2, CALLEE_HZ) < 1.4


async def test_lost_200s_and_acks(house: House, guests: Guests) -> None:
    """Ours come again until the ACK; the peer's are each acknowledged."""
    number = house.number()
    ok = respond(200, "OK", body=sdp())
    other = await guests.callee(
        callee(
            take_invite(),
            ok,
            take("ACK"),
            pause(300),
            respond(200, "OK", body=sdp(), tag="", cseq="CSeq: 1 INVITE", via=vias()),
            take("ACK"),
            speak(),
            take("BYE"),
            pause(300),
            take("BYE"),
            respond_ok(),
        ),
        more=("-nr",),  # what comes again is in the scenario
    )
    dialog = Dialog(str(other.port), number)
    one = await guests.caller(
        caller(
            invite(str(other.port), number),
            expect(200, optional=EARLY, keep=True),
            pause(1800),
            dialog.ack(),
            speak(),
            pause(TALK_MS),
            dialog.bye(),
            expect(200),
        )
    )
    await asyncio.gather(one.succeed(), other.succeed())
    call, child = await house.calls_from(number)
    assert {call["status"], child["status"]} == {"completed"}
    assert one.messages.count("SIP/2.0 200 OK") >= 3


async def test_media_from_other_ports_than_announced(
    house: House, guests: Guests, tmp_path: Path
) -> None:
    number = house.number()
    theirs, ours = free_port_pair(), free_port_pair()
    other = await guests.callee(
        callee(take_invite(), *answer(body=sdp(port=str(theirs))), take("BYE"), respond_ok())
    )
    one = await guests.caller(talking(str(other.port), number, body=sdp(port=str(ours))))
    await asyncio.gather(one.succeed(), other.succeed())
    call, _ = await house.calls_from(number)
    assert_conversation(await house.recording(call, tmp_path))


async def test_targets_in_order(house: House, guests: Guests, tmp_path: Path) -> None:
    """The first does not answer in time, the second does."""
    number = house.number()
    first = await guests.callee(callee(take_invite(), RINGING, *give_up()), port=house.first)
    second = await guests.callee(
        callee(take_invite(), *answer(), take("BYE"), respond_ok()), port=house.second
    )
    one = await guests.caller(talking("in-order", number))
    await asyncio.gather(one.succeed(), first.succeed(), second.succeed())
    call, *children = await house.calls_from(number, children=2)
    assert sorted(child["status"] for child in children) == ["completed", "no-answer"]
    assert_conversation(await house.recording(call, tmp_path))


async def test_targets_at_once(house: House, guests: Guests, tmp_path: Path) -> None:
    number = house.number()
    first = await guests.callee(callee(take_invite(), RINGING, *give_up()), port=house.first)
    second = await guests.callee(
        callee(take_invite(), RINGING, pause(300), *answer(), take("BYE"), respond_ok()),
        port=house.second,
    )
    one = await guests.caller(talking("at-once", number))
    await asyncio.gather(one.succeed(), first.succeed(), second.succeed())
    call, *children = await house.calls_from(number, children=2)
    assert sorted(child["status"] for child in children) == ["canceled", "completed"]
    assert_conversation(await house.recording(call, tmp_path))


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_transferred(house: House, guests: Guests, tmp_path: Path, who: str) -> None:
    """The new party takes the place of who transfers, also in the recording."""
    number = house.number()
    codec = 8 if who == "callee" else 0
    third = await guests.callee(
        callee(
            take_invite(),
            respond(200, "OK", body=sdp(codecs=[8] if codec else [0, 8]), again=True),
            take("ACK"),
            speak(codec),
            take("BYE"),
            respond_ok(),
        )
    )
    refers_to = f"Refer-To: <sip:{third.port}@elsewhere.invalid>\n"

    def transfers(refer: str) -> list[str]:
        return [
            pause(700),
            refer,
            expect(202),
            take("NOTIFY", containing="SIP/2.0 100"),
            respond_ok(),
            take("NOTIFY", containing="SIP/2.0 200"),
            respond_ok(),
            take("BYE"),
            respond_ok(),
        ]

    if who == "caller":
        other = await guests.callee(
            callee(take_invite(), *answer(), pause(1700), callee_request("BYE", 5), expect(200))
        )
        dialog = Dialog(str(other.port), number)
        one = await guests.caller(
            caller(
                invite(str(other.port), number),
                expect(200, optional=EARLY, keep=True),
                dialog.ack(),
                speak(),
                *transfers(dialog.request("REFER", 2, headers=refers_to)),
            )
        )
    else:
        other = await guests.callee(
            callee(
                take_invite(),
                *answer(),
                *transfers(callee_request("REFER", 2, headers=refers_to)),
            )
        )
        told_the_codec = [
            take("INVITE", containing="RTP/AVP 8"),
            respond(200, "OK", tag="", body=sdp(codecs=[8], version=2), again=True),
            take("ACK"),
            speak(8),
            pause(1000),
        ]
        one = await guests.caller(talking(str(other.port), number, *told_the_codec))
    await asyncio.gather(one.succeed(), other.succeed(), third.succeed())
    call, child = await house.calls_from(number)
    assert {call["status"], child["status"]} == {"completed"}
    path = await house.recording(call, tmp_path)
    assert heard_s(path, 1, CALLER_HZ) > (1.4 if who == "callee" else 0.5)
    assert heard_s(path, 2, CALLEE_HZ) > 1.4
    if who == "caller":  # the new party says what a callee says, in the caller's place
        assert heard_s(path, 1, CALLEE_HZ) > 0.5


def test_tshark_finds_nothing_wrong_with_what_we_said(house: House) -> None:
    assert_well_formed(house.capture, at_least=150)
