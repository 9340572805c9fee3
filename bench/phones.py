"""Callers and callees by SIP alone: what they say and hear is sent and taken by load processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.rtp_load import Stream
from callreel.base.errors import PeerError
from callreel.phone.description import Negotiation
from callreel.server.system import RandomIds, SystemClock
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.wire.sip.dialog import Dialog, DialogId
from callreel.wire.sip.flow import Transport
from callreel.wire.sip.session_timer import answer_timer

HOST = "127.0.0.1"


@dataclass(slots=True)
class PhoneCall:
    """One side of a call."""

    dialog: Dialog
    """Its dialog with the server."""
    stream: Stream
    """Its media; ``remote`` is where the server wants it."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once either side has ended it."""


class Phones:
    """Many phones behind one SIP port. A call is known by the number that is dialled.

    ``streams`` are those of the calls that come in, by number. A call lasts a quarter of an hour at
    most: the callers refresh no session.
    """

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE")
    option_tags = ("timer",)

    def __init__(self, streams: Sequence[Stream] = ()) -> None:
        self.calls: dict[int, PhoneCall] = {}
        """By number; those that are over as well."""
        self.address = ("", 0)
        """Where they are reached."""
        self._streams = streams
        self._by_dialog: dict[DialogId, PhoneCall] = {}
        self._agent = UserAgent(
            clock=SystemClock(), ids=RandomIds(), handler=self, user_agent_header="callreel-bench"
        )

    async def start(self) -> None:
        """Take a port."""
        self.address = await self._agent.listen_udp(HOST, 0)

    async def close(self) -> None:
        """End what is left, without a word to the peer."""
        await self._agent.close()

    async def call(self, server: str, number: int, stream: Stream) -> None:
        """Call a number at a server's ``host:port``; returns once it is answered. Raises
        ``PeerError``.
        """
        uri = f"sip:{number}@{server}"
        talk = _negotiation(stream)
        flow = await self._agent.resolve(uri, Transport.UDP)
        request = self._agent.new_request(
            "INVITE",
            uri,
            from_uri=f"sip:{number}@caller.example.com",
            body=talk.offer(),
            content_type="application/sdp",
        )
        dialog, response = await self._agent.invite(request, flow)
        stream.remote = talk.conclude(response.body, source_host=flow.host).remote
        self._admit(number, dialog, stream)

    async def hang_up(self, call: PhoneCall) -> None:
        """End a call with a BYE. Raises ``PeerError`` if the server does not agree."""
        self._forget(call)
        response = await self._agent.request_in_dialog(call.dialog, "BYE")
        if response.code >= 300:
            raise PeerError(f"BYE: {response.code} {response.phrase}", status=response.code)

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer calls at once; be told of their end."""
        request = incoming.request
        call = self._by_dialog.get(DialogId.of_request(request))
        if call is not None:
            call.dialog.receive_request(request)
        if request.method == "INVITE" and call is None:
            self._answer(incoming)
        elif request.method == "BYE" and call is not None:
            self._forget(call)
            incoming.respond(200)
        elif request.method == "UPDATE" and call is not None and not request.body:
            timer = answer_timer(request)
            incoming.respond(200, headers=timer.headers if timer else ())
        elif request.method == "OPTIONS":
            incoming.respond(200)
        else:
            raise PeerError(f"{request.method} is not expected", status=488 if call else 481)

    # Within

    def _answer(self, incoming: IncomingRequest) -> None:
        user = incoming.request.uri.user or ""
        if not user.isdecimal() or int(user) >= len(self._streams):
            raise PeerError("nobody has that number", status=404)
        stream = self._streams[int(user)]
        body, agreed = _negotiation(stream).accept(
            incoming.request.body, source_host=incoming.flow.host
        )
        stream.remote = agreed.remote
        timer = answer_timer(incoming.request)
        incoming.respond(
            200,
            body=body,
            content_type="application/sdp",
            headers=timer.headers if timer else (),
        )
        self._admit(int(user), incoming.dialog(), stream)

    def _admit(self, number: int, dialog: Dialog, stream: Stream) -> None:
        self.calls[number] = self._by_dialog[dialog.id] = PhoneCall(dialog, stream)

    def _forget(self, call: PhoneCall) -> None:
        self._by_dialog.pop(call.dialog.id, None)
        call.ended.set()


def _negotiation(stream: Stream) -> Negotiation:
    return Negotiation(host=HOST, port=stream.port, codecs=("PCMU",), session_id=stream.port)
