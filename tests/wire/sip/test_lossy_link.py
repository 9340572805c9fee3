"""Whole calls between two endpoints over a bad network, in simulated time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from callreel.testing.sip_link import LossyLink
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.endpoint import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
)
from callreel.wire.sip.flow import Transport
from callreel.wire.sip.message import Request, build_response, parse_message
from callreel.wire.sip.values import URI


class Call:
    """One call: A invites, B answers, A hangs up after ``talk_seconds``."""

    def __init__(self, link: LossyLink, number: int, *, answer: int = 200) -> None:
        self.link = link
        self.number = number
        self.answer = answer
        self.dialog_a: Dialog | None = None
        self.dialog_b: Dialog | None = None
        self.seen: Counter[str] = Counter()
        self.invite = Request("INVITE", URI.parse("sip:b@192.0.2.2"))
        self.invite.headers.set("From", f"<sip:a@192.0.2.1>;tag=a{number}")
        self.invite.headers.set("To", "<sip:b@192.0.2.2>")
        self.invite.headers.set("Call-ID", f"call-{number}")
        self.invite.headers.set("CSeq", "1 INVITE")
        self.invite.headers.set("Contact", "<sip:a@192.0.2.1>")
        self.invite.set_body(b"v=0\r\n" * 600, "application/sdp")
        self.invite_id = link.a.request(
            self.invite, link.flow_to_b, sent_by="192.0.2.1:5060", now=link.now
        )
        self.bye_id: int | None = None

    def hang_up(self) -> None:
        if self.dialog_a is not None:
            bye = self.dialog_a.request("BYE")
            self.bye_id = self.link.a.request(
                bye, self.link.flow_to_b, sent_by="192.0.2.1:5060", now=self.link.now
            )

    def on_a(self, event: Event) -> None:
        if isinstance(event, ResponseReceived) and event.transaction == self.invite_id:
            code = event.response.code
            self.seen[f"invite {code}"] += 1
            if 200 <= code < 300:
                self.dialog_a = Dialog.uac(self.invite, event.response, self.link.flow_to_b)
                self.link.a.acknowledge(
                    self.dialog_a.ack(1),
                    self.link.flow_to_b,
                    sent_by="192.0.2.1:5060",
                    now=self.link.now,
                )
        elif isinstance(event, ResponseReceived) and event.transaction == self.bye_id:
            self.seen[f"bye {event.response.code}"] += 1
        elif isinstance(event, TransactionTimedOut):
            self.seen[
                "invite timeout" if event.transaction == self.invite_id else "bye timeout"
            ] += 1

    def on_b(self, event: Event) -> None:
        link = self.link
        if isinstance(event, RequestReceived):
            self.seen[f"got {event.request.method}"] += 1
            if event.request.method == "INVITE":
                ringing = build_response(event.request, 180, to_tag=event.local_tag)
                link.b.respond(event.transaction, ringing, now=link.now)
                response = build_response(
                    event.request,
                    self.answer,
                    to_tag=event.local_tag,
                    headers=[("Contact", "<sip:b@192.0.2.2>")],
                )
                if self.answer < 300:
                    self.dialog_b = Dialog.uas(event.request, response, event.flow)
                link.b.respond(event.transaction, response, now=link.now)
            else:
                known = self.dialog_b is not None
                response = build_response(event.request, 200 if known else 481)
                link.b.respond(event.transaction, response, now=link.now)
        elif isinstance(event, AckReceived):
            self.seen["ack"] += 1
        elif isinstance(event, AckTimedOut):
            self.seen["ack timeout"] += 1


def play(link: LossyLink, call: Call, talk_seconds: float) -> None:
    link.on_event("a", call.on_a)
    link.on_event("b", call.on_b)
    link.run(talk_seconds)
    call.hang_up()
    link.run(200.0)


def assert_clean(link: LossyLink) -> None:
    assert (len(link.a), len(link.b)) == (0, 0)
    assert (link.a.next_deadline(), link.b.next_deadline()) == (None, None)


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
def test_good_network(transport: Transport) -> None:
    link = LossyLink(transport=transport)
    call = Call(link, 1)
    play(link, call, 10.0)
    assert call.seen == Counter(
        ["invite 180", "invite 200", "got INVITE", "ack", "got BYE", "bye 200"]
    )
    assert [data.split(b" ")[0] for _, side, data in link.sent if side == "a"] == [
        *(b"INVITE", b"ACK", b"BYE")
    ]
    assert call.dialog_a is not None
    assert call.dialog_b is not None
    assert call.dialog_a.id.local_tag == call.dialog_b.id.remote_tag
    assert call.dialog_a.id.remote_tag == call.dialog_b.id.local_tag
    assert_clean(link)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
    doubled=st.sampled_from([0.0, 0.5]),
    slowest=st.sampled_from([0.02, 0.4, 3.0]),
    answer=st.sampled_from([200, 486]),
)
def test_every_call_ends_on_both_sides(
    seed: int, loss: float, doubled: float, slowest: float, answer: int
) -> None:
    link = LossyLink(loss=loss, doubled=doubled, delay=(0.005, slowest), seed=seed)
    call = Call(link, seed, answer=answer)
    play(link, call, 60.0)
    seen = call.seen
    assert seen["got INVITE"] <= 1
    assert seen["got BYE"] <= 1
    # The caller is told exactly once how its INVITE ended, and its BYE if there was one.
    assert seen[f"invite {answer}"] + seen["invite timeout"] == 1
    if answer == 200:
        assert seen["ack"] + seen["ack timeout"] == seen["got INVITE"]
        assert (seen["bye 200"] + seen["bye timeout"]) == seen["invite 200"]
    assert_clean(link)


def test_an_hour_of_calls_on_a_bad_network() -> None:
    link = LossyLink(loss=0.2, doubled=0.1, delay=(0.005, 0.3), seed=7)
    outcomes: Counter[str] = Counter()
    while link.now < 3600.0:
        call = Call(link, int(link.now))
        play(link, call, 100.0)
        outcomes["completed" if call.seen["bye 200"] else "failed"] += 1
        assert_clean(link)
    assert outcomes["completed"] >= 11
    assert outcomes["failed"] <= 1


def test_lost_200s() -> None:
    link = LossyLink()
    lost = 0

    def lose(side: str, data: bytes) -> bool:
        nonlocal lost
        if side == "b" and data.startswith(b"SIP/2.0 200") and b"INVITE" in data and lost < 4:
            lost += 1
            return True
        return False

    link.lose_next = lose
    call = Call(link, 1)
    play(link, call, 20.0)
    assert lost == 4
    assert call.seen["invite 200"] == 1
    assert call.seen["ack"] == 1
    assert call.seen["bye 200"] == 1
    times = [t for t, side, data in link.sent if side == "b" and data.startswith(b"SIP/2.0 200")][
        :5
    ]
    assert [round(later - earlier, 3) for earlier, later in pairwise(times)] == [0.5, 1.0, 2.0, 4.0]


def test_lost_acks() -> None:
    link = LossyLink()
    acks = 0

    def lose(side: str, data: bytes) -> bool:
        nonlocal acks
        acks += data.startswith(b"ACK")
        return data.startswith(b"ACK") and acks <= 3

    link.lose_next = lose
    call = Call(link, 1)
    play(link, call, 20.0)
    assert acks == 4
    assert call.seen["ack"] == 1
    assert call.seen["invite 200"] == 1


def test_peer_that_never_acknowledges() -> None:
    link = LossyLink()
    link.lose_next = lambda side, data: data.startswith(b"ACK")
    call = Call(link, 1)
    play(link, call, 60.0)
    assert call.seen["ack timeout"] == 1
    assert call.seen["ack"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_cancel_over_a_bad_network(seed: int) -> None:
    link = LossyLink(loss=0.3, doubled=0.2, delay=(0.005, 0.3), seed=seed)
    seen: Counter[str] = Counter()
    pending: dict[int, RequestReceived] = {}

    def on_a(event: Event) -> None:
        if isinstance(event, ResponseReceived):
            seen[f"response {event.response.code}"] += 1
        elif isinstance(event, TransactionTimedOut):
            seen["timeout"] += 1

    def on_b(event: Event) -> None:
        if isinstance(event, RequestReceived):
            pending[event.transaction] = event
            ringing = build_response(event.request, 180, to_tag=event.local_tag)
            link.b.respond(event.transaction, ringing, now=link.now)
        elif isinstance(event, CancelReceived):
            seen["cancelled"] += 1
            invite = pending[event.transaction]
            final = build_response(invite.request, 487, to_tag=invite.local_tag)
            link.b.respond(event.transaction, final, now=link.now)

    link.on_event("a", on_a)
    link.on_event("b", on_b)
    call = Call(link, seed)
    link.a.cancel(call.invite_id, now=link.now)
    link.run(400.0)
    assert seen["response 487"] + seen["timeout"] == 1
    assert seen["cancelled"] <= 1
    if seen["response 487"]:
        assert seen["cancelled"] == 1
        assert (len(link.a), len(link.b)) == (0, 0)


def test_the_ack_carries_the_dialog() -> None:
    link = LossyLink()
    call = Call(link, 1)
    play(link, call, 5.0)
    (ack,) = [parse_message(data) for _, _, data in link.sent if data.startswith(b"ACK")]
    assert isinstance(ack, Request)
    assert call.dialog_b is not None
    assert ack.to_address.tag == call.dialog_b.id.local_tag
    assert str(ack.uri) == "sip:b@192.0.2.2"
    assert ack.cseq.sequence == 1
