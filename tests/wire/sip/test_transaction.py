from __future__ import annotations

import pytest

from callreel.wire.sip.answer import Answer
from callreel.wire.sip.message import Request, Response, build_response, parse_message
from callreel.wire.sip.transaction import (
    T1,
    T4,
    TIMEOUT,
    TIMER_D,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ResponsePassed,
    State,
    TimedOut,
    Transaction,
    build_cancel,
)


def request(method: str) -> Request:
    message = parse_message(
        f"{method} sip:b@192.0.2.2 SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx, SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKy\r\n"
        "Route: <sip:192.0.2.3;lr>\r\n"
        "From: <sip:a@192.0.2.1>;tag=a\r\nTo: <sip:b@192.0.2.2>\r\n"
        f"Call-ID: c\r\nCSeq: 7 {method}\r\nContent-Length: 3\r\n\r\nv=0".encode()
    )
    assert isinstance(message, Request)
    return message


def response(code: int, method: str = "INVITE") -> Response:
    return build_response(request(method), code, to_tag="b")


def run(transaction: Transaction, seconds: float, *, start: float = 0.0) -> list[float]:
    """Let time pass; the moments at which something was sent."""
    moments: list[float] = []
    while True:
        deadline = transaction.next_deadline()
        if deadline is None or deadline > start + seconds:
            return moments
        transaction.handle_timeout(now=deadline)
        moments += [deadline for _ in transaction.messages_to_send()]


def test_invite_is_retransmitted_until_it_times_out() -> None:
    machine = InviteClientTransaction(request("INVITE"), reliable=False, now=0.0)
    assert len(machine.messages_to_send()) == 1
    assert run(machine, 100) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert machine.next_event() == TimedOut()
    assert machine.next_event() is None
    assert machine.state is State.TERMINATED


def test_invite_is_not_retransmitted_over_a_stream() -> None:
    machine = InviteClientTransaction(request("INVITE"), reliable=True, now=0.0)
    assert len(machine.messages_to_send()) == 1
    assert run(machine, TIMEOUT - 0.01) == []
    run(machine, TIMEOUT)
    assert machine.next_event() == TimedOut()


def test_provisional_response_ends_the_retransmissions() -> None:
    machine = InviteClientTransaction(request("INVITE"), reliable=False, now=0.0)
    machine.messages_to_send()
    ringing = response(180)
    machine.receive(ringing, now=0.1)
    assert machine.next_event() == ResponsePassed(ringing)
    assert run(machine, 100) == []
    assert machine.state is State.PROCEEDING
    run(machine, 1000)
    assert machine.next_event() == TimedOut()


@pytest.mark.parametrize(("reliable", "lasts"), [(False, TIMER_D), (True, 0.0)])
def test_refused_invite_is_acknowledged_each_time(reliable: bool, lasts: float) -> None:
    machine = InviteClientTransaction(request("INVITE"), reliable=reliable, now=0.0)
    machine.messages_to_send()
    busy = response(486)
    machine.receive(busy, now=1.0)
    machine.receive(busy, now=1.0)
    assert machine.next_event() == ResponsePassed(busy)
    assert machine.next_event() is None
    acks = machine.messages_to_send()
    assert len(acks) == 2
    ack = parse_message(bytes(acks[0]))
    assert isinstance(ack, Request)
    assert ack.method == "ACK"
    assert [str(via) for via in ack.via] == ["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"]
    assert ack.to_address.tag == "b"
    assert str(ack.cseq) == "7 ACK"
    assert str(ack.route[0]) == "<sip:192.0.2.3;lr>"
    assert ack.body == b""
    assert machine.next_deadline() == 1.0 + lasts
    run(machine, lasts, start=1.0)
    assert machine.state is State.TERMINATED


def test_every_2xx_is_passed_up_and_nothing_else_after_it() -> None:
    machine = InviteClientTransaction(request("INVITE"), reliable=False, now=0.0)
    for code, moment in ((200, 1.0), (200, 2.0), (180, 3.0), (486, 4.0)):
        machine.receive(response(code), now=moment)
    events = [machine.next_event(), machine.next_event(), machine.next_event()]
    assert [event.response.code for event in events if isinstance(event, ResponsePassed)] == [
        200
    ] * 2
    assert machine.next_deadline() == 1.0 + TIMEOUT
    assert run(machine, 100)[1:] == []


def test_other_request_is_retransmitted_with_a_ceiling() -> None:
    machine = NonInviteClientTransaction(request("BYE"), reliable=False, now=0.0)
    machine.messages_to_send()
    assert run(machine, 100) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert machine.next_event() == TimedOut()


def test_other_request_slows_down_when_proceeding() -> None:
    machine = NonInviteClientTransaction(request("BYE"), reliable=False, now=0.0)
    machine.messages_to_send()
    machine.receive(response(100, "BYE"), now=0.1)
    assert run(machine, 12) == [0.5, 4.5, 8.5]
    final = response(200, "BYE")
    machine.receive(final, now=12.0)
    machine.receive(final, now=12.1)
    machine.next_event()
    assert machine.next_event() == ResponsePassed(final)
    assert machine.next_event() is None
    assert machine.next_deadline() == 12.0 + T4
    assert run(machine, 100) == []
    assert machine.state is State.TERMINATED


def test_server_says_trying_by_itself_and_repeats_it() -> None:
    machine = InviteServerTransaction(request("INVITE"), reliable=False, now=0.0)
    machine.receive(request("INVITE"), now=0.05)
    assert machine.messages_to_send() == []
    assert run(machine, 10) == [0.2]
    machine.receive(request("INVITE"), now=10.0)
    (trying,) = machine.messages_to_send()
    assert isinstance(trying, Response)
    assert trying.code == 100
    assert trying.to_address.tag is None
    assert len(trying.via) == 2


def test_server_repeats_a_refusal_until_the_ack() -> None:
    machine = InviteServerTransaction(request("INVITE"), reliable=False, now=0.0)
    busy = response(486)
    machine.respond(busy, now=0.0)
    assert machine.messages_to_send() == [busy]
    assert run(machine, 8) == [0.5, 1.5, 3.5, 7.5]
    machine.receive(request("INVITE"), now=8.0)
    assert machine.messages_to_send() == [busy]
    machine.receive(request("ACK"), now=8.1)
    assert machine.next_deadline() == 8.1 + T4
    machine.receive(request("INVITE"), now=8.2)
    assert run(machine, 100) == []
    assert machine.state is State.TERMINATED
    assert machine.next_event() is None


@pytest.mark.parametrize("reliable", [False, True])
def test_refusal_without_ack_times_out(reliable: bool) -> None:
    machine = InviteServerTransaction(request("INVITE"), reliable=reliable, now=0.0)
    machine.respond(response(486), now=0.0)
    machine.messages_to_send()
    moments = run(machine, 100)
    assert moments == ([] if reliable else [0.5, 1.5, 3.5, *(7.5 + 4 * n for n in range(7))])
    assert machine.next_event() == TimedOut()


def test_server_absorbs_retransmissions_after_its_2xx() -> None:
    machine = InviteServerTransaction(request("INVITE"), reliable=False, now=0.0)
    machine.respond(response(200), now=0.0)
    assert len(machine.messages_to_send()) == 1
    machine.receive(request("INVITE"), now=0.5)
    machine.respond(response(486), now=0.6)
    assert run(machine, 100) == []
    assert machine.state is State.TERMINATED
    assert machine.next_event() is None


@pytest.mark.parametrize(("reliable", "lasts"), [(False, TIMEOUT), (True, 0.0)])
def test_other_server_repeats_its_answer(reliable: bool, lasts: float) -> None:
    machine = NonInviteServerTransaction(reliable=reliable, now=0.0)
    machine.receive(request("BYE"), now=0.1)
    assert machine.messages_to_send() == []
    final = response(200, "BYE")
    machine.respond(final, now=1.0)
    machine.receive(request("BYE"), now=1.0)
    machine.respond(response(500, "BYE"), now=1.0)
    assert machine.messages_to_send() == [final, final]
    assert machine.next_deadline() == 1.0 + lasts
    run(machine, lasts, start=1.0)
    assert machine.state is State.TERMINATED


def test_request_that_is_never_answered_does_not_stay() -> None:
    machine = NonInviteServerTransaction(reliable=False, now=0.0)
    run(machine, TIMEOUT)
    assert machine.state is State.TERMINATED
    assert machine.next_event() == TimedOut()


def test_cancel() -> None:
    cancel = parse_message(bytes(build_cancel(request("INVITE"))))
    assert isinstance(cancel, Request)
    assert str(cancel.cseq) == "7 CANCEL"
    assert [str(via) for via in cancel.via] == ["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"]
    assert (cancel.from_address.tag, cancel.to_address.tag, cancel.body) == ("a", None, b"")


def test_2xx_is_repeated_until_the_ack_or_given_up() -> None:
    answer = Answer(response(200), now=0.0)
    moments = []
    while (deadline := answer.next_deadline()) is not None:
        answer.handle_timeout(now=deadline)
        moments += [deadline] if answer.response_to_send() else []
    assert moments == [0.5, 1.5, 3.5, *(7.5 + 4 * n for n in range(7))]
    assert answer.timed_out
    assert not answer.acknowledge()
    answer = Answer(response(200), now=0.0)
    answer.handle_timeout(now=T1)
    assert answer.acknowledge()
    assert not answer.acknowledge()
    assert answer.next_deadline() is None
