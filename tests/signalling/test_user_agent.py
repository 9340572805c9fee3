"""The user agent over real sockets on loopback, against itself and against raw peers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest
import uvloop
from tests.signalling.agents import BODY, Agents, Handler, RawPeer, RawServer, listen, until

from callreel.base.errors import CapacityError, MachineError, PeerError
from callreel.signalling.user_agent import (
    IncomingRequest,
    RequestFailed,
    RequestRefused,
    UserAgent,
)
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request
from callreel.wire.sip.session_timer import IntervalTooSmall

BOTH = pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])


# A whole call


@BOTH
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_call(agents: Agents, transport: Transport, host: str) -> None:
    handler = Handler()
    server, client = agents.make(handler), agents.make()
    try:
        flow = await listen(server, transport, host)
    except MachineError:
        pytest.skip("no IPv6 on this machine")
    await listen(client, transport, host)
    provisional: list[int] = []
    invite = client.new_request(
        "INVITE",
        f"sip:srs@{host if ':' not in host else f'[{host}]'}:{flow.port}",
        from_uri='"A" <sip:src@example.com>',
        body=BODY,
        content_type="application/sdp",
        headers=[("Require", "siprec")],
    )
    dialog, response = await client.invite(
        invite, flow, on_provisional=lambda r: provisional.append(r.code)
    )
    assert provisional == [180]
    assert (response.code, response.body) == (200, BODY)
    assert response.headers["Allow"] == "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE"
    assert response.headers["Supported"] == "timer, siprec"
    received = handler.seen[0]
    assert received.request.body == BODY
    assert received.flow.host == host
    assert handler.dialogs[0].id.remote_tag == dialog.id.local_tag
    await until(lambda: len(handler.acks) == 1)
    for method in ("UPDATE", "INVITE", "OPTIONS", "BYE"):
        answer = await client.request_in_dialog(dialog, method, body=b"v=0\r\n")
        assert answer.code == 200
    await until(lambda: len(handler.acks) == 2)
    assert [one.request.method for one in handler.seen] == [
        *("INVITE", "UPDATE", "INVITE", "OPTIONS", "BYE")
    ]
    # The server ends the next call, over what the client opened or to its Contact.
    server_dialog = handler.dialogs[-1]
    assert (await server.request_in_dialog(server_dialog, "BYE")).code == 200


async def test_many_calls_over_one_connection(agents: Agents) -> None:
    handler = Handler()
    server, client = agents.make(handler), agents.make()
    flow = await listen(server, Transport.TCP)

    async def call(number: int) -> None:
        invite = client.new_request(
            "INVITE", f"sip:srs@127.0.0.1:{flow.port}", from_uri=f"sip:{number}@h", body=BODY
        )
        dialog, _ = await client.invite(invite, flow)
        assert (await client.request_in_dialog(dialog, "BYE")).code == 200

    await asyncio.gather(*(call(number) for number in range(50)))
    assert len(handler.seen) == 100
    assert len({one.flow for one in handler.seen}) == 1
    assert len(server._streams) == 1


def test_call_on_uvloop() -> None:
    async def call() -> None:
        agents = Agents()
        handler = Handler()
        server, client = agents.make(handler), agents.make()
        for transport in (Transport.UDP, Transport.TCP):
            flow = await listen(server, transport)
            await listen(client, transport)
            invite = client.new_request(
                "INVITE", "sip:srs@127.0.0.1", from_uri="sip:a@h", body=BODY
            )
            dialog, _ = await client.invite(invite, flow)
            assert (await client.request_in_dialog(dialog, "BYE")).code == 200
        for agent in agents.all:
            await agent.close()

    uvloop.run(call())


# The server side, against bytes


@BOTH
async def test_lost_200(agents: Agents, transport: Transport) -> None:
    handler = Handler()
    server = agents.make(handler)
    flow = await listen(server, transport)
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        await peer.response(180)
        first = await peer.response(200)
        second = await peer.response(200)
        assert bytes(first) == bytes(second)
        tag = first.to_address.tag or ""
        await peer.send(peer.wire("ACK", to_tag=tag, body=b"answer"))
        await until(lambda: len(handler.acks) == 1)
        assert handler.acks[0].body == b"answer"
        await peer.silence(1.2)
        await peer.send(peer.wire("BYE", to_tag=tag))
        await peer.response(200)


async def test_2xx_that_is_never_acknowledged(agents: Agents) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.UDP)
    ended: list[int] = []

    async def answer(incoming: IncomingRequest) -> None:
        incoming.respond(200)
        try:
            await incoming.acknowledged()
        except PeerError as error:
            ended.append(error.status)

    handler.on_invite = answer
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        await peer.response(200)
        agents.clock.ahead += 33.0
        await until(lambda: ended == [408])


async def test_stream_split_at_awkward_bytes(agents: Agents) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.TCP)
    async with RawPeer(flow) as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = peer.wire("OPTIONS", body=b"a\r\n\r\nb") + peer.wire("INVITE", body=BODY)
        data += peer.wire("OPTIONS", call="c2")
        position = 0
        while position < len(data):
            size = 1 if position < 700 else 1337
            await peer.send(data[position : position + size])
            position += size
            await asyncio.sleep(0)
        await peer.response(200)
        await peer.response(180)
        await peer.response(200)
        await peer.response(200)
    assert [one.request.body for one in handler.seen] == [b"a\r\n\r\nb", BODY, b""]


@BOTH
async def test_cancel(agents: Agents, transport: Transport) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), transport)

    async def wait(incoming: IncomingRequest) -> None:
        incoming.respond(180)
        await incoming.wait_cancelled()
        incoming.respond(487)

    handler.on_invite = wait
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        ringing = await peer.response(180)
        await peer.send(peer.wire("CANCEL"))
        ok = await peer.response(200)
        assert ok.cseq.method == "CANCEL"
        final = await peer.response(487)
        assert final.cseq.method == "INVITE"
        assert final.to_address.tag == ringing.to_address.tag == ok.to_address.tag
        await peer.send(peer.wire("ACK"))
        await peer.silence(0.7)


async def test_handler_that_does_not_watch_for_the_cancel(agents: Agents) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.UDP)
    go_on = asyncio.Event()

    async def answer_late(incoming: IncomingRequest) -> None:
        await go_on.wait()
        incoming.respond(200)

    handler.on_invite = answer_late
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        await peer.response(100)
        await peer.send(peer.wire("CANCEL"))
        await peer.response(200)
        go_on.set()
        await peer.response(487)


async def test_failing_handler_is_a_500_and_disturbs_nobody(
    agents: Agents, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.UDP)

    async def fail(incoming: IncomingRequest) -> None:
        raise ZeroDivisionError("a bug")

    handler.on_invite = fail
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        await peer.response(500)
        await peer.send(peer.wire("ACK"))
        await peer.send(peer.wire("OPTIONS"))
        await peer.response(200)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (PeerError("no such codec", status=488), 488, None),
        (IntervalTooSmall(120), 422, ("Min-SE", "120")),
        (PeerError("odd", status=99), 500, None),
        (CapacityError("no ports"), 503, ("Retry-After", "5")),
        (None, 500, None),
    ],
)
async def test_what_the_handler_raises_is_the_answer(
    agents: Agents, error: Exception | None, status: int, header: tuple[str, str] | None
) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.UDP)

    async def refuse(incoming: IncomingRequest) -> None:
        if error is not None:
            raise error

    handler.on_invite = refuse
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        response = await peer.response(status)
        if header is not None:
            assert response.headers[header[0]] == header[1]


async def test_malformed_and_noise(agents: Agents, caplog: pytest.LogCaptureFixture) -> None:
    flow = await listen(agents.make(), Transport.UDP)
    async with RawPeer(flow) as peer:
        for noise in (b"\0", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 8):
            await peer.send(noise)
        await peer.send(peer.wire("INVITE", extra="Max-Forwards: x\r\n"))
        await peer.response(400)
        await peer.send(peer.wire("OPTIONS"))
        await peer.response(200)
        await peer.silence()
    assert len(caplog.records) == 1  # once a minute for each host


@BOTH
async def test_stranger_gets_403(agents: Agents, transport: Transport) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler, may_speak=lambda host: False), transport)
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        await peer.response(403)
        if transport is Transport.UDP:
            await peer.send(peer.wire("ACK"))
            await peer.send(peer.wire("OPTIONS"))
            await peer.response(403)
        else:
            assert await peer.receive_bytes() == b""  # a stranger does not hold a connection
    assert handler.seen == []


@BOTH
async def test_stranger_gets_nothing(agents: Agents, transport: Transport) -> None:
    asked: list[str] = []

    def may_speak(host: str) -> bool:
        asked.append(host)
        return False

    agent = agents.make(may_speak=may_speak, refusal_status=None)
    flow = await listen(agent, transport)
    async with RawPeer(flow) as peer:
        await peer.send(peer.wire("INVITE"))
        if transport is Transport.TCP:
            with contextlib.suppress(ConnectionResetError):
                assert await peer.receive_bytes() == b""
        else:
            await peer.silence()
    assert asked == ["127.0.0.1"]
    assert len(agent.endpoint) == 0


async def test_answer_takes_the_via_port_when_the_connection_is_gone(agents: Agents) -> None:
    handler = Handler()
    flow = await listen(agents.make(handler), Transport.TCP)
    gone = asyncio.Event()

    async def answer_late(incoming: IncomingRequest) -> None:
        await gone.wait()
        await until(lambda: len(incoming._agent._streams) == 0)
        incoming.respond(486)

    handler.on_invite = answer_late
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with RawPeer(flow) as peer:
            port = listener.getsockname()[1]
            await peer.send(
                peer.wire("INVITE").replace(
                    f"127.0.0.1:{peer.port};rport".encode(), b"127.0.0.1:%d" % port
                )
            )
            await until(lambda: len(handler.seen) == 1)
        gone.set()
        async with asyncio.timeout(5):
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with connection:
                data = await asyncio.get_running_loop().sock_recv(connection, 65_536)
    assert data.startswith(b"SIP/2.0 486")


# The client side, against bytes


async def calling(agents: Agents, peer: RawServer) -> tuple[UserAgent, int, Request]:
    client = agents.make()
    flow = await listen(client, Transport.UDP)
    invite = client.new_request(
        "INVITE", f"sip:srs@127.0.0.1:{peer.port}", from_uri="sip:a@h", body=b"v=0\r\n"
    )
    return client, flow.port, invite


async def test_repeated_2xx_is_acknowledged_again_and_a_fork_is_hung_up(agents: Agents) -> None:
    async with RawServer() as peer:
        client, port, invite = await calling(agents, peer)
        task = asyncio.create_task(client.invite(invite, peer.flow))
        request = await peer.request("INVITE")
        await peer.reply(request, port, 200)
        first = await peer.request("ACK")
        await task
        await peer.reply(request, port, 200)
        assert bytes(await peer.request("ACK")) == bytes(first)
        await peer.reply(request, port, 200, tag="fork")
        ack = await peer.request("ACK")
        assert ack.to_address.tag == "fork"
        bye = await peer.request("BYE")
        assert bye.to_address.tag == "fork"
        await peer.reply(bye, port, 200)


async def test_cancelled_task_cancels_the_call(agents: Agents) -> None:
    async with RawServer() as peer:
        client, port, invite = await calling(agents, peer)
        task = asyncio.create_task(client.invite(invite, peer.flow))
        request = await peer.request("INVITE")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await peer.reply(request, port, 180)
        cancel = await peer.request("CANCEL")
        assert cancel.top_via.branch == request.top_via.branch
        await peer.reply(cancel, port, 200)
        await peer.reply(request, port, 487)
        await peer.request("ACK")


async def test_call_that_is_answered_after_the_cancel_is_hung_up(agents: Agents) -> None:
    async with RawServer() as peer:
        client, port, invite = await calling(agents, peer)
        task = asyncio.create_task(client.invite(invite, peer.flow))
        request = await peer.request("INVITE")
        await peer.reply(request, port, 180)
        await asyncio.sleep(0.02)
        task.cancel()
        cancel = await peer.request("CANCEL")
        await peer.reply(request, port, 200)
        await peer.request("ACK")
        bye = await peer.request("BYE")
        await peer.reply(cancel, port, 200)
        await peer.reply(bye, port, 200)


async def test_refusal_of_a_call(agents: Agents) -> None:
    async with RawServer() as peer:
        client, port, invite = await calling(agents, peer)
        task = asyncio.create_task(client.invite(invite, peer.flow))
        await peer.reply(await peer.request("INVITE"), port, 486)
        await peer.request("ACK")
        with pytest.raises(RequestRefused) as caught:
            await task
        assert (caught.value.status, caught.value.response.code) == (486, 486)


async def test_no_answer_is_a_408(agents: Agents) -> None:
    async with RawServer() as peer:
        client, _, invite = await calling(agents, peer)
        task = asyncio.create_task(client.invite(invite, peer.flow))
        await peer.request("INVITE")
        again = await peer.request("INVITE")
        assert again.body == b"v=0\r\n"
        agents.clock.ahead += 40.0
        with pytest.raises(RequestFailed) as caught:
            await task
        assert caught.value.status == 408


async def test_refused_connection_is_a_503(agents: Agents) -> None:
    client = agents.make()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    request = client.new_request("OPTIONS", f"sip:h:{port}", from_uri="sip:a@h")
    with pytest.raises(RequestFailed) as caught:
        await client.request(request, Flow(Transport.TCP, "127.0.0.1", port))
    assert caught.value.status == 503


async def test_connection_that_breaks_fails_the_request(agents: Agents) -> None:
    client = agents.make()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        flow = Flow(Transport.TCP, "127.0.0.1", listener.getsockname()[1])
        request = client.new_request("OPTIONS", "sip:h", from_uri="sip:a@h")
        task = asyncio.create_task(client.request(request, flow))
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        await asyncio.get_running_loop().sock_recv(connection, 100)
        connection.close()
        with pytest.raises(RequestFailed) as caught:
            await task
        assert caught.value.status == 503


# Addresses and the end


async def test_resolve(agents: Agents) -> None:
    agent = agents.make()
    assert await agent.resolve("sip:a@127.0.0.1") == Flow(Transport.UDP, "127.0.0.1", 5060)
    assert await agent.resolve("sip:[::1]:5070;transport=tcp") == Flow(Transport.TCP, "::1", 5070)
    assert (await agent.resolve("sip:localhost", Transport.TCP)).host in ("127.0.0.1", "::1")
    assert await agent.resolve("sips:a@127.0.0.1") == Flow(
        Transport.TLS, "127.0.0.1", 5061, domain="127.0.0.1"
    )
    assert (await agent.resolve("sip:127.0.0.1;transport=tls")).transport is Transport.TLS
    for uri in ("sips:h;transport=udp", "tel:+1", "sip:h;transport=sctp", "nonsense"):
        with pytest.raises(PeerError):
            await agent.resolve(uri)


async def test_contact(agents: Agents) -> None:
    agent = agents.make(user="srs")
    flow = Flow(Transport.UDP, "127.0.0.1", 5060, ("0.0.0.0", 5077))
    assert agent.contact(flow) == "sip:srs@127.0.0.1:5077"
    six = Flow(Transport.UDP, "::1", 5060, ("::1", 5077))
    public = agents.make(public_host="2001:db8::1")
    assert public.contact(six, "x") == "sip:x@[2001:db8::1]:5077"
    assert public.contact(flow, "x") == "sip:x@127.0.0.1:5077"  # IPv6 is no use to that peer
    named = agents.make(public_host="sip.example.com")
    assert named.contact(flow) == "sip:callreel@sip.example.com:5077"
    tls = Flow(Transport.TLS, "127.0.0.1", 5061, ("127.0.0.1", 5062))
    assert agent.contact(tls) == "sip:srs@127.0.0.1:5062;transport=tls"
    assert agent.contact(tls, secure=True) == "sips:srs@127.0.0.1:5062"


async def test_taken_port(agents: Agents) -> None:
    agent = agents.make()
    udp = await listen(agent, Transport.UDP)
    tcp = await listen(agent, Transport.TCP)
    with pytest.raises(MachineError, match="udp"):
        await agent.listen_udp("127.0.0.1", udp.port)
    with pytest.raises(MachineError, match="tcp"):
        await agent.listen_tcp("127.0.0.1", tcp.port)


async def test_closing_fails_what_is_pending(agents: Agents) -> None:
    handler = Handler()
    server = agents.make(handler)
    flow = await listen(server, Transport.UDP)
    stopped: list[bool] = []

    async def wait(incoming: IncomingRequest) -> None:
        try:
            await incoming.wait_cancelled()
        finally:
            stopped.append(True)

    handler.on_invite = wait
    client = agents.make()
    await listen(client, Transport.UDP)
    invite = client.new_request("INVITE", "sip:h", from_uri="sip:a@h")
    task = asyncio.create_task(client.invite(invite, flow))
    await until(lambda: len(handler.seen) == 1)
    await client.close()
    with pytest.raises(RequestFailed):
        await task
    await server.close()
    assert stopped == [True]
    with pytest.raises(RequestFailed):
        await client.request(client.new_request("OPTIONS", "sip:h", from_uri="sip:a@h"), flow)
