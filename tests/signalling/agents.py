"""What the tests of the user agent share: agents, handlers, and peers that speak bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Self

import pytest

from callreel.signalling.resolver import Resolver
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request, Response, build_response, parse_message

BODY = b"v=0\r\n" + b"a=x:0123456789\r\n" * 300
"""Longer than any datagram that a network would carry whole."""


class JumpClock:
    """Real time, and as much more as the test wishes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def now(self) -> datetime:
        return datetime.now(UTC)


class Handler:
    """Answers everything, or does what the test says; remembers what it saw."""

    methods: tuple[str, ...] = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE")
    option_tags: tuple[str, ...] = ("timer", "siprec")

    def __init__(self) -> None:
        self.seen: list[IncomingRequest] = []
        self.acks: list[Request] = []
        self.dialogs: list[Dialog] = []
        self.on_invite: Callable[[IncomingRequest], Awaitable[None]] | None = None

    async def handle_request(self, incoming: IncomingRequest) -> None:
        self.seen.append(incoming)
        if incoming.request.method != "INVITE":
            incoming.respond(200)
        elif self.on_invite is not None:
            await self.on_invite(incoming)
        else:
            incoming.respond(180)
            self.dialogs.append(incoming.dialog())
            incoming.respond(200, body=BODY, content_type="application/sdp")
            self.acks.append(await incoming.acknowledged())


class Agents:
    """Makes user agents, each with a handler of its own, and closes them."""

    def __init__(self) -> None:
        self.all: list[UserAgent] = []
        self.clock = JumpClock()
        self.dns_port = 9

    def make(self, handler: Handler | None = None, **options: object) -> UserAgent:
        # Nothing is asked of the machine's own name servers: port 9 of loopback says nothing.
        resolver = Resolver(
            clock=self.clock, fraction=lambda: 0.5, nameservers=["127.0.0.1"], port=self.dns_port
        )
        options = {"resolver": resolver, **options}
        agent = UserAgent(
            clock=self.clock,
            ids=CountingIds(f"{len(self.all)}"),
            handler=handler or Handler(),
            **options,  # type: ignore[arg-type]
        )
        self.all.append(agent)
        return agent


async def listen(
    agent: UserAgent,
    transport: Transport,
    host: str = "127.0.0.1",
    *,
    context: ssl.SSLContext | None = None,
) -> Flow:
    if transport is Transport.TLS:
        assert context is not None
        return Flow(transport, *await agent.listen_tls(host, context=context))
    open_ = agent.listen_udp if transport is Transport.UDP else agent.listen_tcp
    return Flow(transport, *await open_(host))


class RawPeer:
    """A UDP socket or one end of a TCP connection that speaks bytes."""

    def __init__(self, target: Flow) -> None:
        self.target = (target.host, target.port)
        kind = socket.SOCK_DGRAM if target.transport is Transport.UDP else socket.SOCK_STREAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.setblocking(False)
        self.is_stream = kind == socket.SOCK_STREAM
        if not self.is_stream:
            self.socket.bind(("127.0.0.1", 0))
        self.buffer = b""

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        if self.is_stream:
            await asyncio.get_running_loop().sock_connect(self.socket, self.target)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def send(self, data: bytes) -> None:
        if self.is_stream:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
        else:
            self.socket.sendto(data, self.target)

    async def receive_bytes(self) -> bytes:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.socket, 65_536)

    async def receive(self) -> Request | Response:
        """The next message."""
        if not self.is_stream:
            return parse_message(await self.receive_bytes())
        while True:
            head, mark, rest = self.buffer.partition(b"\r\n\r\n")
            if mark:
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                if len(rest) >= length:
                    self.buffer = rest[length:]
                    return parse_message(head + mark + rest[:length])
            data = await self.receive_bytes()
            assert data, "connection closed"
            self.buffer += data

    async def response(self, code: int) -> Response:
        """The next message, which must be a response with ``code``."""
        message = await self.receive()
        assert isinstance(message, Response)
        assert message.code == code
        return message

    async def request(self, method: str) -> Request:
        """The next message, which must be a request for ``method``."""
        message = await self.receive()
        assert isinstance(message, Request)
        assert message.method == method
        return message

    async def silence(self, seconds: float = 0.1) -> None:
        """Nothing must come for a while."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_recv(self.socket, 65_536)

    def wire(
        self, method: str, *, call: str = "c1", to_tag: str = "", extra: str = "", body: bytes = b""
    ) -> bytes:
        transport = "TCP" if self.is_stream else "UDP"
        branch = f"z9hG4bK{call}{'ack' if method == 'ACK' and to_tag else ''}"
        branch += method if method in ("BYE", "OPTIONS") else ""
        number, _, cseq_method = "1 INVITE".partition(" ")
        if method != "INVITE":
            cseq_method = method
        if method == "BYE":
            number = "2"
        return (
            f"{method} sip:srs@127.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/{transport} 127.0.0.1:{self.port};rport;branch={branch}\r\n"
            f"From: <sip:src@127.0.0.1>;tag=f{call}\r\n"
            f"To: <sip:srs@127.0.0.1>{';tag=' + to_tag if to_tag else ''}\r\n"
            f"Call-ID: {call}\r\nCSeq: {number} {cseq_method}\r\n"
            f"Contact: <sip:src@127.0.0.1:{self.port}>\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task is about to bring about."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


class RawServer(RawPeer):
    """A raw UDP peer that is called."""

    def __init__(self) -> None:
        super().__init__(Flow(Transport.UDP, "127.0.0.1", 9))

    @property
    def flow(self) -> Flow:
        return Flow(Transport.UDP, "127.0.0.1", self.port)

    async def reply(
        self,
        request: Request,
        agent_port: int,
        code: int,
        *,
        tag: str = "srv",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        response = build_response(
            request,
            code,
            to_tag=tag,
            headers=[("Contact", f"<sip:srs@127.0.0.1:{self.port}>"), *headers],
            body=body,
            content_type="application/sdp" if body else None,
        )
        self.socket.sendto(bytes(response), ("127.0.0.1", agent_port))


class ReliableHandler(Handler):
    """One that speaks RFC 3262."""

    option_tags = ("timer", "100rel")
