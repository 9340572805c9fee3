"""Who is calling, and who was reached, between networks that are trusted with it (RFC 3325)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.server.system import RandomIds, SystemClock
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.wire.sip.message import Request
from tests.ports import free_port_pair

SID = "AC" + "1d" * 16
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 9 RTP/AVP 0\r\n"
)
REACHED = '"Bea" <sip:+15550188@carrier.example>'


class Callee:
    """Answers at once, and says who it is."""

    methods = ("INVITE", "ACK", "CANCEL", "BYE")
    option_tags = ()

    def __init__(self) -> None:
        self.invited: list[Request] = []

    async def handle_request(self, incoming: IncomingRequest) -> None:
        if incoming.request.method != "INVITE":
            incoming.respond(200)
            return
        self.invited.append(incoming.request)
        headers = [("P-Asserted-Identity", REACHED)]
        incoming.respond(200, body=SDP, content_type="application/sdp", headers=headers)


@asynccontextmanager
async def an_agent(callee: Callee, port: int = 0) -> AsyncIterator[UserAgent]:
    agent = UserAgent(clock=SystemClock(), ids=RandomIds(), handler=callee)
    await agent.listen_udp("127.0.0.1", port)
    yield agent
    await agent.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_identity_passes_between_the_trusted_and_to_nobody_else(
    tmp_path: Path, trusted: bool
) -> None:
    port = free_port_pair()
    (tmp_path / "callreel.toml").write_text(
        f"""
accept_loopback = false

[[trunks]]
name = "carrier"
uri = "sip:127.0.0.1:{port}"
addresses = ["127.0.0.1"]
identity = {str(trusted).lower()}

[[routes]]
prefix = ""
to = ["trunk:carrier"]
"""
    )
    options = ("--config", str(tmp_path / "callreel.toml"))
    callee = Callee()
    with OwnServer(tmp_path, SID, "a-token-of-tests", options=options) as server:
        async with an_agent(callee, port), an_agent(Callee()) as caller:
            uri = f"sip:+15550199@{server.sip_uri.removeprefix('sip:')}"
            request = caller.new_request(
                "INVITE",
                uri,
                from_uri='"Anonymous" <sip:anonymous@anonymous.invalid>',
                body=SDP,
                content_type="application/sdp",
                headers=[
                    ("P-Asserted-Identity", '"Ann" <sip:+15550100@carrier.example>'),
                    ("Privacy", "id"),
                ],
            )
            dialog, answer = await asyncio.wait_for(
                caller.invite(request, await caller.resolve(uri)), 10
            )
            await caller.request_in_dialog(dialog, "BYE")
    (invite,) = callee.invited
    if trusted:
        assert invite.headers["P-Asserted-Identity"] == "<sip:+15550100@127.0.0.1>"
        assert invite.headers["Privacy"] == "id"
        assert invite.from_address.uri.user == "+15550100"
        assert answer.headers.get("P-Asserted-Identity") == REACHED
    else:
        assert invite.headers.get("P-Asserted-Identity") is None
        assert "15550100" not in str(invite)
        assert invite.from_address.uri.host == "anonymous.invalid"
        assert answer.headers.get("P-Asserted-Identity") is None
