"""Calls that end here, between two real user agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.signalling.agents import Agents, RawPeer, listen, until
from tests.signalling.voice_house import VoiceHouse, open_voice_house
from tests.signalling.voice_phones import Phone, call, description, dial, offered, refusing_with

from callreel.calls.model import CallStatus
from callreel.calls.voice import DigitHeard, Ending, NoRoute, NotConnected, Target
from callreel.signalling.user_agent import IncomingRequest, RequestRefused, UserAgent
from callreel.wire import sdp
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow, Transport


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[VoiceHouse]:
    async with open_voice_house(tmp_path) as house:
        yield house


@pytest.fixture
async def phone(agents: Agents) -> tuple[Phone, UserAgent, Flow]:
    handler = Phone()
    agent = agents.make(handler)
    return handler, agent, await listen(agent, Transport.UDP)


# Placing


async def test_who_is_dialled_and_answers_is_attended(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, _, flow = phone
    rings: list[str] = []
    call_id = await dial(house, flow, rings=rings)
    row = await house.row(call_id)
    assert row.status is CallStatus.IN_PROGRESS
    assert row.start_time is not None
    assert row.sip_call_id == handler.seen[0].request.call_id
    assert rings == [call_id]
    assert house.media.attended == {call_id}
    assert house.phone.live() == {call_id: None}
    offer = handler.offer().media[0]
    names = [f"{one.payload_type} {one.name}" for one in offer.codecs]
    assert names == ["0 PCMU", "8 PCMA", "101 telephone-event"]
    assert offer.ptime_ms == 20
    stream = house.media.streams[call_id]
    assert (stream.remote_host, stream.remote_port) == ("127.0.0.1", 40000)
    assert [one.name for one in stream.codecs] == ["PCMU", "TELEPHONE-EVENT"]
    assert handler.seen[0].request.from_address.uri.user == "+15550100"


@pytest.mark.parametrize(
    ("codes", "status", "code"),
    [
        ((180, 486), CallStatus.BUSY, 486),
        ((600,), CallStatus.BUSY, 600),
        ((480,), CallStatus.NO_ANSWER, 480),
        ((404,), CallStatus.FAILED, 404),
        ((603,), CallStatus.FAILED, 603),
        ((503,), CallStatus.FAILED, 503),
    ],
)
async def test_who_refuses_says_how_the_call_ended(
    house: VoiceHouse,
    phone: tuple[Phone, UserAgent, Flow],
    codes: tuple[int, ...],
    status: CallStatus,
    code: int,
) -> None:
    handler, _, flow = phone
    handler.on_invite = refusing_with(*codes)
    with pytest.raises(NotConnected) as caught:
        await dial(house, flow)
    assert (caught.value.status, caught.value.sip_code) == (status, code)
    (row,) = await house.calls_ever()
    assert (row.status, row.sip_result_code) == (status, code)
    assert not house.media.streams
    assert len(house.telephony.door) == 0
    assert house.voice.ends == []


async def test_who_does_not_answer_in_time_is_cancelled(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, _, flow = phone
    cancelled: list[IncomingRequest] = []

    async def rings(incoming: IncomingRequest) -> None:
        incoming.respond(180)
        await incoming.wait_cancelled()
        cancelled.append(incoming)
        incoming.respond(487)

    handler.on_invite = rings
    with pytest.raises(NotConnected) as caught:
        await dial(house, flow, ring_seconds=0.2)
    assert caught.value.status is CallStatus.NO_ANSWER
    await until(lambda: bool(cancelled))
    (row,) = await house.calls_ever()
    assert row.status is CallStatus.NO_ANSWER


@pytest.mark.parametrize("how", ["hang_up", "cancel"])
async def test_a_call_is_taken_back_while_it_rings(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow], how: str
) -> None:
    handler, _, flow = phone
    cancelled = asyncio.Event()

    async def rings(incoming: IncomingRequest) -> None:
        incoming.respond(180)
        await incoming.wait_cancelled()
        cancelled.set()
        incoming.respond(487)

    handler.on_invite = rings
    told: list[str] = []
    dialling = asyncio.create_task(dial(house, flow, rings=told))
    await until(lambda: bool(told))
    if how == "cancel":
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
    else:
        assert await house.phone.hang_up(told[0], reason="ended by the API")
        with pytest.raises(NotConnected) as caught:
            await dialling
        assert caught.value.status is CallStatus.CANCELED
    await asyncio.wait_for(cancelled.wait(), 5)
    row = await house.row(told[0])
    assert row.status is CallStatus.CANCELED
    assert row.end_reason == ("ended by the API" if how == "hang_up" else "canceled")
    assert not house.media.streams


async def test_an_answer_without_a_codec_of_ours_is_hung_up(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, _, flow = phone
    handler.body = description("9 G722/8000")
    with pytest.raises(NotConnected) as caught:
        await dial(house, flow)
    assert (caught.value.status, caught.value.sip_code) == (CallStatus.FAILED, 488)
    await until(lambda: bool(handler.heard("BYE")))


async def test_who_hangs_up_ends_its_call(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, flow = phone
    call_id = await dial(house, flow)
    assert (await agent.request_in_dialog(handler.dialogs[0], "BYE")).code == 200
    row = await house.ended(call_id)
    assert (row.status, row.end_reason) == (CallStatus.COMPLETED, "BYE")
    await until(lambda: house.voice.ends == [(call_id, Ending.PARTY)])
    assert not house.media.streams


async def test_whom_we_hang_up_is_told(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, _, flow = phone
    call_id = await dial(house, flow)
    await house.calls.end(house.account, call_id)
    assert len(handler.heard("BYE")) == 1
    assert house.voice.ends == [(call_id, Ending.OURS)]
    assert (await house.row(call_id)).status is CallStatus.COMPLETED
    assert not await house.phone.hang_up(call_id, reason="again")


async def test_what_cannot_be_called_is_said_before_anything_happens(house: VoiceHouse) -> None:
    for nowhere in ("+15550199", "nobody", "", "sip:", "mailto:a@b"):
        with pytest.raises(NoRoute):
            house.phone.check(house.account.id, Target(nowhere))
    house.phone.check(house.account.id, Target("sip:anybody@example.com"))


# Calls that come in


async def test_a_call_that_a_document_answers(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    _, agent, _ = phone
    house.voice.numbers.add("100")
    calling = await call(
        house, agent, body=description("8 PCMA/8000", "0 PCMU/8000", "96 telephone-event/8000")
    )
    call_id = await offered(house)
    assert house.voice.calls_offered == [(call_id, "100")]
    row = await house.row(call_id)
    assert (row.status, row.from_) == (CallStatus.RINGING, "+15550123")
    await house.phone.answer(call_id)
    await house.phone.answer(call_id)
    dialog, body = await calling
    answer = sdp.SessionDescription.parse(body).media[0]
    assert [one.payload_type for one in answer.codecs] == [8, 96]
    assert answer.port == house.media.sockets(call_id).rtp_port
    assert (await house.row(call_id)).status is CallStatus.IN_PROGRESS
    assert house.media.attended == {call_id}
    assert (await agent.request_in_dialog(dialog, "OPTIONS")).code == 200
    assert (await agent.request_in_dialog(dialog, "BYE")).code == 200
    await until(lambda: house.voice.ends == [(call_id, Ending.PARTY)])
    assert (await house.row(call_id)).status is CallStatus.COMPLETED


@pytest.mark.parametrize(
    ("busy", "code", "status"),
    [(True, 486, CallStatus.BUSY), (False, 603, CallStatus.NO_ANSWER)],
)
async def test_a_call_that_a_document_rejects(
    house: VoiceHouse,
    phone: tuple[Phone, UserAgent, Flow],
    busy: bool,
    code: int,
    status: CallStatus,
) -> None:
    house.voice.numbers.add("100")
    calling = await call(house, phone[1])
    call_id = await offered(house)
    await house.phone.reject(call_id, busy=busy)
    with pytest.raises(RequestRefused) as caught:
        await calling
    assert caught.value.status == code
    assert (await house.row(call_id)).status is status
    assert house.voice.ends == [(call_id, Ending.OURS)]
    with pytest.raises(NotConnected):
        await house.phone.answer(call_id)


async def test_who_gives_up_before_it_is_answered(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    house.voice.numbers.add("100")
    calling = await call(house, phone[1])
    call_id = await offered(house)
    calling.cancel()
    await until(lambda: house.voice.ends == [(call_id, Ending.PARTY)])
    row = await house.row(call_id)
    assert (row.status, row.sip_result_code) == (CallStatus.CANCELED, 487)
    with pytest.raises(NotConnected):
        await house.phone.answer(call_id)
    assert not house.media.streams


async def test_a_call_that_describes_itself_in_its_ack(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    _, agent, _ = phone
    house.voice.numbers.add("100")
    request = agent.new_request("INVITE", house.uri("100"), from_uri="sip:eve@127.0.0.1")
    async with agent.outgoing_invite(request, [house.flow]) as attempt:
        call_id = await offered(house)
        answering = asyncio.create_task(house.phone.answer(call_id))
        response = await attempt.final()
        offer = sdp.SessionDescription.parse(response.body).media[0]
        assert [one.payload_type for one in offer.codecs] == [0, 8, 101]
        assert not house.media.attended
        await attempt.acknowledge(body=description("8 PCMA/8000"), content_type="application/sdp")
        await answering
    assert house.media.attended == {call_id}
    assert [one.name for one in house.media.streams[call_id].codecs] == ["PCMA"]


async def test_a_call_that_offers_nothing_we_play_is_refused(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    house.voice.numbers.add("100")
    with pytest.raises(RequestRefused) as caught:
        await (await call(house, phone[1], body=description("9 G722/8000")))
    assert caught.value.status == 488
    assert house.voice.calls_offered == []


# Two that are connected


async def two_connected(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow], *, answer_first: bool
) -> tuple[str, str, Dialog, bytes]:
    """A caller, and the phone that a document dialled for it."""
    _, agent, flow = phone
    house.voice.numbers.add("100")
    calling = await call(
        house, agent, body=description("8 PCMA/8000", "96 telephone-event/8000", port=41000)
    )
    first = await offered(house)
    if answer_first:
        await house.phone.answer(first)
    second = await dial(house, flow, beside=first)
    await house.phone.connect(first, second)
    dialog, body = await calling
    return first, second, dialog, body


@pytest.mark.parametrize("answer_first", [True, False])
async def test_two_that_are_connected_speak_the_same_codec(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow], answer_first: bool
) -> None:
    handler = phone[0]
    handler.body = description("8 PCMA/8000", "96 telephone-event/8000")
    first, second, _, body = await two_connected(house, phone, answer_first=answer_first)
    types = [one.payload_type for one in handler.offer().media[0].codecs]
    answered = sdp.SessionDescription.parse(body).media[0].codecs
    assert types == [one.payload_type for one in answered] == [8, 96]
    assert house.media.bridged == {first: second, second: first}
    assert house.phone.live() == {first: second, second: first}
    assert (await house.row(first)).status is CallStatus.IN_PROGRESS
    await house.phone.part(first)
    assert house.media.attended == {first, second}
    assert house.phone.live() == {first: None, second: None}


async def test_one_that_hangs_up_leaves_the_other(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, _ = phone
    handler.body = description("8 PCMA/8000")
    first, second, dialog, _ = await two_connected(house, phone, answer_first=True)
    await agent.request_in_dialog(handler.dialogs[0], "BYE")
    await until(lambda: house.voice.ends == [(second, Ending.PARTY)])
    assert ("unbridge", second) in house.media.log
    assert house.media.attended == {first}
    assert house.phone.live() == {first: None}
    assert (await house.row(first)).status is CallStatus.IN_PROGRESS
    assert (await agent.request_in_dialog(dialog, "OPTIONS")).code == 200


async def test_calls_of_different_codecs_are_made_to_fit(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, flow = phone
    house.voice.numbers.add("100")
    calling = await call(house, agent, body=description("8 PCMA/8000", port=41000))
    first = await offered(house)
    await house.phone.answer(first)
    second = await dial(house, flow)  # not beside the other: it answers with PCMU
    handler.body = description("8 PCMA/8000", version=2)
    await house.phone.connect(first, second)
    await calling
    assert [one.payload_type for one in handler.offer(1).media[0].codecs] == [8]
    assert [one.name for one in house.media.streams[second].codecs] == ["PCMA"]
    assert house.media.bridged[first] == second


# Within a call


async def test_hold_and_resume_are_answered_here(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, flow = phone
    call_id = await dial(house, flow)
    (dialog,) = handler.dialogs
    for direction, ours in (("sendonly", "recvonly"), ("inactive", "inactive")):
        response = await agent.request_in_dialog(
            dialog,
            "INVITE",
            body=description(direction=direction, version=2),
            content_type="application/sdp",
        )
        assert response.code == 200
        assert sdp.SessionDescription.parse(response.body).media[0].direction == ours
        assert not house.media.streams[call_id].receiving
    response = await agent.request_in_dialog(
        dialog, "INVITE", body=description(port=45000, version=3), content_type="application/sdp"
    )
    assert sdp.SessionDescription.parse(response.body).media[0].direction == "sendrecv"
    stream = house.media.streams[call_id]
    assert (stream.receiving, stream.sending, stream.remote_port) == (True, True, 45000)


async def test_what_a_change_cannot_be_is_refused_and_the_call_goes_on(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, flow = phone
    call_id = await dial(house, flow)
    (dialog,) = handler.dialogs
    before = house.media.streams[call_id]
    response = await agent.request_in_dialog(
        dialog, "INVITE", body=description("9 G722/8000"), content_type="application/sdp"
    )
    assert response.code == 488
    assert house.media.streams[call_id] == before
    response = await agent.request_in_dialog(
        dialog, "REFER", headers=[("Refer-To", "<sip:carol@example.com>")]
    )
    assert response.code == 603
    assert house.voice.ends == []


async def test_a_connected_party_keeps_the_codec_of_the_other(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, _ = phone
    handler.body = description("8 PCMA/8000")
    _, second, _, _ = await two_connected(house, phone, answer_first=True)
    (dialog,) = handler.dialogs
    response = await agent.request_in_dialog(
        dialog, "INVITE", body=description("0 PCMU/8000"), content_type="application/sdp"
    )
    assert response.code == 488
    assert [one.name for one in house.media.streams[second].codecs] == ["PCMA"]


async def test_a_re_invite_without_an_offer_is_offered_our_side(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, flow = phone
    call_id = await dial(house, flow)
    (dialog,) = handler.dialogs
    response = await agent.request_in_dialog(dialog, "INVITE", acknowledge=False)
    offer = sdp.SessionDescription.parse(response.body).media[0]
    assert [one.payload_type for one in offer.codecs] == [0, 101]
    await agent.acknowledge(
        dialog,
        response.cseq.sequence,
        body=description(port=46000, version=2),
        content_type="application/sdp",
    )
    await until(lambda: house.media.streams[call_id].remote_port == 46000)


@pytest.mark.parametrize(
    ("kind", "body", "code", "keys"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", 200, ["5"]),
        ("application/dtmf-relay", b"Signal= 11\r\n", 200, ["#"]),
        ("application/dtmf", b"*", 200, ["*"]),
        ("application/dtmf", b"hello", 400, []),
        ("text/plain", b"5", 415, []),
    ],
)
async def test_keys_in_info_are_heard(
    house: VoiceHouse,
    phone: tuple[Phone, UserAgent, Flow],
    kind: str,
    body: bytes,
    code: int,
    keys: list[str],
) -> None:
    handler, agent, flow = phone
    call_id = await dial(house, flow)
    response = await agent.request_in_dialog(
        handler.dialogs[0], "INFO", body=body, content_type=kind
    )
    assert response.code == code
    assert house.voice.keys == [DigitHeard(call_id, key) for key in keys]


async def test_a_silent_party_that_is_gone_ends_its_call(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, _, flow = phone
    call_id = await dial(house, flow)
    await house.telephony.door.check_on(call_id)
    assert house.voice.ends == []

    async def gone(incoming: IncomingRequest) -> None:
        handler.seen.append(incoming)
        incoming.respond(481)

    handler.handle_request = gone  # type: ignore[method-assign]
    await house.telephony.door.check_on(call_id)
    assert house.voice.ends == [(call_id, Ending.PARTY)]


# A restart


async def test_a_new_process_goes_on_with_calls(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, _ = phone
    handler.body = description("8 PCMA/8000")
    first, second, dialog, _ = await two_connected(house, phone, answer_first=True)
    await house.restarted()
    assert house.phone.live() == {first: second, second: first}
    assert (await agent.request_in_dialog(dialog, "BYE")).code == 200
    await until(lambda: house.voice.ends == [(first, Ending.PARTY)])
    assert house.media.attended == {second}
    await house.calls.end(house.account, second)
    assert len(handler.heard("BYE")) == 1


async def test_who_is_dialled_may_speak_whoever_it_is(
    tmp_path: Path, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, agent, flow = phone
    async with open_voice_house(tmp_path, accept_loopback=False) as house:
        call_id = await dial(house, flow)
        assert (await agent.request_in_dialog(handler.dialogs[0], "BYE")).code == 200
        assert (await house.ended(call_id)).status is CallStatus.COMPLETED
        request = agent.new_request("OPTIONS", house.uri("100"), from_uri="sip:eve@127.0.0.1")
        assert (await agent.request(request, house.flow)).code == 403


# What goes wrong


async def test_without_an_ack_the_call_ends(house: VoiceHouse) -> None:
    house.voice.numbers.add("100")
    async with RawPeer(house.flow) as peer:
        invite = peer.wire(
            "INVITE", extra="Content-Type: application/sdp\r\n", body=description()
        ).replace(b"INVITE sip:srs@", b"INVITE sip:100@")
        await peer.send(invite)
        call_id = await offered(house)
        await house.phone.answer(call_id)
        house.clock.ahead = 40
        row = await house.ended(call_id)
        assert (row.status, row.end_reason) == (CallStatus.FAILED, "no ACK for our 200")
        await until(lambda: house.voice.ends == [(call_id, Ending.PARTY)])


async def test_a_cancel_that_crosses_the_answer(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    house.voice.numbers.add("100")
    calling = await call(house, phone[1])
    call_id = await offered(house)
    held = asyncio.Event()
    attend = house.media.attend

    async def slowly(call_id: str) -> None:
        await held.wait()
        await attend(call_id)

    house.media.attend = slowly  # type: ignore[method-assign]
    answering = asyncio.create_task(house.phone.answer(call_id))
    await until(lambda: ("update", call_id) in house.media.log)
    calling.cancel()
    await until(lambda: len(house.phone) == 0)
    held.set()
    with pytest.raises(NotConnected):
        await answering
    assert (await house.ended(call_id)).status is CallStatus.CANCELED
    await until(lambda: house.voice.ends == [(call_id, Ending.PARTY)])
    assert not house.media.streams


@pytest.mark.parametrize("step", ["open", "update", "attend"])
async def test_where_the_media_workers_cannot_a_dialled_call_fails(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow], step: str
) -> None:
    handler, _, flow = phone
    house.media.fail.add(step)
    with pytest.raises(NotConnected) as caught:
        await dial(house, flow)
    assert caught.value.status is CallStatus.FAILED
    await until(lambda: len(handler.heard("BYE")) == (step != "open"))
    assert not house.media.streams
    (row,) = await house.calls_ever()
    assert row.status is CallStatus.FAILED


@pytest.mark.parametrize("step", ["update", "attend"])
async def test_where_the_media_workers_cannot_an_answer_is_a_refusal(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow], step: str
) -> None:
    house.voice.numbers.add("100")
    calling = await call(house, phone[1])
    call_id = await offered(house)
    house.media.fail.add(step)
    with pytest.raises(NotConnected):
        await house.phone.answer(call_id)
    with pytest.raises(RequestRefused) as caught:
        await calling
    assert caught.value.status == 503
    assert (await house.row(call_id)).status is CallStatus.FAILED
    assert house.voice.ends == [(call_id, Ending.OURS)]


async def test_a_call_whose_row_is_over_is_not_taken(
    house: VoiceHouse, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    handler, _, flow = phone

    async def late(incoming: IncomingRequest) -> None:
        (row,) = await house.calls_ever()
        await house.calls.ended(row.id, CallStatus.CANCELED, reason="by the API")
        await handler.answers(incoming)

    handler.on_invite = late
    with pytest.raises(NotConnected):
        await dial(house, flow)
    await until(lambda: len(handler.heard("BYE")) == 1)
    assert len(house.phone) == 0


async def test_a_recording_by_policy_begins_with_the_answer(
    tmp_path: Path, phone: tuple[Phone, UserAgent, Flow]
) -> None:
    async with open_voice_house(tmp_path, loopback_record="dual") as house:
        house.voice.numbers.add("100")
        calling = await call(house, phone[1])
        call_id = await offered(house)
        assert not house.media.live
        await house.phone.answer(call_id)
        assert list(house.media.live.values()) == [call_id]
        await calling
