"""Calls that we place: early dialogs, forks, CANCEL, redirects, PRACK, late offers; glare."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from tests.signalling.agents import (
    Agents,
    Handler,
    RawServer,
    ReliableHandler,
    listen,
    until,
)

from callreel.base.errors import PeerError, UsageError
from callreel.signalling.user_agent import (
    DialogGone,
    IncomingRequest,
    OutgoingInvite,
    Provisional,
    RequestFailed,
    UserAgent,
)
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.glare import Glare
from callreel.wire.sip.message import Request, Response

SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n"


@dataclass
class Line:
    """A client of ours, and a peer that speaks bytes."""

    client: UserAgent
    port: int
    peer: RawServer
    rung: list[Provisional] = field(default_factory=list)

    def invite(self, body: bytes = SDP, **options: object) -> OutgoingInvite:
        request = self.client.new_request(
            "INVITE",
            f"sip:b@127.0.0.1:{self.peer.port}",
            from_uri="sip:a@h",
            body=body,
            content_type="application/sdp" if body else None,
        )
        return self.client.outgoing_invite(
            request,
            [self.peer.flow],
            on_provisional=self.rung.append,
            **options,  # type: ignore[arg-type]
        )

    async def reply(
        self, request: Request, code: int, *, tag: str = "srv", rseq: int = 0, body: bytes = b""
    ) -> None:
        headers = [("Require", "100rel"), ("RSeq", str(rseq))] if rseq else []
        await self.peer.reply(request, self.port, code, tag=tag, headers=headers, body=body)


@pytest.fixture
async def line(agents: Agents) -> AsyncIterator[Line]:
    async with RawServer() as peer:
        client = agents.make(ReliableHandler())
        port = (await listen(client, Transport.UDP)).port
        yield Line(client, port, peer)


# Forks and early dialogs


async def test_each_fork_has_an_early_dialog_and_the_first_2xx_wins(line: Line) -> None:
    async with line.invite() as attempt:
        request = await line.peer.request("INVITE")
        assert request.headers["Supported"] == "timer, 100rel"
        assert "PRACK" in request.headers["Allow"]
        await line.reply(request, 100)
        await line.reply(request, 180, tag="one")
        await line.reply(request, 183, tag="two", body=SDP)
        await line.reply(request, 180, tag="one")
        await until(lambda: len(line.rung) == 3)
        first, second, third = line.rung
        assert [one.response.code for one in line.rung] == [180, 183, 180]
        assert first.dialog is third.dialog is not second.dialog
        assert [one.id.remote_tag for one in attempt.early_dialogs] == ["one", "two"]
        assert not any(one.reliable for one in line.rung)
        assert first.dialog is not None
        update = asyncio.create_task(
            line.client.request_in_dialog(first.dialog, "UPDATE", body=SDP)
        )
        received = await line.peer.request("UPDATE")
        assert (received.to_address.tag, received.cseq.sequence) == ("one", 2)
        await line.peer.reply(received, line.port, 200)
        assert (await update).code == 200
        await line.reply(request, 200, tag="one", body=SDP)
        assert (await attempt.final()).body == SDP
        dialog = await attempt.acknowledge()
        assert dialog is first.dialog
        ack = await line.peer.request("ACK")
        assert (ack.cseq.sequence, ack.to_address.tag) == (1, "one")
        await line.reply(request, 200, tag="two")
        assert (await line.peer.request("ACK")).to_address.tag == "two"
        late = await line.peer.request("BYE")
        assert late.to_address.tag == "two"
        await line.peer.reply(late, line.port, 200)
    bye = asyncio.create_task(line.client.request_in_dialog(dialog, "BYE"))
    received = await line.peer.request("BYE")
    assert received.cseq.sequence == 3  # counts on from the early dialog
    await line.peer.reply(received, line.port, 200)
    assert (await bye).code == 200


async def test_a_provisional_without_a_tag_or_that_breaks_its_reader(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(provisional: Provisional) -> None:
        line.rung.append(provisional)
        raise ZeroDivisionError("a bug")

    request = line.client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=SDP)
    async with line.client.outgoing_invite(
        request, [line.peer.flow], on_provisional=fail
    ) as attempt:
        received = await line.peer.request("INVITE")
        await line.reply(received, 181, tag="")
        await until(lambda: len(line.rung) == 1)
        assert line.rung[0].dialog is None
        await line.reply(received, 486)
        assert (await attempt.final()).code == 486
        assert attempt.contacts == []
    assert "a bug" in caplog.text


# CANCEL


async def test_cancel_with_a_reason(line: Line) -> None:
    async with line.invite() as attempt:
        request = await line.peer.request("INVITE")
        attempt.cancel(reason='SIP;cause=200;text="Call completed elsewhere"')
        await line.peer.silence()  # not before something came back
        await line.reply(request, 180)
        cancel = await line.peer.request("CANCEL")
        assert cancel.headers["Reason"].startswith("SIP;cause=200")
        await line.peer.reply(cancel, line.port, 200)
        await line.reply(request, 487)
        assert (await attempt.final()).code == 487
        await line.peer.request("ACK")


async def test_leaving_cancels(line: Line) -> None:
    async with line.invite():
        request = await line.peer.request("INVITE")
        await line.reply(request, 180)
        await until(lambda: len(line.rung) == 1)
    cancel = await line.peer.request("CANCEL")
    await line.peer.reply(cancel, line.port, 200)
    await line.reply(request, 200)  # the answer was quicker
    await line.peer.request("ACK")
    await line.peer.request("BYE")


async def test_an_answer_that_nobody_takes_is_hung_up(line: Line) -> None:
    async with line.invite() as attempt:
        request = await line.peer.request("INVITE")
        await line.reply(request, 200)
        assert (await attempt.final()).code == 200
    assert (await line.peer.request("ACK")).cseq.sequence == 1
    await line.peer.request("BYE")


async def test_cancel_before_the_connection_stands(agents: Agents) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.TCP)
    client = agents.make()
    request = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=SDP)
    async with client.outgoing_invite(request, [flow]) as attempt:
        attempt.cancel()
        with pytest.raises(RequestFailed) as caught:
            await attempt.final()
    assert caught.value.status == 487
    assert handler.seen == []


async def test_misuse(line: Line) -> None:
    with pytest.raises(UsageError, match="no flow"):
        line.client.outgoing_invite(Request("INVITE", None), [])  # type: ignore[arg-type]
    unsent = line.invite()
    with pytest.raises(UsageError, match="not sent"):
        await unsent.final()
    async with line.invite() as attempt:
        await line.reply(await line.peer.request("INVITE"), 486)
        await attempt.final()
        with pytest.raises(UsageError, match="486"):
            await attempt.acknowledge()


# Redirects and challenges


async def test_redirect(line: Line) -> None:
    async with line.invite() as attempt:
        request = await line.peer.request("INVITE")
        await line.peer.reply(
            request,
            line.port,
            302,
            headers=[("Contact", "<sip:second@h>;q=0.5, <sip:first@h>;q=0.9")],
        )
        assert (await attempt.final()).code == 302
        assert [str(address.uri) for address in attempt.contacts] == [
            f"sip:srs@127.0.0.1:{line.peer.port}",
            "sip:first@h",
            "sip:second@h",
        ]


async def test_amended_and_sent_again(line: Line) -> None:
    asked: list[int] = []

    def amend(request: Request, response: Response) -> Request | None:
        asked.append(response.code)
        if response.code != 407:
            return None
        request.headers.set("Proxy-Authorization", "Digest x")
        return request

    async with line.invite(amend=amend) as attempt:
        first = await line.peer.request("INVITE")
        await line.reply(first, 407)
        await line.peer.request("ACK")
        second = await line.peer.request("INVITE")
        assert second.headers["Proxy-Authorization"] == "Digest x"
        assert (second.cseq.sequence, second.call_id) == (2, first.call_id)
        assert second.headers["Contact"] == first.headers["Contact"]
        assert len(second.via) == 1
        await line.reply(second, 486)
        assert (await attempt.final()).code == 486
    assert asked == [407, 486]


async def test_amending_ends(line: Line) -> None:
    async with line.invite(amend=lambda request, response: request) as attempt:
        for sequence in range(1, 5):
            request = await line.peer.request("INVITE")
            assert request.cseq.sequence == sequence
            await line.reply(request, 401)
            await line.peer.request("ACK")
        assert (await attempt.final()).code == 401


# Reliable provisional responses


async def test_prack_by_itself(line: Line) -> None:
    async with line.invite() as attempt:
        request = await line.peer.request("INVITE")
        await line.reply(request, 183, rseq=5, body=SDP)
        prack = await line.peer.request("PRACK")
        assert prack.headers["RAck"] == "5 1 INVITE"
        assert (prack.to_address.tag, prack.cseq.sequence) == ("srv", 2)
        await line.reply(request, 183, rseq=5, body=SDP)  # again, before it has the PRACK
        await line.reply(request, 180, rseq=7)  # out of order
        await line.peer.reply(prack, line.port, 200)
        await line.reply(request, 180, rseq=6)
        prack = await line.peer.request("PRACK")
        assert (prack.headers["RAck"], prack.cseq.sequence) == ("6 1 INVITE", 3)
        await line.peer.reply(prack, line.port, 200)
        assert [one.response.code for one in line.rung] == [183, 180]
        assert all(one.reliable and not one.needs_answer for one in line.rung)
        await line.reply(request, 180, tag="fork", rseq=77)
        prack = await line.peer.request("PRACK")
        assert (prack.to_address.tag, prack.cseq.sequence) == ("fork", 2)
        await line.peer.reply(prack, line.port, 481)
        await line.reply(request, 200)
        await attempt.final()
        await attempt.acknowledge()
        assert (await line.peer.request("ACK")).cseq.sequence == 1


async def test_an_offer_in_a_reliable_provisional_is_answered_in_the_prack(line: Line) -> None:
    async with line.invite(body=b"") as attempt:
        request = await line.peer.request("INVITE")
        assert request.body == b""
        await line.reply(request, 183, rseq=1, body=SDP)
        await until(lambda: len(line.rung) == 1)
        assert line.rung[0].needs_answer
        answering = asyncio.create_task(
            attempt.acknowledge_provisional(
                line.rung[0], body=b"v=0 answer", content_type="application/sdp"
            )
        )
        prack = await line.peer.request("PRACK")
        assert (prack.body, prack.headers["Content-Type"]) == (b"v=0 answer", "application/sdp")
        await line.peer.reply(prack, line.port, 200)
        assert (await answering).code == 200
        await line.reply(request, 183, rseq=2, body=SDP)
        assert (await line.peer.request("PRACK")).headers["RAck"] == "2 1 INVITE"


async def test_nonsense_in_a_reliable_provisional(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.invite() as attempt:
        request = await line.peer.request("INVITE")
        await line.peer.reply(request, line.port, 183, headers=[("Require", "100rel")])
        await line.reply(request, 183, tag="", rseq=3)
        await until(lambda: len(line.rung) == 1)  # without a tag there is nobody to PRACK
        await line.reply(request, 486)
        assert (await attempt.final()).code == 486
    assert "without RSeq" in caplog.text


async def ring_and_answer(incoming: IncomingRequest) -> None:
    incoming.respond(183, body=SDP, content_type="application/sdp", reliable=True)
    incoming.respond(180, reliable=True)
    incoming.respond(200)
    await incoming.acknowledged()


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
async def test_prack_between_agents(agents: Agents, transport: Transport) -> None:
    handler = ReliableHandler()
    handler.on_invite = ring_and_answer
    server, client = agents.make(handler), agents.make(ReliableHandler())
    flow = await listen(server, transport)
    await listen(client, transport)
    rung: list[Provisional] = []
    invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=SDP)
    async with client.outgoing_invite(invite, [flow], on_provisional=rung.append) as attempt:
        assert (await attempt.final()).code == 200
        dialog = await attempt.acknowledge()
    assert [(one.response.code, one.reliable) for one in rung] == [(183, True), (180, True)]
    assert (await client.request_in_dialog(dialog, "BYE")).code == 200
    assert [one.request.method for one in handler.seen] == ["INVITE", "BYE"]


async def test_reliable_only_where_the_peer_knows_how(agents: Agents) -> None:
    handler = ReliableHandler()
    handler.on_invite = ring_and_answer
    flow = await listen(agents.make(handler), Transport.UDP)
    client = agents.make()  # says nothing of 100rel
    await listen(client, Transport.UDP)
    rung: list[Provisional] = []
    invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=SDP)
    async with client.outgoing_invite(invite, [flow], on_provisional=rung.append) as attempt:
        await attempt.final()
        await attempt.acknowledge()
    assert [(one.response.code, one.reliable) for one in rung] == [(183, False), (180, False)]


@pytest.mark.parametrize("takes", [True, False])
async def test_reliable_where_required_and_a_prack_with_a_body(agents: Agents, takes: bool) -> None:
    handler = ReliableHandler()
    bodies: list[bytes] = []
    go_on = asyncio.Event()

    async def on_prack(prack: IncomingRequest) -> None:
        bodies.append(prack.request.body)
        prack.respond(200, body=b"v=0 answer", content_type="application/sdp")

    async def ring(incoming: IncomingRequest) -> None:
        incoming.respond(180, on_prack=on_prack if takes else None)
        await go_on.wait()
        incoming.respond(486)

    handler.on_invite = ring
    server, client = agents.make(handler), agents.make(ReliableHandler())
    flow = await listen(server, Transport.UDP)
    await listen(client, Transport.UDP)
    rung: list[Provisional] = []
    invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=SDP)
    invite.headers.set("Require", "100rel")
    pracks: list[asyncio.Task[Response]] = []

    def answer(provisional: Provisional) -> None:
        rung.append(provisional)
        assert provisional.dialog is not None

    client._prack = lambda provisional: asyncio.sleep(0)  # type: ignore[method-assign]
    async with client.outgoing_invite(invite, [flow], on_provisional=answer) as attempt:
        await until(lambda: len(rung) == 1)
        assert rung[0].reliable
        pracks.append(
            asyncio.create_task(attempt.acknowledge_provisional(rung[0], body=b"v=0 offer"))
        )
        response = await pracks[0]
        assert (response.code, response.body) == ((200, b"v=0 answer") if takes else (488, b""))
        go_on.set()
        assert (await attempt.final()).code == 486
    assert bodies == ([b"v=0 offer"] if takes else [])


async def test_no_prack_ends_the_invite(agents: Agents) -> None:
    handler = ReliableHandler()
    ended: list[int] = []

    async def ring(incoming: IncomingRequest) -> None:
        incoming.respond(183, reliable=True)
        await incoming.wait_cancelled()
        try:
            incoming.respond(200)
        except PeerError as error:
            ended.append(error.status)
            raise

    handler.on_invite = ring
    flow = await listen(agents.make(handler), Transport.UDP)
    async with RawServer() as peer:
        peer.target = (flow.host, flow.port)
        await peer.send(peer.wire("INVITE", extra="Supported: 100rel\r\n"))
        await peer.response(183)
        agents.clock.ahead += 33.0
        await peer.response(504)
    await until(lambda: ended == [504])


# Late offers


async def test_late_offer(agents: Agents) -> None:
    handler = Handler()
    server, client = agents.make(handler), agents.make()
    flow = await listen(server, Transport.UDP)
    await listen(client, Transport.UDP)
    invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h")
    async with client.outgoing_invite(invite, [flow]) as attempt:
        assert (await attempt.final()).body
        dialog = await attempt.acknowledge(body=b"v=0 answer", content_type="application/sdp")
    await until(lambda: [ack.body for ack in handler.acks] == [b"v=0 answer"])
    response = await client.request_in_dialog(dialog, "INVITE", acknowledge=False)
    sequence = response.cseq.sequence
    await client.acknowledge(dialog, sequence, body=b"again", content_type="application/sdp")
    await until(lambda: [ack.body for ack in handler.acks] == [b"v=0 answer", b"again"])


# Glare


@dataclass
class Pair:
    """Two agents with a call between them; the caller's dialog first."""

    caller: UserAgent
    callee: UserAgent
    ours: Dialog
    theirs: Dialog
    at_caller: Handler
    at_callee: Handler


Answer = Callable[[IncomingRequest], Awaitable[None]]


@pytest.fixture
async def pair(agents: Agents) -> Pair:
    at_caller, at_callee = Handler(), Handler()
    caller, callee = agents.make(at_caller), agents.make(at_callee)
    flow: Flow = await listen(callee, Transport.UDP)
    await listen(caller, Transport.UDP)
    invite = caller.new_request("INVITE", f"sip:b@127.0.0.1:{flow.port}", from_uri="sip:a@h")
    dialog, _ = await caller.invite(invite, flow)
    await until(lambda: len(at_callee.acks) == 1)
    assert dialog.owns_call_id
    assert not at_callee.dialogs[0].owns_call_id
    return Pair(caller, callee, dialog, at_callee.dialogs[0], at_caller, at_callee)


async def slowly(incoming: IncomingRequest) -> None:
    await asyncio.sleep(0.15)
    incoming.respond(200, body=SDP)
    await incoming.acknowledged()


async def test_crossing_reinvites_get_491(pair: Pair) -> None:
    pair.at_caller.on_invite = pair.at_callee.on_invite = slowly
    answers = await asyncio.gather(
        pair.caller.request_in_dialog(pair.ours, "INVITE", body=SDP),
        pair.callee.request_in_dialog(pair.theirs, "INVITE", body=SDP),
    )
    assert [answer.code for answer in answers] == [491, 491]
    assert len(pair.at_callee.seen) == 1  # handlers see nothing of it
    assert (await pair.caller.request_in_dialog(pair.ours, "INVITE", body=SDP)).code == 200
    assert len(pair.caller._ledger) == 0


async def test_the_callee_tries_again_first(pair: Pair) -> None:
    pair.at_caller.on_invite = pair.at_callee.on_invite = slowly
    bodies = iter([b"first", b"second", b"third"])
    pair.callee._fraction = lambda: 0.05  # type: ignore[method-assign]
    begun = asyncio.get_running_loop().time()
    crossing = asyncio.create_task(pair.caller.request_in_dialog(pair.ours, "INVITE", body=SDP))
    answer = await pair.callee.modify(pair.theirs, "INVITE", body=lambda: next(bodies))
    assert answer.code == 200
    assert (await crossing).code == 491
    assert asyncio.get_running_loop().time() - begun < 1.9  # the caller would have waited 2.1 s
    assert pair.at_caller.seen[-1].request.body == b"second"


async def test_while_a_change_is_pending_ours_is_not_sent(pair: Pair) -> None:
    pair.at_callee.on_invite = slowly
    pair.callee._fraction = lambda: 0.06  # type: ignore[method-assign]
    theirs = asyncio.create_task(pair.caller.request_in_dialog(pair.ours, "INVITE", body=SDP))
    await until(lambda: len(pair.at_callee.seen) == 2)
    with pytest.raises(Glare):
        await pair.caller.request_in_dialog(pair.ours, "UPDATE", body=SDP)
    # Without an offer there is nothing that could cross.
    assert (await pair.callee.request_in_dialog(pair.theirs, "UPDATE")).code == 200
    assert (await pair.callee.modify(pair.theirs, "UPDATE", body=SDP)).code == 200
    assert (await theirs).code == 200
    assert [one.request.method for one in pair.at_caller.seen] == ["UPDATE", "UPDATE"]


async def test_glare_without_end(pair: Pair) -> None:
    async def refuse(incoming: IncomingRequest) -> None:
        incoming.respond(491)

    pair.at_caller.on_invite = refuse
    pair.callee._fraction = lambda: 0.0  # type: ignore[method-assign]
    with pytest.raises(Glare):
        await pair.callee.modify(pair.theirs, "INVITE", body=SDP)
    assert len(pair.at_caller.seen) == 4


@pytest.mark.parametrize("status", [481, 408])
async def test_a_dialog_that_is_gone(pair: Pair, status: int) -> None:
    async def refuse(incoming: IncomingRequest) -> None:
        incoming.respond(status)

    pair.at_callee.on_invite = refuse
    with pytest.raises(DialogGone) as caught:
        await pair.caller.modify(pair.ours, "INVITE", body=SDP)
    assert caught.value.status == status


async def test_a_refusal_of_another_kind_is_the_answer(pair: Pair) -> None:
    async def refuse(incoming: IncomingRequest) -> None:
        incoming.respond(488)

    pair.at_callee.on_invite = refuse
    assert (await pair.caller.modify(pair.ours, "INVITE", body=SDP)).code == 488
