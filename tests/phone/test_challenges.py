"""Challenges are answered: by an INVITE, within a call, by a REGISTER; a wrong answer once only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from callreel.base.errors import PeerError
from callreel.phone.call import CallFailed
from callreel.phone.registration import Registration
from callreel.server.system import RandomIds
from callreel.signalling.user_agent import IncomingRequest
from callreel.wire.sip.message import Response
from tests.phone.phones import Phones
from tests.phone.raw import SDP, RawPeer, sdp


@dataclass(frozen=True)
class Asked:
    place: tuple[str, str]
    stale: bool


class Tokens:
    """Answers a challenge with the token that it names, or with a wrong one."""

    def __init__(self, *, right: bool = True) -> None:
        self._right = right
        self._token = ""

    def receive(self, response: Response) -> Sequence[Asked]:
        challenge = response.headers.get("Proxy-Authenticate")
        if challenge is None:
            return []
        self._token = challenge.partition("token=")[2]
        return [Asked(("Proxy-Authorization", "here"), "stale" in challenge)]

    def headers(self, method: str, uri: str, body: bytes = b"") -> list[tuple[str, str]]:
        if not self._token:
            return []
        token = self._token if self._right else "wrong"
        return [("Proxy-Authorization", f"Token {token} {method} {uri}")]


class Guard:
    """Lets through what bears the token in force; ``stale_after`` requests it gives a new one."""

    def __init__(self, *, stale_after: int = 1000) -> None:
        self.left = stale_after
        self.token = 1

    async def check(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        given = request.headers.get("Proxy-Authorization") or ""
        good = given == f"Token {self.token} {request.method} {request.uri}"
        self.left -= good
        if self.left < 0:
            self.left, self.token, good = 1000, self.token + 1, False
        if not good:
            stale = "stale " if given else ""
            challenge = f"Token {stale}token={self.token}"
            incoming.respond(407, headers=[("Proxy-Authenticate", challenge)])
        elif request.method == "INVITE":
            incoming.respond(200, body=sdp(), content_type=SDP)
            await incoming.acknowledged()
        else:
            incoming.respond(200)


@pytest.fixture
async def peer() -> AsyncIterator[RawPeer]:
    made = RawPeer()
    await made.start()
    yield made
    await made.agent.close()


async def test_an_invite_is_sent_again_with_the_answer(peer: RawPeer, phones: Phones) -> None:
    peer.on["INVITE"] = Guard().check
    phone = await phones.make(authorizer=Tokens())
    await phone.call(peer.uri)
    first, second = (one.request for one in peer.seen)
    assert second.cseq.sequence == first.cseq.sequence + 1
    assert second.call_id == first.call_id
    assert second.headers["From"] == first.headers["From"]
    assert second.body == first.body
    assert second.top_via.branch != first.top_via.branch


async def test_a_wrong_answer_is_given_once(peer: RawPeer, phones: Phones) -> None:
    async def refuse(incoming: IncomingRequest) -> None:
        incoming.respond(407, headers=[("Proxy-Authenticate", "Token token=1")])

    peer.on["INVITE"] = refuse
    phone = await phones.make(authorizer=Tokens(right=False))
    with pytest.raises(CallFailed) as caught:
        await phone.call(peer.uri)
    assert caught.value.status == 407
    assert len(peer.seen) == 2


async def test_who_calls_everything_stale_is_not_asked_for_ever(
    peer: RawPeer, phones: Phones
) -> None:
    async def refuse(incoming: IncomingRequest) -> None:
        incoming.respond(407, headers=[("Proxy-Authenticate", "Token stale token=1")])

    peer.on["INVITE"] = refuse
    phone = await phones.make(authorizer=Tokens())
    with pytest.raises(CallFailed):
        await phone.call(peer.uri)
    assert len(peer.seen) < 8


async def test_without_an_authorizer_a_challenge_is_a_refusal(
    peer: RawPeer, phones: Phones
) -> None:
    peer.on["INVITE"] = Guard().check
    phone = await phones.make()
    with pytest.raises(CallFailed) as caught:
        await phone.call(peer.uri)
    assert caught.value.status == 407


async def test_within_a_call(peer: RawPeer, phones: Phones) -> None:
    guard = Guard(stale_after=1)  # the INVITE's token is no longer good for the BYE
    peer.on["INVITE"] = peer.on["BYE"] = guard.check
    phone = await phones.make(authorizer=Tokens())
    call = await phone.call(peer.uri)
    await phone.hang_up(call)
    assert [one.request.method for one in peer.seen] == ["INVITE", "INVITE", "BYE", "BYE"]
    assert guard.token == 2
    assert phone.summary(call).in_order


async def test_a_registration(peer: RawPeer, phones: Phones) -> None:
    peer.on["REGISTER"] = Guard().check
    phone = await phones.make(authorizer=Tokens())
    ours = Registration(phone, f"sip:127.0.0.1:{peer.port}", user="p", ids=RandomIds())
    await ours.start()
    await ours.stop()
    assert [one.request.cseq.sequence for one in peer.seen] == [1, 2, 3]
    unknown = await phones.make()
    with pytest.raises(PeerError, match="407"):
        await Registration(unknown, f"sip:127.0.0.1:{peer.port}", user="p", ids=RandomIds()).start()
