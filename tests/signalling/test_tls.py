"""SIP over TLS: whom we trust, who trusts us, and who only wastes our time."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from itertools import count

import pytest
import uvloop
from tests.signalling.agents import BODY, Agents, Handler, listen, until
from tests.signalling.certificates import Authority
from tests.signalling.nameserver import NameServer

from callreel.base.errors import UsageError
from callreel.signalling.streams import MAX_HANDSHAKES_PER_HOST, Streams
from callreel.signalling.user_agent import RequestFailed, UserAgent
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow, Transport


async def call(client: UserAgent, uri: str) -> Dialog:
    flow = await client.resolve(uri)
    invite = client.new_request("INVITE", uri, from_uri="sip:src@example.com", body=BODY)
    dialog, _ = await client.invite(invite, flow)
    return dialog


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_call_and_the_same_connection_back(
    agents: Agents, authority: Authority, host: str
) -> None:
    handler, back = Handler(), Handler()
    server = agents.make(handler)
    client = agents.make(back, tls_context=authority.client())
    flow = await listen(server, Transport.TLS, host, context=authority.server(host))
    quoted = f"[{host}]" if ":" in host else host
    dialog = await call(client, f"sip:srs@{quoted}:{flow.port};transport=tls")
    received = handler.seen[0]
    assert received.flow.transport is Transport.TLS
    via = received.request.top_via
    assert (via.transport, via.host) == ("TLS", quoted)
    assert received.request.headers["Contact"].endswith(";transport=tls>")
    assert dialog.remote_target == f"sip:callreel@{quoted}:{flow.port};transport=tls"
    # The client listens nowhere: what the server has to say comes over the open connection.
    assert (await server.request_in_dialog(handler.dialogs[0], "OPTIONS")).code == 200
    assert back.seen[0].request.method == "OPTIONS"
    assert (await client.request_in_dialog(dialog, "BYE")).code == 200
    assert len(server._streams) == len(client._streams) == 1
    again = Dialog.from_dict(dialog.to_dict())
    assert again.flow == dialog.flow
    assert again.flow is not None
    assert again.flow.domain == host


async def test_sips_uris(agents: Agents, authority: Authority) -> None:
    handler = Handler()
    server = agents.make(handler)
    client = agents.make(tls_context=authority.client())
    flow = await listen(server, Transport.TLS, context=authority.server("127.0.0.1"))
    dialog = await call(client, f"sips:srs@127.0.0.1:{flow.port}")
    assert handler.seen[0].request.headers["Contact"].startswith("<sips:callreel@127.0.0.1:")
    assert dialog.remote_target == f"sips:callreel@127.0.0.1:{flow.port}"


def test_call_on_uvloop(authority: Authority) -> None:
    async def play() -> None:
        agents = Agents()
        server, client = agents.make(), agents.make(tls_context=authority.client())
        flow = await listen(server, Transport.TLS, context=authority.server("127.0.0.1"))
        dialog = await call(client, f"sip:srs@127.0.0.1:{flow.port};transport=tls")
        assert (await client.request_in_dialog(dialog, "BYE")).code == 200
        for agent in agents.all:
            await agent.close()

    uvloop.run(play())


async def test_the_domain_of_the_uri_is_what_must_be_certified(
    agents: Agents, authority: Authority, names: NameServer
) -> None:
    names.add("trunk.example.com", "A", "127.0.0.1")
    names.add("_sips._tcp.trunk.example.com", "SRV", "0 0 {port} edge.carrier.example.")
    names.add("edge.carrier.example", "A", "127.0.0.1")
    agents.dns_port = names.port
    client = agents.make(tls_context=authority.client())
    seen: list[str | None] = []
    for certified, accepted in (("trunk.example.com", True), ("edge.carrier.example", False)):
        context = authority.server(certified)
        context.sni_callback = lambda _socket, name, _context: seen.append(name)
        flow = await listen(agents.make(), Transport.TLS, context=context)
        names.add(
            "_sips._tcp.trunk.example.com", "SRV", f"0 0 {flow.port} edge.carrier.example.", ttl=0
        )
        if accepted:
            await call(client, "sips:srs@trunk.example.com")
        else:
            with pytest.raises(RequestFailed, match=r"certificate is not accepted: Hostname"):
                await call(client, "sips:srs@trunk.example.com")
    assert seen == ["trunk.example.com", "trunk.example.com"]


async def test_certificates_that_are_refused(agents: Agents, authority: Authority) -> None:
    trusting = agents.make(tls_context=authority.client())
    flow = await listen(agents.make(), Transport.TLS, context=authority.server("127.0.0.1"))
    expired = await listen(
        agents.make(), Transport.TLS, context=authority.server("127.0.0.1", expired=True)
    )
    with pytest.raises(RequestFailed, match="unable to get local issuer") as caught:
        await call(agents.make(), f"sip:a@127.0.0.1:{flow.port};transport=tls")
    assert caught.value.status == 503
    with pytest.raises(RequestFailed, match="certificate has expired"):
        await call(trusting, f"sip:a@127.0.0.1:{expired.port};transport=tls")
    with pytest.raises(RequestFailed, match="certificate is not accepted"):
        await call(trusting, f"sip:a@localhost:{flow.port};transport=tls")


async def test_mutual_tls(agents: Agents, authority: Authority) -> None:
    handler = Handler()
    context = authority.server("127.0.0.1", mutual=True)
    flow = await listen(agents.make(handler), Transport.TLS, context=context)
    uri = f"sip:a@127.0.0.1:{flow.port};transport=tls"
    await call(agents.make(tls_context=authority.client("pbx.example.com")), uri)
    assert len(handler.seen) == 1
    with pytest.raises(RequestFailed) as caught:
        await call(agents.make(tls_context=authority.client()), uri)
    assert caught.value.status == 503
    assert len(handler.seen) == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_below_tls_1_2(agents: Agents, authority: Authority) -> None:
    agent = agents.make()
    context = authority.server("127.0.0.1")
    flow = await listen(agent, Transport.TLS, context=context)
    old = authority.client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(flow.host, flow.port, ssl=old)
    with pytest.raises(UsageError, match=r"below 1\.2"):
        agents.make(tls_context=old)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(UsageError, match=r"below 1\.2"):
        await agent.listen_tls("127.0.0.1", context=context)


class Sink:
    """Takes what streams give."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.refused: set[str] = set()

    def message_received(self, data: bytes, flow: Flow) -> None:
        self.messages.append(data)

    def stream_broken(self, error: Exception, flow: Flow) -> None: ...

    def flow_failed(self, flow: Flow) -> None: ...

    def may_connect(self, host: str) -> bool:
        return host not in self.refused


def _connect(port: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setblocking(False)
    return peer


async def _ended(peer: socket.socket) -> None:
    """The other end closes, whatever it says before."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        try:
            while await loop.sock_recv(peer, 1000):
                pass
        except ConnectionError:
            pass


async def test_who_never_ends_the_handshake_holds_nobody_up(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = Sink()
    streams = Streams(sink, handshake_seconds=0.5, max_connections=MAX_HANDSHAKES_PER_HOST + 8)
    host, port = await streams.listen("127.0.0.1", 0, authority.server("127.0.0.1"))
    mute = [_connect(port) for _ in range(MAX_HANDSHAKES_PER_HOST - 3)]
    garbage = _connect(port)
    garbage.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n")
    await _ended(garbage)
    half = _connect(port)
    half.send(b"\x16\x03\x01\x02\x00\x01")
    reader, writer = await asyncio.open_connection(host, port, ssl=authority.client())
    message = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n"
    writer.write(b"\r\n\r\n" + message)
    assert await reader.readexactly(2) == b"\r\n"
    await until(lambda: sink.messages == [message])
    crowd = [_connect(port) for _ in range(3)]
    await _ended(crowd[-1])  # one too many of this host
    for peer in [*mute, half]:
        await _ended(peer)
    await until(lambda: len(streams._handshakes) == 0)
    writer.write(message)
    await until(lambda: len(sink.messages) == 2)
    writer.close()
    for peer in [*mute, *crowd, half, garbage]:
        peer.close()
    await streams.close()
    assert "no TLS with 127.0.0.1: TLS handshake: " in caplog.text
    assert "Traceback" not in caplog.text


async def test_strangers_get_no_handshake(authority: Authority) -> None:
    sink = Sink()
    sink.refused = {"127.0.0.1"}
    streams = Streams(sink)
    _, port = await streams.listen("127.0.0.1", 0, authority.server("127.0.0.1"))
    peer = _connect(port)
    await _ended(peer)
    assert not streams._handshakes
    peer.close()
    await streams.close()


async def test_what_comes_with_the_end_of_the_handshake_is_not_lost(authority: Authority) -> None:
    sink = Sink()
    streams = Streams(sink)
    host, port = await streams.listen("127.0.0.1", 0, authority.server("127.0.0.1"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaker = authority.client().wrap_bio(incoming, outgoing, server_hostname=host)
    reader, writer = await asyncio.open_connection(host, port)
    message = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n"
    for _ in count():
        try:
            shaker.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65_536))
    shaker.write(message)
    writer.write(outgoing.read())  # the end of the handshake and a message, in one piece
    await until(lambda: sink.messages == [message])
    writer.close()
    await streams.close()


async def test_closing_in_the_middle_of_a_handshake(authority: Authority) -> None:
    streams = Streams(Sink())
    _, port = await streams.listen("127.0.0.1", 0, authority.server("127.0.0.1"))
    peer = _connect(port)
    await until(lambda: len(streams._handshakes) == 1)
    await streams.close()
    await _ended(peer)
    peer.close()
