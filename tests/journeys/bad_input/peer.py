"""A SIP peer on a bare socket: says exactly what a test wants it to say, byte by byte."""

from __future__ import annotations

import itertools
import re
import socket
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from callreel.demo.own_server import OwnServer
from tests.journeys.bad_input.sdp import BOUNDARY, CRLF, siprec

WAIT_S = 5.0
_count = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    """A response, or a request of the server's, taken apart no further than tests need."""

    start: str
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def ports(self) -> list[int]:
        return [int(port) for port in re.findall(rb"m=\S+ (\d+) ", self.body)]

    @classmethod
    def parse(cls, data: bytes) -> Reply:
        head, _, body = data.partition(b"\r\n\r\n")
        start, *lines = head.decode().split(CRLF)
        pairs = (line.partition(":") for line in lines)
        return cls(start, {name.strip().lower(): value.strip() for name, _, value in pairs}, body)


class SipPeer:
    """One socket to a server."""

    def __init__(self, server: OwnServer, transport: str = "udp", host: str = "127.0.0.1") -> None:
        self.server, self.transport = server, transport
        at, port = server.sip_uri.removeprefix("sip:").split(":")
        self.target = (at, int(port))
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind((host, 0))
        if transport == "udp":
            self.socket.connect(self.target)
        else:
            self.socket.settimeout(WAIT_S)
            self.socket.connect(self.target)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.port = self.socket.getsockname()[:2]
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, wait_s: float = WAIT_S) -> Reply | None:
        """The next message; None if none comes in time or the connection is closed."""
        deadline = time.monotonic() + wait_s
        while True:
            if self.transport == "tcp" and (found := self._framed()) is not None:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except (TimeoutError, ConnectionError):
                return None
            if self.transport == "udp":
                return Reply.parse(data)
            if not data:
                return None
            self._buffer += data

    def final(self, wait_s: float = WAIT_S) -> Reply:
        """The next final response."""
        while True:
            reply = self.receive(wait_s)
            assert reply is not None, "no answer"
            if reply.start.startswith("SIP/2.0 ") and reply.code >= 200:
                return reply

    def ask(self, data: bytes) -> Reply:
        """Send, and the final response to it."""
        self.send(data)
        return self.final()

    def closed(self, wait_s: float = WAIT_S) -> bool:
        """Whether the server closes this connection in time."""
        self.socket.settimeout(wait_s)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def request(
        self,
        method: str,
        *headers: str,
        call_id: str | None = None,
        cseq: int = 1,
        from_tag: str = "src",
        to_tag: str = "",
        body: bytes = b"",
        content_type: str = f"multipart/mixed;boundary={BOUNDARY}",
        contact: bool = True,
    ) -> bytes:
        """A request that is sound unless ``headers`` spoil it."""
        at = f"{self.host}:{self.port}"
        lines = [
            f"{method} sip:recorder@{self.target[0]}:{self.target[1]} SIP/2.0",
            f"Via: SIP/2.0/{self.transport.upper()} {at};branch=z9hG4bK-bad-{next(_count)};rport",
            "Max-Forwards: 70",
            f"From: <sip:+15550133@pbx.example.com>;tag={from_tag}",
            "To: <sip:+15550144@pbx.example.com>" + (f";tag={to_tag}" if to_tag else ""),
            f"Call-ID: {call_id or f'bad-{next(_count)}-{self.port}'}",
            f"CSeq: {cseq} {method}",
            *headers,
        ]
        if contact:
            lines.append(f"Contact: <sip:src@{at};transport={self.transport}>")
        if body:
            lines.append(f"Content-Type: {content_type}")
        if not any(header.lower().startswith("content-length") for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        return CRLF.join([*lines, "", ""]).encode() + body

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _framed(self) -> Reply | None:
        head, gap, rest = self._buffer.partition(b"\r\n\r\n")
        match = re.search(rb"(?i)content-length: *(\d+)", head)
        length = int(match[1]) if match else 0
        if not gap or len(rest) < length:
            return None
        self._buffer = rest[length:]
        return Reply.parse(head + gap + rest[:length])


@dataclass
class RawCall:
    """A session of a peer."""

    peer: SipPeer
    call_id: str = field(default_factory=lambda: f"raw-{next(_count)}-{time.monotonic_ns()}")
    to_tag: str = ""
    cseq: int = 0
    answer: Reply | None = None

    def request(
        self,
        method: str,
        *headers: str,
        body: bytes = b"",
        content_type: str = f"multipart/mixed;boundary={BOUNDARY}",
        cseq: int | None = None,
    ) -> bytes:
        """The next request of the dialog, or one with a CSeq of its own."""
        if cseq is None:
            self.cseq += 1
        return self.peer.request(
            method,
            *headers,
            call_id=self.call_id,
            cseq=self.cseq if cseq is None else cseq,
            to_tag=self.to_tag,
            body=body,
            content_type=content_type,
        )

    def ask(
        self,
        method: str,
        *headers: str,
        body: bytes = b"",
        content_type: str = f"multipart/mixed;boundary={BOUNDARY}",
        cseq: int | None = None,
    ) -> Reply:
        """The answer to it; a final one to an INVITE is acknowledged."""
        data = self.request(method, *headers, body=body, content_type=content_type, cseq=cseq)
        reply = self.peer.ask(data)
        if method == "INVITE":
            self.acknowledge(data, reply)
        return reply

    def invite(
        self,
        body: bytes | None = None,
        *headers: str,
        content_type: str = f"multipart/mixed;boundary={BOUNDARY}",
    ) -> Reply:
        """Set the session up, or try to."""
        told = siprec() if body is None else body
        return self.ask("INVITE", "Require: siprec", *headers, body=told, content_type=content_type)

    def acknowledge(self, invite: bytes, reply: Reply) -> None:
        cseq = int(reply.headers["cseq"].split()[0])
        tag = reply.headers["to"].partition(";tag=")[2]
        ack = self.peer.request("ACK", call_id=self.call_id, cseq=cseq, to_tag=tag)
        if reply.code < 300:
            self.to_tag, self.answer = tag, reply
        else:  # belongs to the INVITE's transaction (RFC 3261 §17.1.1.3)
            branch = re.search(rb"branch=[^;\r]+", invite)
            assert branch is not None
            ack = re.sub(rb"branch=[^;\r]+", branch[0], ack)
        self.peer.send(ack)

    @property
    def ports(self) -> list[int]:
        assert self.answer is not None
        return self.answer.ports

    def hang_up(self) -> None:
        assert self.ask("BYE").code == 200
