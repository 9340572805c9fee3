"""Credentials: for an INVITE, within a call, with a registrar; by phone and by program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from callreel.base.errors import PeerError
from callreel.phone.call import CallFailed
from callreel.signalling.user_agent import IncomingRequest
from callreel.wire.sip.digest import Algorithm, hash_a1
from callreel.wire.sip.digest_client import Credentials
from callreel.wire.sip.digest_server import DigestServer, Outcome
from tests.phone.phones import Phones
from tests.phone.raw import SDP, RawPeer, sdp

RIGHT, WRONG = Credentials("100", "open sesame"), Credentials("100", "sesame")


class Guard:
    """Lets in who knows the password of 100; to the methods in ``stale`` each nonce is too old
    once."""

    def __init__(self, *stale: str) -> None:
        self._server = DigestServer(realm="here", key=b"k" * 32)
        self._stale = set(stale)

    @staticmethod
    def _secret(user: str, algorithm: Algorithm) -> str | None:
        return hash_a1(algorithm, "100", "here", "open sesame") if user == "100" else None

    async def check(self, incoming: IncomingRequest) -> None:
        request, source, now = incoming.request, incoming.flow.host, time.monotonic()
        outcome = self._server.verify(request, self._secret, source=source, now=now).outcome
        if outcome is Outcome.RIGHT and request.method in self._stale:
            self._stale.discard(request.method)
            outcome = Outcome.STALE
        if outcome is not Outcome.RIGHT:
            stale = outcome is Outcome.STALE
            headers = self._server.challenges(source=source, now=now, stale=stale)
            incoming.respond(401, headers=headers)
        elif request.method == "INVITE":
            incoming.respond(200, body=sdp(), content_type=SDP)
            await incoming.acknowledged()
        elif request.method == "REGISTER":
            incoming.respond(200, headers=[("Expires", request.headers.get("Expires") or "")])
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
    phone = await phones.make(credentials=RIGHT)
    call = await phone.call(peer.uri)
    first, second = (one.request for one in peer.seen)
    assert second.cseq.sequence == first.cseq.sequence + 1
    assert second.call_id == first.call_id
    assert second.headers["From"] == first.headers["From"]
    assert second.body == first.body
    assert second.top_via.branch != first.top_via.branch
    assert call.is_answered
    await phone.call(peer.uri)  # the nonce is still good: no third challenge
    assert len(peer.seen) == 3


@pytest.mark.parametrize(("credentials", "tries"), [(WRONG, 2), (None, 1)])
async def test_a_wrong_answer_is_given_once(
    peer: RawPeer, phones: Phones, credentials: Credentials | None, tries: int
) -> None:
    peer.on["INVITE"] = Guard().check
    phone = await phones.make(credentials=credentials)
    with pytest.raises(CallFailed) as caught:
        await phone.call(peer.uri)
    assert caught.value.status == 401
    assert len(peer.seen) == tries


async def test_within_a_call(peer: RawPeer, phones: Phones) -> None:
    peer.on["INVITE"] = peer.on["BYE"] = Guard("BYE").check
    phone = await phones.make(credentials=RIGHT)
    call = await phone.call(peer.uri)
    await phone.hold(call)
    await phone.hang_up(call)
    assert [one.request.method for one in peer.seen] == ["INVITE", "INVITE", "INVITE", "BYE", "BYE"]
    assert phone.summary(call).in_order


async def test_after_a_redirection(peer: RawPeer, phones: Phones) -> None:
    peer.on["INVITE"] = Guard().check
    phone = await phones.make(credentials=RIGHT)

    async def send_on(incoming: IncomingRequest) -> None:
        incoming.respond(302, headers=[("Contact", f"<sip:other@127.0.0.1:9>;q=0.1, <{peer.uri}>")])

    other = RawPeer()
    await other.start()
    other.on["INVITE"] = send_on
    try:
        await phone.call(other.uri, follow=True)
    finally:
        await other.agent.close()
    assert [one.request.cseq.sequence for one in peer.seen] == [2, 3]


async def test_a_registration_is_taken_back_at_the_end(peer: RawPeer, phones: Phones) -> None:
    peer.on["REGISTER"] = Guard().check
    phone = await phones.make(credentials=RIGHT, user="100")
    await phone.register(f"sip:127.0.0.1:{peer.port}", "sip:100@example.com")
    await phone.close()
    requests = [one.request for one in peer.seen]
    assert [one.headers.get("Expires") for one in requests] == ["600", "600", "0"]
    assert str(requests[0].to_address.uri) == "sip:100@example.com"
    assert str(requests[0].contact_uri) == phone.uri()


async def test_a_registration_that_is_refused(peer: RawPeer, phones: Phones) -> None:
    peer.on["REGISTER"] = Guard().check
    for credentials in (WRONG, None):
        phone = await phones.make(credentials=credentials, user="100")
        with pytest.raises(PeerError, match="401"):
            await phone.register(f"sip:127.0.0.1:{peer.port}", "sip:100@example.com")


def program(*options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "CALLREEL_PHONE_PASSWORD": "open sesame"}
    return subprocess.Popen(
        [sys.executable, "-m", "callreel", "phone", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


async def test_the_programs(peer: RawPeer) -> None:
    guard = Guard()
    peer.on["INVITE"] = peer.on["REGISTER"] = peer.on["BYE"] = guard.check
    registrar = f"sip:100@127.0.0.1:{peer.port}"
    options = ("--listen", "127.0.0.1:0", "--json", "--register", registrar)
    answering = program("answer", *options)
    calling = program("call", peer.uri, "--user", "100", "--for", "0.2", "--json")
    try:
        invite = await peer.saw("INVITE", 2)
        assert str(invite.request.from_address.uri) == registrar
        await peer.saw("REGISTER", 2)
        await peer.saw("BYE")
        answering.terminate()
        await peer.saw("REGISTER", 3)
    finally:
        said, _ = calling.communicate(timeout=10)
        answering.communicate(timeout=10)
    assert (calling.returncode, answering.returncode) == (0, 0)
    assert json.loads(said)["answered"]
    register = (await peer.saw("REGISTER")).request
    assert str(register.uri) == f"sip:127.0.0.1:{peer.port}"
    assert str(register.to_address.uri) == registrar
