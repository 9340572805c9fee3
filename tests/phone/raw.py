"""A peer whose every message a test says: a bare user agent on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from callreel.phone.softphone import Phone
from callreel.server.system import RandomIds, SystemClock
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.message import Response

SDP = "application/sdp"


def sdp(*lines: str, port: int = 40_000, version: int = 1, formats: str = "0 8 101") -> bytes:
    head = ("v=0", f"o=- 5 {version} IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
            f"m=audio {port} RTP/AVP {formats}", "a=rtpmap:101 telephone-event/8000")  # fmt: skip
    return "".join(f"{line}\r\n" for line in (*head, *lines)).encode()


class RawPeer:
    """Answers requests as the test says, 200 otherwise; sends what the test wants."""

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "REGISTER", "REFER", "INFO")
    option_tags = ("timer",)

    def __init__(self) -> None:
        self.seen: list[IncomingRequest] = []
        self.on: dict[str, Callable[[IncomingRequest], Awaitable[None]]] = {}
        self.agent = UserAgent(clock=SystemClock(), ids=RandomIds(), handler=self, user="raw")
        self.port = 0

    async def start(self) -> None:
        _, self.port = await self.agent.listen_udp("127.0.0.1", 0)

    @property
    def uri(self) -> str:
        return f"sip:raw@127.0.0.1:{self.port}"

    async def handle_request(self, incoming: IncomingRequest) -> None:
        self.seen.append(incoming)
        handle = self.on.get(incoming.request.method)
        if handle is None:
            incoming.respond(200)
        else:
            await handle(incoming)

    async def call(
        self, phone: Phone, body: bytes = b"", *, headers: tuple[tuple[str, str], ...] = ()
    ) -> tuple[Dialog, Response]:
        """Call a phone; the answer is acknowledged."""
        request = self.agent.new_request(
            "INVITE",
            phone.uri(),
            from_uri=self.uri,
            body=body,
            content_type=SDP if body else None,
            headers=headers,
        )
        return await self.agent.invite(request, await self.agent.resolve(phone.uri()))

    async def within(
        self, dialog: Dialog, method: str, body: bytes = b"", *headers: tuple[str, str]
    ) -> Response:
        return await self.agent.request_in_dialog(
            dialog, method, body=body, content_type=SDP if body else None, headers=headers
        )

    async def saw(self, method: str, count: int = 1) -> IncomingRequest:
        """The ``count``th request of a kind, once it has come."""
        async with asyncio.timeout(5):
            while True:
                found = [one for one in self.seen if one.request.method == method]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.01)
