from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.endpoint import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Endpoint,
    Event,
    MessageRefused,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request, Response, build_response, parse_message
from callreel.wire.sip.values import URI

UDP = Flow(Transport.UDP, "192.0.2.1", 5070, ("192.0.2.2", 5060))
TCP = Flow(Transport.TCP, "192.0.2.1", 40_000)


def wire(
    method: str = "INVITE",
    *,
    branch: str = ";branch=z9hG4bK1",
    extra: str = "",
    cseq: int = 1,
    to_tag: str = "",
    via: str = "SIP/2.0/UDP 192.0.2.1:5062",
) -> bytes:
    return (
        f"{method} sip:srs@192.0.2.2 SIP/2.0\r\n"
        f"Via: {via}{branch}\r\n"
        f"From: <sip:src@192.0.2.1>;tag=f\r\nTo: <sip:srs@192.0.2.2>{to_tag}\r\n"
        f"Call-ID: c\r\nCSeq: {cseq} {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    ).encode()


def endpoint(max_transactions: int = 100, max_unanswered: int = 50) -> Endpoint:
    return Endpoint(
        ids=CountingIds(),
        methods=("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"),
        option_tags=("timer", "siprec"),
        max_transactions=max_transactions,
        max_unanswered=max_unanswered,
    )


def events(core: Endpoint) -> list[Event]:
    found = []
    while (event := core.next_event()) is not None:
        found.append(event)
    return found


def answers(core: Endpoint) -> list[Response]:
    messages = [parse_message(outgoing.data) for outgoing in core.messages_to_send()]
    return [message for message in messages if isinstance(message, Response)]


def received(core: Endpoint) -> RequestReceived:
    (event,) = events(core)
    assert isinstance(event, RequestReceived)
    return event


def test_retransmission_is_the_same_request() -> None:
    core = endpoint()
    core.receive(wire(), UDP, now=0.0)
    event = received(core)
    core.receive(wire(), UDP, now=0.1)
    assert events(core) == []
    core.respond(event.transaction, build_response(event.request, 180), now=0.1)
    core.receive(wire(), UDP, now=0.2)
    assert [answer.code for answer in answers(core)] == [180, 180]
    assert len(core) == 1


@pytest.mark.parametrize("branch", [";branch=z9hG4bK2", "", ";branch=z9hG4bK", ";branch=old"])
def test_another_branch_or_sender_is_another_request(branch: str) -> None:
    core = endpoint()
    core.receive(wire("OPTIONS"), UDP, now=0.0)
    core.receive(wire("OPTIONS", branch=branch), UDP, now=0.0)
    core.receive(wire("OPTIONS", branch=branch), UDP, now=0.0)
    core.receive(wire("OPTIONS", branch=branch, via="SIP/2.0/UDP 192.0.2.1:7"), UDP, now=0.0)
    assert len(events(core)) == 3


def test_a_branch_that_is_nothing_but_the_cookie_identifies_nothing() -> None:
    core = endpoint()
    for cseq in (1, 2, 2):
        core.receive(wire("OPTIONS", branch=";branch=z9hG4bK", cseq=cseq), UDP, now=0.0)
    assert len(events(core)) == 2


@pytest.mark.parametrize("branch", [";branch=z9hG4bK1", "", ";branch=z9hG4bK"])
def test_ack_of_a_refusal_is_absorbed(branch: str) -> None:
    core = endpoint()
    core.receive(wire(branch=branch), UDP, now=0.0)
    event = received(core)
    refusal = build_response(event.request, 486, to_tag=event.local_tag)
    assert core.respond(event.transaction, refusal, now=0.0)
    assert not core.respond(event.transaction, refusal, now=0.0)
    tag = f";tag={event.local_tag}"
    core.receive(wire("ACK", branch=branch, to_tag=tag), UDP, now=0.1)
    core.messages_to_send()
    core.handle_timeout(now=100.0)
    assert (events(core), answers(core), len(core)) == ([], [], 0)
    assert core.next_deadline() is None


def test_2xx_is_repeated_until_its_ack() -> None:
    core = endpoint()
    core.receive(wire(), UDP, now=0.0)
    event = received(core)
    core.respond(
        event.transaction, build_response(event.request, 200, to_tag=event.local_tag), now=0.0
    )
    for moment in (0.5, 1.5, 3.5):
        core.handle_timeout(now=moment)
    assert [answer.code for answer in answers(core)] == [200] * 4
    ack = wire("ACK", branch=";branch=z9hG4bKack", to_tag=f";tag={event.local_tag}", extra="")
    core.receive(ack, UDP, now=3.6)
    core.receive(ack, UDP, now=3.7)
    (acknowledged,) = events(core)
    assert isinstance(acknowledged, AckReceived)
    assert acknowledged.transaction == event.transaction
    core.handle_timeout(now=60.0)
    core.receive(ack, UDP, now=61.0)
    assert (answers(core), events(core), len(core)) == ([], [], 0)


@pytest.mark.parametrize("wrong", [{"cseq": 2}, {"to_tag": ";tag=other"}])
def test_ack_of_something_else_does_not_count(wrong: dict[str, object]) -> None:
    core = endpoint()
    core.receive(wire(), UDP, now=0.0)
    event = received(core)
    core.respond(
        event.transaction, build_response(event.request, 200, to_tag=event.local_tag), now=0.0
    )
    options = {"to_tag": f";tag={event.local_tag}", "cseq": 1, "branch": ";branch=z9hG4bKa"} | wrong
    core.receive(wire("ACK", **options), UDP, now=0.1)  # type: ignore[arg-type]
    assert events(core) == []


@pytest.mark.parametrize("flow", [UDP, TCP])
def test_2xx_without_ack_is_given_up(flow: Flow) -> None:
    core = endpoint()
    core.receive(wire(), flow, now=0.0)
    event = received(core)
    core.respond(event.transaction, build_response(event.request, 200, to_tag="t"), now=0.0)
    while (deadline := core.next_deadline()) is not None:
        core.handle_timeout(now=deadline)
    assert events(core) == [AckTimedOut(event.transaction)]
    assert len(answers(core)) == 11
    assert len(core) == 0


def test_cancel_is_answered_and_told_once() -> None:
    core = endpoint()
    core.receive(wire(), UDP, now=0.0)
    event = received(core)
    core.receive(wire("CANCEL"), UDP, now=1.0)
    core.receive(wire("CANCEL"), UDP, now=1.5)
    assert events(core) == [CancelReceived(event.transaction)]
    core.respond(
        event.transaction, build_response(event.request, 487, to_tag=event.local_tag), now=2.0
    )
    replies = answers(core)
    assert [(r.code, r.cseq.method) for r in replies] == [
        (200, "CANCEL"),
        (200, "CANCEL"),
        (487, "INVITE"),
    ]
    assert {reply.to_address.tag for reply in replies} == {event.local_tag}


def test_second_cancel_over_a_stream_is_answered_but_not_told() -> None:
    core = endpoint()
    core.receive(wire(), TCP, now=0.0)
    event = received(core)
    for moment in (1.0, 2.0):
        core.receive(wire("CANCEL"), TCP, now=moment)
        core.handle_timeout(now=moment)
    assert events(core) == [CancelReceived(event.transaction)]
    assert [r.code for r in answers(core) if r.cseq.method == "CANCEL"] == [200, 200]


def test_cancel_after_the_answer_changes_nothing_and_of_nothing_is_481() -> None:
    core = endpoint()
    core.receive(wire(), UDP, now=0.0)
    event = received(core)
    core.respond(event.transaction, build_response(event.request, 200, to_tag="t"), now=0.0)
    core.receive(wire("CANCEL"), UDP, now=0.1)
    core.receive(wire("CANCEL", branch=";branch=z9hG4bKother"), UDP, now=0.1)
    assert events(core) == []
    assert [answer.code for answer in answers(core)] == [200, 200, 481]


@pytest.mark.parametrize(
    ("data", "status", "header"),
    [
        (wire("REGISTER"), 405, ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS")),
        (wire("JUMP"), 501, ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS")),
        (wire(extra="Require: SIPREC, 100rel, foo\r\n"), 420, ("Unsupported", "100rel, foo")),
    ],
)
def test_what_we_do_not_know_is_refused(data: bytes, status: int, header: tuple[str, str]) -> None:
    core = endpoint()
    core.receive(data, UDP, now=0.0)
    assert events(core) == []
    (answer,) = answers(core)
    assert answer.code == status
    assert answer.headers.get(header[0]) == header[1]
    assert answer.to_address.tag


def test_known_extension_and_max_forwards_of_zero_pass() -> None:
    core = endpoint()
    core.receive(wire(extra="Require: siprec, TIMER\r\nMax-Forwards: 0\r\n"), UDP, now=0.0)
    assert received(core).request.method == "INVITE"


def test_overload() -> None:
    core = endpoint(max_transactions=3)
    for number in range(10):
        core.receive(wire(branch=f";branch=z9hG4bK{number}"), UDP, now=0.0)
    found = events(core)
    assert sum(isinstance(event, RequestReceived) for event in found) == 3
    assert sum(isinstance(event, MessageRefused) for event in found) == 7
    replies = answers(core)
    assert [reply.code for reply in replies] == [503] * 7
    assert replies[0].headers.get("Retry-After") == "5"
    with pytest.raises(PeerError) as caught:
        core.request(Request("OPTIONS", URI.parse("sip:a")), UDP, sent_by="h:1", now=0.0)
    assert caught.value.status == 503
    core.receive(wire("ACK", branch=";branch=z9hG4bKack"), UDP, now=0.0)
    assert answers(core) == []


def test_too_many_unanswered_requests() -> None:
    core = endpoint(max_unanswered=2)
    for number in range(3):
        core.receive(wire(branch=f";branch=z9hG4bK{number}"), UDP, now=0.0)
    first, _, refused = events(core)
    assert isinstance(first, RequestReceived)
    assert isinstance(refused, MessageRefused)
    assert [reply.code for reply in answers(core)] == [503]
    core.respond(first.transaction, build_response(first.request, 486), now=0.0)
    core.receive(wire(branch=";branch=z9hG4bK3"), UDP, now=0.0)
    assert received(core).request.method == "INVITE"


@pytest.mark.parametrize(
    ("via", "flow", "port", "fallback"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5062;rport", UDP, 5070, None),
        ("SIP/2.0/UDP 192.0.2.1:5062", UDP, 5062, None),
        ("SIP/2.0/UDP 192.0.2.1", UDP, 5060, None),
        ("SIP/2.0/UDP 192.0.2.1;maddr=198.51.100.7", UDP, 5060, None),
        ("SIP/2.0/UDP 198.51.100.7:9;received=198.51.100.8", UDP, 9, None),
        ("SIP/2.0/TCP 192.0.2.1:5062", TCP, 40_000, 5062),
        ("SIP/2.0/TCP proxy.example", TCP, 40_000, 5060),
    ],
)
def test_where_the_answer_goes(via: str, flow: Flow, port: int, fallback: int | None) -> None:
    core = endpoint()
    core.receive(wire("OPTIONS", via=via), flow, now=0.0)
    event = received(core)
    core.respond(event.transaction, build_response(event.request, 200), now=0.0)
    (outgoing,) = core.messages_to_send()
    # Never to another host than the request came from.
    assert outgoing.flow == Flow(flow.transport, "192.0.2.1", port, flow.local)
    assert (outgoing.fallback.port if outgoing.fallback else None) == fallback


def test_over_tls_an_answer_goes_to_who_is_certified_for_the_via() -> None:
    core = endpoint()
    core.receive(
        wire("OPTIONS", via="SIP/2.0/TLS Proxy.example"),
        Flow(Transport.TLS, "192.0.2.1", 4),
        now=0.0,
    )
    event = received(core)
    core.respond(event.transaction, build_response(event.request, 200), now=0.0)
    (outgoing,) = core.messages_to_send()
    assert outgoing.flow == Flow(Transport.TLS, "192.0.2.1", 4)
    assert outgoing.fallback == Flow(Transport.TLS, "192.0.2.1", 5061, domain="proxy.example")


def test_malformed_request_is_answered_and_told() -> None:
    core = endpoint()
    core.receive(wire("OPTIONS", extra="Max-Forwards: x\r\n"), UDP, now=0.0)
    (event,) = events(core)
    assert isinstance(event, MessageRefused)
    assert event.status == 400
    assert [answer.code for answer in answers(core)] == [400]
    assert len(core) == 0


def test_refusing_a_stranger_keeps_nothing() -> None:
    core = endpoint()
    for data in (wire(), wire("BYE"), wire("ACK"), b"noise", b"SIP/2.0 200 OK\r\n\r\n"):
        core.refuse(data, UDP, 403)
    core.refuse(wire("OPTIONS", extra="Max-Forwards: x\r\n"), UDP, 403)
    assert [answer.code for answer in answers(core)] == [403, 403, 403]
    assert (len(core), events(core)) == (0, [])


def new_request(method: str = "INVITE") -> Request:
    message = parse_message(wire(method))
    assert isinstance(message, Request)
    return message


def reply(core: Endpoint, code: int, *, to_tag: str = "t", method: str | None = None) -> bytes:
    sent = [parse_message(outgoing.data) for outgoing in core.messages_to_send()]
    request = [m for m in sent if isinstance(m, Request) and method in (None, m.method)][-1]
    return bytes(build_response(request, code, to_tag=to_tag))


def test_response_finds_its_request() -> None:
    core = endpoint()
    transaction = core.request(new_request("OPTIONS"), UDP, sent_by="192.0.2.2:5060", now=0.0)
    data = reply(core, 200)
    core.receive(data.replace(b"z9hG4bK", b"z9hG4bKx"), UDP, now=0.1)
    core.receive(data.replace(b"1 OPTIONS", b"1 BYE"), UDP, now=0.1)
    assert events(core) == []
    core.receive(data, UDP, now=0.1)
    core.receive(data, UDP, now=0.2)
    (event,) = events(core)
    assert isinstance(event, ResponseReceived)
    assert (event.transaction, event.response.code) == (transaction, 200)


def test_response_with_two_vias_is_not_ours() -> None:
    core = endpoint()
    core.request(new_request("OPTIONS"), UDP, sent_by="192.0.2.2:5060", now=0.0)
    data = reply(core, 200).replace(b"From:", b"Via: SIP/2.0/UDP 255.255.255.255\r\nFrom:")
    core.receive(data, UDP, now=0.1)
    (event,) = events(core)
    assert isinstance(event, MessageRefused)


def test_repeated_2xx_is_acknowledged_again_without_an_event() -> None:
    core = endpoint()
    core.request(new_request(), UDP, sent_by="192.0.2.2:5060", now=0.0)
    data = reply(core, 200)
    core.receive(data, UDP, now=0.1)
    assert len(events(core)) == 1
    ack = new_request("ACK")
    ack.headers.set("To", "<sip:srs@192.0.2.2>;tag=t")
    core.acknowledge(ack, UDP, sent_by="192.0.2.2:5060", now=0.2)
    core.receive(data, UDP, now=0.7)
    core.receive(data, UDP, now=1.7)
    assert events(core) == []
    sent = core.messages_to_send()
    assert len(sent) == 3
    assert len({outgoing.data for outgoing in sent}) == 1
    core.receive(data.replace(b"tag=t\r\n", b"tag=fork\r\n"), UDP, now=1.8)
    (event,) = events(core)
    assert isinstance(event, ResponseReceived)


def test_cancel_waits_for_a_provisional_response() -> None:
    core = endpoint()
    transaction = core.request(new_request(), UDP, sent_by="192.0.2.2:5060", now=0.0)
    core.cancel(transaction, now=0.1)
    data = reply(core, 180)
    core.receive(data, UDP, now=0.2)
    core.cancel(transaction, now=0.3)
    (cancel,) = [parse_message(outgoing.data) for outgoing in core.messages_to_send()]
    assert isinstance(cancel, Request)
    assert cancel.method == "CANCEL"
    core.receive(bytes(build_response(cancel, 200)), UDP, now=0.4)
    assert [type(event) for event in events(core)] == [ResponseReceived]
    core.receive(data.replace(b"180 Ringing", b"487 Request Terminated"), UDP, now=0.5)
    (final,) = events(core)
    assert isinstance(final, ResponseReceived)
    assert final.response.code == 487
    (ack,) = [parse_message(outgoing.data) for outgoing in core.messages_to_send()]
    assert isinstance(ack, Request)
    assert ack.method == "ACK"


def test_cancelled_invite_without_final_response_times_out() -> None:
    core = endpoint()
    transaction = core.request(new_request(), UDP, sent_by="192.0.2.2:5060", now=0.0)
    core.receive(reply(core, 180), UDP, now=0.2)
    core.cancel(transaction, now=0.3)
    while (deadline := core.next_deadline()) is not None and deadline < 33.0:
        core.handle_timeout(now=deadline)
    assert [e for e in events(core) if not isinstance(e, ResponseReceived)] == [
        TransactionTimedOut(transaction)
    ]


def test_request_without_response_times_out() -> None:
    core = endpoint()
    transaction = core.request(new_request("BYE"), UDP, sent_by="192.0.2.2:5060", now=0.0)
    while (deadline := core.next_deadline()) is not None:
        core.handle_timeout(now=deadline)
    assert events(core) == [TransactionTimedOut(transaction)]
    assert len(core) == 0


def test_failed_connection_fails_what_waits_on_it() -> None:
    core = endpoint()
    first = core.request(new_request("BYE"), TCP, sent_by="192.0.2.2:5060", now=0.0)
    second = core.request(new_request(), TCP, sent_by="192.0.2.2:5060", now=0.0)
    core.request(new_request("BYE"), UDP, sent_by="192.0.2.2:5060", now=0.0)
    core.transport_failed(TCP, now=0.1)
    assert events(core) == [TransportFailed(first), TransportFailed(second)]
    assert len(core) == 1


def test_via_of_our_requests() -> None:
    core = endpoint()
    request = new_request("OPTIONS")
    core.request(request, TCP, sent_by="[2001:db8::2]:5060", now=0.0)
    via = request.top_via
    assert (via.transport, via.host, via.port) == ("TCP", "[2001:db8::2]", 5060)
    assert via.branch.startswith("z9hG4bK")
    assert "rport" in via.parameters
    assert request.max_forwards == 70
