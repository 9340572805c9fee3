"""Parties of calls that end at a house: phones that answer, and what calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.signalling.agents import Handler, until
from tests.signalling.voice_house import VoiceHouse

from callreel.calls.voice import Target
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.wire import sdp
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow


def description(
    *codecs: str, port: int = 40000, direction: str = "sendrecv", version: int = 1
) -> bytes:
    """What a phone at 127.0.0.1 says; codecs as ``0 PCMU/8000``."""
    chosen = codecs or ("0 PCMU/8000", "101 telephone-event/8000")
    types = " ".join(one.split()[0] for one in chosen)
    lines = [
        "v=0",
        f"o=- 1 {version} IN IP4 127.0.0.1",
        "s=-",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        f"m=audio {port} RTP/AVP {types}",
        *(f"a=rtpmap:{one}" for one in chosen),
        f"a={direction}",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


class Phone(Handler):
    """A party: answers with a description of its own, or does what the test says."""

    methods = (*Handler.methods, "INFO")

    def __init__(self, body: bytes | None = None) -> None:
        super().__init__()
        self.body = body or description()
        self.on_invite = self.answers

    async def answers(self, incoming: IncomingRequest) -> None:
        incoming.respond(180)
        self.dialogs.append(incoming.dialog())
        incoming.respond(200, body=self.body, content_type="application/sdp")
        self.acks.append(await incoming.acknowledged())

    def offer(self, number: int = 0) -> sdp.SessionDescription:
        """What one of its INVITEs said."""
        invites = [one.request for one in self.seen if one.request.method == "INVITE"]
        return sdp.SessionDescription.parse(invites[number].body)

    def heard(self, method: str) -> list[IncomingRequest]:
        return [one for one in self.seen if one.request.method == method]


def refusing_with(*codes: int) -> Callable[[IncomingRequest], Awaitable[None]]:
    async def answer(incoming: IncomingRequest) -> None:
        for code in codes:
            incoming.respond(code)

    return answer


async def dial(
    house: VoiceHouse,
    flow: Flow,
    *,
    ring_seconds: float = 5,
    beside: str | None = None,
    rings: list[str] | None = None,
    target: Target | None = None,
) -> str:
    """Call a phone; the call once it has answered."""
    to = f"sip:bob@{flow.host}:{flow.port}"
    row = await house.a_row(to=to)
    await house.phone.dial(
        row.id,
        target or Target(to),
        account_id=house.account.id,
        caller="+15550100",
        ring_seconds=ring_seconds,
        ringing=lambda: None if rings is None else rings.append(row.id),
        beside=beside,
    )
    return row.id


async def call(
    house: VoiceHouse, agent: UserAgent, dialled: str = "100", body: bytes | None = None
) -> asyncio.Task[tuple[Dialog, bytes]]:
    """Call the house; the dialog, and the description of its answer."""
    request = agent.new_request(
        "INVITE",
        house.uri(dialled),
        from_uri="sip:+15550123@127.0.0.1",
        body=description() if body is None else body,
        content_type="application/sdp",
    )

    async def work() -> tuple[Dialog, bytes]:
        dialog, response = await agent.invite(request, house.flow)
        return dialog, response.body

    return asyncio.create_task(work())


async def offered(house: VoiceHouse) -> str:
    """The call that came in last, once it is offered."""
    before = len(house.voice.calls_offered)
    await until(lambda: len(house.voice.calls_offered) > before or before > 0)
    return house.voice.calls_offered[-1][0]
