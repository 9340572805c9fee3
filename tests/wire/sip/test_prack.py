"""Reliable provisional responses: the two sides alone, and whole calls over a bad network."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from callreel.base.errors import PeerError
from callreel.testing.sip_link import CountingIds, LossyLink
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.endpoint import (
    AckReceived,
    AckTimedOut,
    Endpoint,
    Event,
    PrackReceived,
    PrackTimedOut,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
)
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request, Response, build_response, parse_message
from callreel.wire.sip.prack import (
    MAX_EARLY_DIALOGS,
    MAX_QUEUED,
    ProvisionalReceiver,
    RAck,
    Reception,
    ReliableProvisionals,
    is_required,
    is_supported,
)
from callreel.wire.sip.values import URI

UDP = Flow(Transport.UDP, "192.0.2.1", 5060, ("192.0.2.2", 5060))
METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "PRACK")


def invite(extra: str = "Supported: 100rel\r\n", branch: str = "1") -> bytes:
    return (
        "INVITE sip:b@192.0.2.2 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch}\r\n"
        "From: <sip:a@192.0.2.1>;tag=f\r\nTo: <sip:b@192.0.2.2>\r\n"
        f"Call-ID: c\r\nCSeq: 1 INVITE\r\n{extra}\r\n"
    ).encode()


def as_request(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def provisional(code: int = 183, body: bytes = b"") -> Response:
    return build_response(as_request(invite()), code, to_tag="t", body=body)


def reliable(rseq: object, *, tag: str = "t", code: int = 183) -> Response:
    response = build_response(as_request(invite()), code, to_tag=tag)
    response.headers.add("Require", "timer, 100REL")
    response.headers.set("RSeq", str(rseq))
    return response


# Values


def test_rack() -> None:
    rack = RAck.parse("776656  1 INVITE")
    assert rack == RAck(776656, 1, "INVITE")
    assert str(rack) == "776656 1 INVITE"
    assert RAck.for_response(reliable(7)) == RAck(7, 1, "INVITE")
    assert RAck.for_response(provisional()) is None
    assert RAck.for_response(reliable(7, code=200)) is None


@pytest.mark.parametrize(
    "text", ["", "1", "1 1", "x 1 INVITE", "1 1 IN VITE", "1 -1 INVITE", "1 1 ,"]
)
def test_rack_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"RAck|number"):
        RAck.parse(text)
    prack = Request("PRACK", URI.parse("sip:a"))
    with pytest.raises(PeerError, match="missing"):
        RAck.of_prack(prack)
    prack.headers.set("RAck", text)
    with pytest.raises(PeerError, match="RAck"):
        RAck.of_prack(prack)


@pytest.mark.parametrize("rseq", ["", "x", "-1", "99999999999"])
def test_rseq_that_is_none(rseq: str) -> None:
    with pytest.raises(PeerError, match="RSeq"):
        ProvisionalReceiver().receive(reliable(rseq))
    without = reliable(1)
    without.headers.remove("RSeq")
    with pytest.raises(PeerError, match="RSeq"):
        RAck.for_response(without)


def test_who_knows_the_extension() -> None:
    for extra, required, supported in (
        ("", False, False),
        ("Supported: timer, 100rel\r\n", False, True),
        ("Require: 100REL\r\n", True, True),
    ):
        request = as_request(invite(extra))
        assert (is_required(request), is_supported(request)) == (required, supported)


# The server's side


def rseqs(core: ReliableProvisionals) -> list[int]:
    return [int(response.headers["RSeq"]) for response in core.responses_to_send()]


def test_one_at_a_time_and_in_order() -> None:
    core = ReliableProvisionals(first_rseq=10)
    core.send(provisional(), now=0.0)
    core.send(provisional(180, b"v=0"), now=0.0)
    assert rseqs(core) == [10]
    assert core.description_pending
    assert not core.acknowledge(RAck(11, 1, "INVITE"), now=0.1)
    assert not core.acknowledge(RAck(10, 1, "UPDATE"), now=0.1)
    assert core.acknowledge(RAck(10, 1, "INVITE"), now=0.1)
    assert not core.acknowledge(RAck(10, 1, "INVITE"), now=0.1)
    (second,) = core.responses_to_send()
    assert (second.code, second.headers["RSeq"], second.require) == (180, "11", ["100rel"])
    assert core.acknowledge(RAck(11, 1, "INVITE"), now=0.2)
    assert not core.description_pending
    assert core.next_deadline() is None


def test_it_is_sent_again_ever_more_rarely_and_then_given_up() -> None:
    core = ReliableProvisionals(first_rseq=1)
    core.send(provisional(), now=0.0)
    times = [0.0 for _ in core.responses_to_send()]
    while (deadline := core.next_deadline()) is not None:
        core.handle_timeout(now=deadline)
        times += [deadline for _ in core.responses_to_send()]
    assert times == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert core.timed_out
    core.send(provisional(), now=33.0)
    assert core.responses_to_send() == []


def test_a_final_response_ends_the_repetition_but_a_prack_is_still_known() -> None:
    core = ReliableProvisionals(first_rseq=1)
    core.send(provisional(body=b"v=0"), now=0.0)
    core.send(provisional(), now=0.0)
    core.responses_to_send()
    core.finish()
    assert (core.next_deadline(), core.description_pending) == (None, False)
    core.handle_timeout(now=100.0)
    assert core.acknowledge(RAck(1, 1, "INVITE"), now=100.0)
    assert (core.responses_to_send(), core.timed_out) == ([], False)


def test_the_queue_is_bounded() -> None:
    core = ReliableProvisionals(first_rseq=1)
    for _ in range(MAX_QUEUED + 1):
        core.send(provisional(), now=0.0)
    with pytest.raises(PeerError) as caught:
        core.send(provisional(), now=0.0)
    assert caught.value.status == 504


# The client's side


def test_each_is_taken_once_and_in_order() -> None:
    core = ProvisionalReceiver()
    assert core.receive(provisional(180)) is Reception.PLAIN
    assert core.receive(reliable(4_294_000_000)) is Reception.NEW
    assert core.receive(reliable(4_294_000_000)) is Reception.DROPPED
    assert core.receive(reliable(4_294_000_002)) is Reception.DROPPED
    assert core.receive(reliable(1, tag="fork")) is Reception.NEW
    assert core.receive(reliable(4_294_000_001)) is Reception.NEW
    assert core.receive(reliable(4_294_000_000)) is Reception.DROPPED
    assert core.receive(reliable(2, tag="fork")) is Reception.NEW


def test_forks_are_bounded() -> None:
    core = ProvisionalReceiver()
    for number in range(MAX_EARLY_DIALOGS):
        assert core.receive(reliable(1, tag=f"t{number}")) is Reception.NEW
    assert core.receive(reliable(1, tag="more")) is Reception.DROPPED


# In the transaction layer


class Server:
    """An endpoint with one INVITE, and a hand to acknowledge with."""

    def __init__(self) -> None:
        self.core = Endpoint(ids=CountingIds(), methods=METHODS, option_tags=("100rel",))
        self.core.receive(invite(), UDP, now=0.0)
        event = self.core.next_event()
        assert isinstance(event, RequestReceived)
        self.event = event
        self.sent: list[Response] = []
        self.pracks = 0
        self.told: list[Event] = []

    def respond(
        self, code: int, *, reliable: bool = False, body: bytes = b"", now: float = 0.0
    ) -> bool:
        response = build_response(self.event.request, code, to_tag=self.event.local_tag, body=body)
        return self.core.respond(self.event.transaction, response, reliable=reliable, now=now)

    def take(self) -> list[int]:
        """The codes of what was sent since."""
        messages = [parse_message(outgoing.data) for outgoing in self.core.messages_to_send()]
        self.sent += [message for message in messages if isinstance(message, Response)]
        return [message.code for message in messages if isinstance(message, Response)]

    def prack(
        self,
        rseq: int | None = None,
        *,
        to_tag: str | None = None,
        rack: str | None = None,
        answer: bool = True,
    ) -> None:
        self.pracks += 1
        rack = rack or f"RAck: {rseq or self.sent[-1].headers['RSeq']} 1 INVITE"
        data = (
            "PRACK sip:b@192.0.2.2 SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKp{self.pracks}\r\n"
            "From: <sip:a@192.0.2.1>;tag=f\r\n"
            f"To: <sip:b@192.0.2.2>;tag={to_tag or self.event.local_tag}\r\n"
            f"Call-ID: c\r\nCSeq: {1 + self.pracks} PRACK\r\n{rack}\r\n\r\n"
        )
        self.core.receive(data.encode(), UDP, now=1.0)
        self.told += (events := self.events())
        for event in events:
            if isinstance(event, PrackReceived) and answer:
                response = build_response(event.prack.request, 200)
                self.core.respond(event.prack.transaction, response, now=1.0)

    def events(self) -> list[Event]:
        found = []
        while (event := self.core.next_event()) is not None:
            found.append(event)
        return found

    def cancel(self) -> None:
        data = invite().replace(b"INVITE", b"CANCEL")
        self.core.receive(data, UDP, now=2.0)


def test_prack_is_matched_and_told() -> None:
    server = Server()
    assert server.respond(183, reliable=True)
    assert server.take() == [183]
    assert 1 <= int(server.sent[-1].headers["RSeq"]) < 2**31
    assert server.sent[-1].require == ["100rel"]
    server.prack(answer=False)
    (event,) = server.told
    assert isinstance(event, PrackReceived)
    assert event.transaction == server.event.transaction
    assert event.prack.request.method == "PRACK"
    server.core.handle_timeout(now=5.0)
    assert server.take() == []


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"rseq": 1_000_000}, 481),
        ({"to_tag": "other"}, 481),
        ({"rack": "X: y"}, 400),
        ({"rack": "RAck: a b c"}, 400),
        ({"rack": "RAck: 1 2 INVITE"}, 481),
    ],
)
def test_prack_of_nothing(options: dict[str, object], status: int) -> None:
    server = Server()
    server.respond(183, reliable=True)
    server.take()
    server.prack(**options)  # type: ignore[arg-type]
    assert (server.take(), server.told) == ([status], [])
    server.core.handle_timeout(now=1.0)
    assert server.take() == [183]


def test_prack_that_comes_twice_counts_once() -> None:
    server = Server()
    server.respond(183, reliable=True)
    server.take()
    server.prack()
    server.prack()
    assert [type(event) for event in server.told] == [PrackReceived]
    assert server.take() == [200, 481]


def test_invite_that_comes_again_gets_the_last_provisional() -> None:
    server = Server()
    server.respond(183, reliable=True)
    server.take()
    server.core.receive(invite(), UDP, now=0.1)
    assert server.take() == [183]
    assert server.sent[0].headers["RSeq"] == server.sent[1].headers["RSeq"]


def test_2xx_waits_for_the_prack_of_a_description() -> None:
    server = Server()
    server.respond(183, reliable=True, body=b"v=0")
    server.respond(180, reliable=True)
    assert server.respond(200)
    assert not server.respond(486)
    assert server.take() == [183]
    server.prack()
    assert server.take() == [180, 200, 200]  # the second 200 is the INVITE's
    assert server.sent[-1].cseq.method == "INVITE"
    server.core.handle_timeout(now=1.6)
    assert server.take() == [200]  # the 180 is not repeated any more
    server.prack(int(server.sent[1].headers["RSeq"]))
    assert [type(event) for event in server.told] == [PrackReceived, PrackReceived]


def test_2xx_goes_out_even_if_nobody_answers_the_prack() -> None:
    server = Server()
    server.respond(183, reliable=True, body=b"v=0")
    server.respond(200)
    server.take()
    server.prack(answer=False)
    assert server.take() == []
    server.core.handle_timeout(now=33.5)
    assert server.take() == [200]
    assert TransactionTimedOut in [type(event) for event in server.events()]


def test_2xx_does_not_wait_for_the_prack_of_mere_ringing() -> None:
    server = Server()
    server.respond(180, reliable=True)
    server.respond(200)
    assert server.take() == [180, 200]


def test_refusal_does_not_wait() -> None:
    server = Server()
    server.respond(183, reliable=True, body=b"v=0")
    server.respond(486)
    assert server.take() == [183, 486]
    server.core.handle_timeout(now=0.4)
    assert server.take() == []


def test_no_prack_is_a_504() -> None:
    server = Server()
    server.respond(183, reliable=True, body=b"v=0")
    server.respond(200)
    while (deadline := server.core.next_deadline()) is not None and deadline <= 32.0:
        server.core.handle_timeout(now=deadline)
    assert server.take() == [183] * 7 + [504]
    (event,) = server.events()
    assert isinstance(event, PrackTimedOut)
    assert (event.transaction, event.response.code) == (server.event.transaction, 504)
    assert server.sent[-1].to_address.tag == server.event.local_tag
    assert server.sent[-1].headers.get("RSeq") is None


def test_cancel_before_the_prack_that_a_2xx_waits_for() -> None:
    server = Server()
    server.respond(183, reliable=True, body=b"v=0")
    server.respond(200)
    server.cancel()
    assert server.take() == [183, 200, 487]
    assert server.events() == [AckTimedOut(server.event.transaction)]


# Whole calls


class Call:
    """A invites; B rings reliably twice, with a description each time, then answers."""

    def __init__(self, link: LossyLink) -> None:
        self.link = link
        self.seen: Counter[str] = Counter()
        self.order: list[str] = []
        self.receiver = ProvisionalReceiver()
        self.early: Dialog | None = None
        self.invite = as_request(invite("Contact: <sip:a@192.0.2.1>\r\nRequire: 100rel\r\n"))
        link.a.request(self.invite, link.flow_to_b, sent_by="192.0.2.1:5060", now=0.0)
        link.on_event("a", self.on_a)
        link.on_event("b", self.on_b)
        self.pracked = 0

    def on_a(self, event: Event) -> None:
        if isinstance(event, TransactionTimedOut):
            self.seen["timed out"] += 1
        if not isinstance(event, ResponseReceived) or event.response.cseq.method != "INVITE":
            return
        response, link = event.response, self.link
        if response.code < 200:
            if self.receiver.receive(response) is not Reception.NEW:
                return
            self.order.append(response.headers["X-Number"])
            self.early = self.early or Dialog.uac(self.invite, response)
            rack = str(RAck.for_response(response))
            prack = self.early.request("PRACK", headers=[("RAck", rack)])
            link.a.request(prack, link.flow_to_b, sent_by="192.0.2.1:5060", now=link.now)
            return
        self.seen[f"final {response.code}"] += 1
        if response.code == 200:
            self.order.append("200")
            ack = Dialog.uac(self.invite, response).ack(1)
            link.a.acknowledge(ack, link.flow_to_b, sent_by="192.0.2.1:5060", now=link.now)

    def on_b(self, event: Event) -> None:
        link = self.link
        if isinstance(event, RequestReceived):
            assert event.request.method == "INVITE"
            self.seen["got INVITE"] += 1
            for number in ("1", "2", "200"):
                response = build_response(
                    event.request,
                    200 if number == "200" else 183,
                    to_tag=event.local_tag,
                    headers=[("Contact", "<sip:b@192.0.2.2>"), ("X-Number", number)],
                    body=b"v=0",
                )
                link.b.respond(event.transaction, response, reliable=number != "200", now=link.now)
        elif isinstance(event, PrackReceived):
            self.seen["prack"] += 1
            response = build_response(event.prack.request, 200)
            link.b.respond(event.prack.transaction, response, now=link.now)
        elif isinstance(event, PrackTimedOut | AckTimedOut | AckReceived):
            self.seen[type(event).__name__] += 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.9]),
    doubled=st.sampled_from([0.0, 0.5]),
    slowest=st.sampled_from([0.02, 0.4, 3.0]),
)
def test_calls_on_a_bad_network(seed: int, loss: float, doubled: float, slowest: float) -> None:
    link = LossyLink(
        loss=loss,
        doubled=doubled,
        delay=(0.005, slowest),
        seed=seed,
        methods=METHODS,
        option_tags=("100rel",),
    )
    call = Call(link)
    link.run(400.0)
    assert call.order == ["1", "2", "200"][: len(call.order)]
    assert call.seen["got INVITE"] <= 1
    assert call.seen["prack"] <= 2
    if call.seen["final 200"]:
        assert call.seen["prack"] == 2
    if loss == 0.0:
        assert call.order == ["1", "2", "200"]
        assert call.seen["AckReceived"] == 1
    assert (len(link.a), len(link.b)) == (0, 0)
    assert (link.a.next_deadline(), link.b.next_deadline()) == (None, None)


def test_lost_pracks() -> None:
    link = LossyLink(methods=METHODS, option_tags=("100rel",))
    lost = 0

    def lose(side: str, data: bytes) -> bool:
        nonlocal lost
        lost += data.startswith(b"PRACK")
        return data.startswith(b"PRACK") and lost <= 3

    link.lose_next = lose
    call = Call(link)
    link.run(60.0)
    assert call.order == ["1", "2", "200"]
    assert call.seen["prack"] == 2
    times = [t for t, side, data in link.sent if side == "b" and b"X-Number: 1\r\n" in data]
    assert [round(b - a, 3) for a, b in pairwise(times)] == [0.5, 1.0, 2.0]
