"""The gate, by a hand-moved clock: whose a request is, and what a scanner sees."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime

import pytest

from callreel.base.errors import PeerError
from callreel.service.throttle import FailureThrottle
from callreel.signalling.authentication import Admission, Decision, Gate
from callreel.signalling.peers import Peer, PeerDirectory
from callreel.signalling.users import User, UserDirectory
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.digest import Algorithm
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.values import URI

PBX = Peer("pbx", (ipaddress.ip_network("192.0.2.0/24"),), "acc", None, None)
ALICE = User("alice", "acc", password="open sesame")
HOME = User("bob", "acc", password="zanzibar", networks=(ipaddress.ip_network("198.51.100.0/24"),))
PHONE = Flow(Transport.UDP, "203.0.113.5", 40001)
NEIGHBOUR = Flow(Transport.UDP, "203.0.113.5", 40002)
"""Behind the same address as the phone."""


class HandClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


class Scene:
    def __init__(self, *users: User, burst: int = 5) -> None:
        self.clock = HandClock()
        self.gate = Gate(
            peers=PeerDirectory([PBX]),
            users=UserDirectory(users or (ALICE, HOME), "callreel"),
            key=b"k" * 32,
            clock=self.clock,
            throttle=FailureThrottle(burst=burst, salt=b"s"),
        )

    def ask(
        self, user: str, password: str | None, flow: Flow = PHONE, method: str = "INVITE"
    ) -> Admission:
        """A request, and once more with the answer to its challenge."""
        request = a_request(user, method)
        first = self.gate.judge(request, flow)
        if password is None or first.decision is not Decision.CHALLENGE:
            return first
        challenged = Response(first.status)
        for name, value in first.headers:
            challenged.headers.add(name, value)
        client = DigestClient(Credentials(user, password), CountingIds())
        client.receive(challenged)
        client.dress(request)
        return self.gate.judge(request, flow)


def a_request(user: str = "alice", method: str = "INVITE") -> Request:
    request = Request(method, URI.parse("sip:42@example.com"))
    request.headers.set("From", f"<sip:{user}@example.com>;tag=1")
    return request


def shape(admission: Admission) -> tuple[object, ...]:
    """An answer but for its nonces."""
    headers = [(name, re.sub(r'nonce="[^"]*"', "", value)) for name, value in admission.headers]
    lengths = [len(value) for _, value in admission.headers]
    return (admission.decision, admission.status, headers, lengths)


def test_a_peer_is_known_by_its_address() -> None:
    scene = Scene()
    assert scene.gate.judge(a_request(), Flow(Transport.UDP, "192.0.2.9", 5060)).caller is PBX
    # But users register, wherever they are.
    registering = scene.ask("alice", None, Flow(Transport.UDP, "192.0.2.9", 5060), "REGISTER")
    assert registering.status == 401


def test_a_user_is_known_by_digest() -> None:
    scene = Scene()
    for method in ("INVITE", "REGISTER"):
        assert scene.ask("alice", "open sesame", method=method) == Admission(
            Decision.ALLOWED, ALICE
        )


def test_a_scanner_sees_no_difference() -> None:
    scene = Scene(burst=50)
    scene.ask("alice", "open sesame")  # that she was here changes nothing
    known, unknown = scene.ask("alice", "wrong"), scene.ask("mallory", "wrong")
    assert shape(known) == shape(unknown)
    assert known.status == 401
    assert shape(scene.ask("alice", None)) == shape(scene.ask("mallory", None))
    # Nor does it see that a password is right where its user may not be.
    assert shape(scene.ask("bob", "zanzibar")) == shape(unknown)
    at_home = Flow(Transport.UDP, "198.51.100.7", 5060)
    assert scene.ask("bob", "zanzibar", at_home).caller is HOME


def test_too_many_failures_and_credentials_are_not_read() -> None:
    scene = Scene(burst=3)
    for _ in range(3):
        assert scene.ask("alice", "wrong").status == 401
    assert scene.ask("alice", "open sesame") == Admission(Decision.REFUSE, status=403)
    assert not scene.gate.may_speak(PHONE.host)
    scene.clock.seconds += 4.0
    assert scene.gate.may_speak(PHONE.host)
    assert scene.ask("alice", "open sesame").caller is ALICE


def test_a_neighbour_locks_nobody_out() -> None:
    scene = Scene(burst=3)
    assert scene.ask("alice", "open sesame").caller is ALICE
    for _ in range(10):
        scene.ask("alice", "wrong", NEIGHBOUR)
    assert scene.ask("alice", "open sesame", NEIGHBOUR).status == 403
    assert scene.ask("alice", "open sesame").caller is ALICE
    assert scene.gate.may_speak(PHONE.host)


def test_credentials_made_up_without_a_challenge_lock_nobody_out() -> None:
    # A stranger can write any source address on a datagram, but not read what is sent there.
    scene = Scene(burst=3)
    for _ in range(10):
        request = a_request()
        request.headers.set(
            "Authorization",
            'Digest username="alice", realm="callreel", nonce="AAAA", uri="sip:42@example.com", '
            'response="0", qop=auth, nc=00000001, cnonce="c"',
        )
        admission = scene.gate.judge(request, PHONE)
        assert admission.status == 401
        assert "stale=true" in admission.headers[0][1]
    assert scene.ask("alice", "open sesame").caller is ALICE


def test_a_replay_is_challenged() -> None:
    scene = Scene()
    request = a_request()
    challenged = Response(401)
    for name, value in scene.gate.judge(request, PHONE).headers:
        challenged.headers.add(name, value)
    client = DigestClient(Credentials("alice", "open sesame"), CountingIds())
    client.receive(challenged)
    client.dress(request)
    assert scene.gate.judge(request, PHONE).caller is ALICE
    for flow in (PHONE, NEIGHBOUR, Flow(Transport.UDP, "203.0.113.99", 5060)):
        admission = scene.gate.judge(request, flow)
        assert (admission.decision, admission.caller) == (Decision.CHALLENGE, None)


@pytest.mark.parametrize("realm", ["callreel", "another"])
def test_the_configuration_is_read_anew(realm: str) -> None:
    scene = Scene()
    request = a_request()
    challenged = Response(401)
    for name, value in scene.gate.judge(request, PHONE).headers:
        challenged.headers.add(name, value)
    client = DigestClient(Credentials("alice", "open sesame"), CountingIds())
    client.receive(challenged)
    client.dress(request)
    assert scene.gate.judge(request, PHONE).caller is ALICE
    carol = User("carol", "acc", password="x")
    scene.gate.configure(PeerDirectory([]), UserDirectory([ALICE, carol], realm))
    assert scene.gate.judge(request, PHONE).status == 401  # used nonces stay used
    assert scene.ask("carol", "x").caller is carol
    assert scene.ask("bob", "zanzibar").status == 401
    assert scene.ask("alice", None, Flow(Transport.UDP, "192.0.2.9", 5060)).status == 401
    assert scene.gate.users.find("carol") is carol
    old = UserDirectory([ALICE], realm, algorithms=[Algorithm.MD5])
    scene.gate.configure(PeerDirectory([]), old)
    (challenge,) = scene.ask("alice", None).headers
    assert "algorithm=MD5" in challenge[1]
    assert scene.ask("alice", "open sesame").caller is ALICE


def test_strangers_where_nobody_may_be() -> None:
    scene = Scene(HOME)
    assert not scene.gate.may_speak("203.0.113.5")
    assert scene.gate.may_speak("198.51.100.1")
    assert scene.gate.may_speak("192.0.2.1")
    assert scene.ask("bob", None) == Admission(Decision.REFUSE, status=403)


def test_without_a_throttle() -> None:
    scene = Scene()
    scene.gate = Gate(
        peers=PeerDirectory([]),
        users=UserDirectory([ALICE], "callreel"),
        key=b"k",
        clock=scene.clock,
        throttle=None,
    )
    for _ in range(30):
        assert scene.ask("alice", "wrong").status == 401
    assert scene.ask("alice", "open sesame").caller is ALICE
    assert scene.gate.may_speak(PHONE.host)


def test_credentials_that_cannot_be_read() -> None:
    request = a_request()
    request.headers.set("Authorization", 'Digest realm="callreel')
    with pytest.raises(PeerError):
        Scene().gate.judge(request, PHONE)
