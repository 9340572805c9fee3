"""What a phone answers to a peer that says anything, in and out of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callreel.base.errors import PeerError
from callreel.phone import softphone
from callreel.phone.call import CallFailed, Ending, EventKind, PhoneCall
from callreel.phone.softphone import Phone
from callreel.signalling.user_agent import IncomingRequest, RequestRefused
from callreel.wire.sdp import Direction, SessionDescription
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.session_timer import SessionTimer
from tests.phone.phones import Phones, talk
from tests.phone.raw import SDP, RawPeer, sdp


@pytest.fixture
async def peer() -> AsyncIterator[RawPeer]:
    made = RawPeer()
    await made.start()
    yield made
    await made.agent.close()


async def answered(
    phone: Phone, peer: RawPeer, *headers: tuple[str, str]
) -> tuple[PhoneCall, Dialog]:
    """A call from the peer, answered."""
    calling = asyncio.create_task(peer.call(phone, sdp(), headers=headers))
    call = await phone.next_call()
    phone.answer(call)
    dialog, _ = await calling
    return call, dialog


async def test_hold_and_codec_change_by_reinvite_and_update(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    call, dialog = await answered(phone, peer)
    for method in ("INVITE", "UPDATE"):
        response = await peer.within(dialog, method, sdp("a=sendonly", version=2))
        answer = SessionDescription.parse(response.body)
        assert answer.media[0].direction is Direction.RECVONLY
        assert call.is_held
        response = await peer.within(dialog, method, sdp(version=3, formats="8"))
        answer = SessionDescription.parse(response.body)
        assert answer.media[0].formats == ("8",)
        assert answer.media[0].direction is Direction.SENDRECV
        assert not call.is_held
        assert phone.summary(call).codec == "PCMA"
        await peer.within(dialog, method, sdp(version=4, port=40_002))
        assert call.negotiation is not None
        assert call.negotiation.agreed is not None
        assert call.negotiation.agreed.remote == ("127.0.0.1", 40_002)
    kinds = [event.kind for event in call.events]
    changes = [EventKind.HELD, EventKind.CODEC, EventKind.UNHELD, EventKind.CODEC]
    assert kinds == [EventKind.INCOMING, EventKind.ANSWERED, *changes, *changes]


async def test_a_late_offer(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(talk(codecs=("PCMA",)), takes_calls=True)
    request = peer.agent.new_request("INVITE", phone.uri(), from_uri=peer.uri)
    flow = await peer.agent.resolve(phone.uri())
    inviting = asyncio.create_task(peer.agent.request(request, flow))
    call = await phone.next_call()
    phone.answer(call)
    response = await inviting
    offer = SessionDescription.parse(response.body)
    assert offer.media[0].formats == ("8", "101")
    assert not call.is_answered
    dialog = Dialog.uac(request, response, flow)
    await peer.agent.acknowledge(dialog, 1, body=sdp(formats="8"), content_type=SDP)
    await asyncio.wait_for(call.wait_for(EventKind.ANSWERED), 2)
    assert phone.summary(call).codec == "PCMA"


async def test_a_reinvite_without_an_offer_gets_ours(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    _, dialog = await answered(phone, peer)
    flow = await peer.agent.flow_of(dialog)
    request = dialog.request("INVITE", contact=peer.agent.contact(flow))
    response = await peer.agent.request(request, flow)
    assert SessionDescription.parse(response.body).media[0].formats == ("0", "8", "101")
    body = sdp("a=inactive", version=2)
    await peer.agent.acknowledge(dialog, request.cseq.sequence, body=body, content_type=SDP)
    response = await peer.within(dialog, "OPTIONS")
    assert response.code == 200


async def test_nothing_in_common_leaves_the_call_as_it_is(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    call, dialog = await answered(phone, peer)
    assert (await peer.within(dialog, "INVITE", sdp(formats="18", version=2))).code == 488
    assert (
        await peer.within(
            dialog,
            "INVITE",
            b"m=audio x",
        )
    ).code == 400
    assert call.ended_by is None
    assert (await peer.within(dialog, "BYE")).code == 200
    assert call.ended_by is Ending.PEER


async def test_transfers_are_declined_and_strangers_told_so(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    call, dialog = await answered(phone, peer)
    refer = await peer.within(dialog, "REFER", b"", ("Refer-To", "<sip:other@127.0.0.1>"))
    assert refer.code == 603
    assert call.events[-1].kind is EventKind.TRANSFER
    unknown = await peer.within(dialog, "INFO")
    assert unknown.code == 405
    assert "INVITE" in (unknown.headers.get("Allow") or "")
    options = peer.agent.new_request("OPTIONS", phone.uri(), from_uri=peer.uri)
    flow = await peer.agent.resolve(phone.uri())
    assert (await peer.agent.request(options, flow)).code == 200
    dialog.call_id = "of-no-call"
    for method in ("BYE", "UPDATE", "INVITE", "OPTIONS"):
        assert (await peer.within(dialog, method, sdp())).code == 481


async def test_a_body_that_is_no_description(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    request = peer.agent.new_request(
        "INVITE", phone.uri(), from_uri=peer.uri, body=b"hello", content_type="text/plain"
    )
    inviting = asyncio.create_task(
        peer.agent.invite(request, await peer.agent.resolve(phone.uri()))
    )
    call = await phone.next_call()
    with pytest.raises(PeerError):
        phone.answer(call)
    with pytest.raises(RequestRefused) as caught:
        await inviting
    assert caught.value.status == 415


async def test_a_bye_while_it_rings(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    early: list[Dialog] = []
    request = peer.agent.new_request(
        "INVITE", phone.uri(), from_uri=peer.uri, body=sdp(), content_type=SDP
    )
    flow = await peer.agent.resolve(phone.uri())
    inviting = asyncio.create_task(
        peer.agent.invite(
            request, flow, on_provisional=lambda one: early.append(Dialog.uac(request, one, flow))
        )
    )
    call = await phone.next_call()
    phone.ring(call)
    while not early:
        await asyncio.sleep(0.01)
    assert (await peer.within(early[0], "BYE")).code == 200
    with pytest.raises(RequestRefused) as caught:
        await inviting
    assert caught.value.status == 487
    assert (call.ended_by, call.status) == (Ending.PEER, 487)


async def test_two_offers_at_once(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    call, dialog = await answered(phone, peer)
    met: list[int] = []

    async def cross(incoming: IncomingRequest) -> None:
        met.append((await peer.within(dialog, "UPDATE", sdp(version=2))).code)
        incoming.respond(491 if len(met) == 1 else 200, body=sdp("a=inactive"), content_type=SDP)

    peer.on["INVITE"] = cross
    await asyncio.wait_for(phone.hold(call), 8)  # the callee waits for 2 s at most
    assert met == [491, 491]
    assert call.is_holding


async def test_an_answer_with_no_codec_of_ours_is_hung_up(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make()

    async def answer(incoming: IncomingRequest) -> None:
        incoming.respond(200, body=sdp(formats="18"), content_type=SDP)
        await incoming.acknowledged()

    peer.on["INVITE"] = answer
    with pytest.raises(CallFailed) as caught:
        await phone.call(peer.uri)
    assert caught.value.status == 488
    await peer.saw("BYE")


async def test_a_peer_that_forgot_the_call_ends_it(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    call, _ = await answered(phone, peer)

    async def forgotten(incoming: IncomingRequest) -> None:
        incoming.respond(481)

    peer.on["INVITE"] = forgotten
    with pytest.raises(PeerError):
        await phone.hold(call)
    assert (call.ended_by, call.status) == (Ending.ERROR, 481)
    assert not phone.summary(call).in_order


async def test_the_timer_of_the_peer_is_answered(peer: RawPeer, phones: Phones) -> None:
    phone = await phones.make(takes_calls=True)
    calling = asyncio.create_task(
        peer.call(phone, sdp(), headers=(("Supported", "timer"), ("Session-Expires", "1800")))
    )
    call = await phone.next_call()
    phone.answer(call)
    dialog, response = await calling
    assert response.headers.get("Session-Expires") == "1800;refresher=uac"
    assert "timer" in (response.headers.get("Require") or "")
    refreshed = await peer.within(
        dialog, "UPDATE", b"", ("Supported", "timer"), ("Session-Expires", "1200;refresher=uac")
    )
    assert refreshed.headers.get("Session-Expires") == "1200;refresher=uac"
    short = await peer.within(
        dialog, "UPDATE", b"", ("Supported", "timer"), ("Session-Expires", "30")
    )
    assert (short.code, short.headers.get("Min-SE")) == (422, "90")


class _Soon(SessionTimer):
    """A timer with the times of a hurried test."""

    def refresh_at(self, since: float) -> float | None:
        return since + 0.2 if self.we_refresh else None

    def expires_at(self, since: float) -> float:
        return since + 0.6


async def test_the_session_is_refreshed_or_ends(
    peer: RawPeer, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter((200, 200, 500))

    async def again(incoming: IncomingRequest) -> None:
        assert incoming.request.headers.get("Session-Expires") in (None, "90;refresher=uac")
        code = next(answers)
        incoming.respond(code, body=sdp() if code == 200 else b"", content_type=SDP)
        if code == 200:
            await incoming.acknowledged()

    peer.on["INVITE"] = again
    monkeypatch.setattr(softphone, "agreed_timer", lambda _: _Soon(90, "uac", we_refresh=True))
    phone = await phones.make()
    call = await phone.call(peer.uri)
    await asyncio.wait_for(call.ended.wait(), 3)
    assert (call.ended_by, call.status) == (Ending.ERROR, 408)
    assert len([one for one in peer.seen if one.request.method == "INVITE"]) == 3
    await peer.saw("BYE")
