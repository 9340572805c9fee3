"""REGISTER from end to end on loopback: our registration against our registrar, and strangers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime

import pytest

from callreel.base.errors import MachineError
from callreel.service.throttle import FailureThrottle
from callreel.signalling.authentication import Gate
from callreel.signalling.credentials import (
    invite_with_credentials,
    request_in_dialog_with_credentials,
    request_with_credentials,
)
from callreel.signalling.peers import PeerDirectory
from callreel.signalling.registrar import Registrar
from callreel.signalling.registration import Registration, RegistrationSettings
from callreel.signalling.user_agent import IncomingRequest, RequestRefused, UserAgent
from callreel.signalling.users import User, UserDirectory
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.digest_server import DigestServer, Outcome
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.registration import RegistrationState

BOTH = pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])


class JumpClock:
    """Real time, and as much more as the test wishes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.ahead, UTC)


class Memory:
    """A store that outlives registrars; broken if the test says so."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.broken = False

    async def keep(self, states: Mapping[str, str | None]) -> None:
        if self.broken:
            raise MachineError("the disk is full")
        for user, state in states.items():
            self.states.pop(user, None)
            if state is not None:
                self.states[user] = state

    async def every(self) -> Mapping[str, str]:
        return dict(self.states)


class Office:
    """A registrar with one user, who may call too; or a phone, which takes what comes."""

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER")
    option_tags = ()

    def __init__(self, clock: JumpClock, memory: Memory) -> None:
        users = UserDirectory([User("alice", "acc", password="open sesame")], "callreel")
        self.gate = Gate(
            peers=PeerDirectory([]),
            users=users,
            key=b"k" * 32,
            clock=clock,
            throttle=FailureThrottle(burst=20, salt=b"s"),
        )
        self.registrar = Registrar(gate=self.gate, store=memory, clock=clock)
        self.seen: list[Request] = []
        self.answered: list[int] = []

    async def handle_request(self, incoming: IncomingRequest) -> None:
        self.seen.append(incoming.request)
        if incoming.request.method == "REGISTER":
            await self.registrar.handle(incoming)
        elif self.gate.admit(incoming) is not None:
            incoming.respond(200)
            if incoming.request.method == "INVITE":
                await incoming.acknowledged()


class Phone:
    """Answers what it is asked, as the test says."""

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER")
    option_tags = ()

    def __init__(self, answer: Callable[[IncomingRequest], None] | None = None) -> None:
        self.seen: list[Request] = []
        self.answer = answer

    async def handle_request(self, incoming: IncomingRequest) -> None:
        self.seen.append(incoming.request)
        if self.answer is not None:
            self.answer(incoming)
        else:
            incoming.respond(200)


class Scene:
    """User agents on loopback; what was started is closed."""

    def __init__(self) -> None:
        self.clock = JumpClock()
        self.memory = Memory()
        self.agents: list[UserAgent] = []
        self.registrations: list[Registration] = []

    async def agent(self, handler: Office | Phone) -> tuple[UserAgent, Flow, Flow]:
        agent = UserAgent(clock=self.clock, ids=CountingIds(str(len(self.agents))), handler=handler)
        self.agents.append(agent)
        udp = await agent.listen_udp("127.0.0.1")
        tcp = await agent.listen_tcp("127.0.0.1")
        return agent, Flow(Transport.UDP, *udp), Flow(Transport.TCP, *tcp)

    async def office(self, transport: Transport = Transport.UDP) -> tuple[Office, Flow]:
        office = Office(self.clock, self.memory)
        await office.registrar.load()
        _, udp, tcp = await self.agent(office)
        return office, udp if transport is Transport.UDP else tcp

    def registration(
        self, agent: UserAgent, to: Flow, *, password: str = "open sesame", seconds: int = 600
    ) -> Registration:
        settings = RegistrationSettings(
            name="trunk",
            registrar=f"sip:{to.host}:{to.port};transport={to.transport.lower()}",
            aor="sip:alice@example.com",
            credentials=Credentials("alice", password),
            contact_user="from-trunk",
            expires_seconds=seconds,
        )
        made = Registration(
            agent, settings, clock=self.clock, ids=CountingIds("r"), jitter=lambda: 0.5
        )
        self.registrations.append(made)
        return made

    async def close(self) -> None:
        for registration in self.registrations:
            await registration.close()
        for agent in self.agents:
            await agent.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def credentials(password: str = "open sesame") -> DigestClient:
    return DigestClient(Credentials("alice", password), CountingIds("c"))


# Our registration, our registrar


@BOTH
async def test_registered_called_refreshed_and_gone(scene: Scene, transport: Transport) -> None:
    office, flow = await scene.office(transport)
    phone = Phone()
    agent, *_ = await scene.agent(phone)
    registration = scene.registration(agent, flow)
    assert registration.status.state is RegistrationState.TRYING
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.REGISTERED)
    status = registration.status
    assert status.registered_until is not None
    left = (status.registered_until - scene.clock.now()).total_seconds()
    assert 590 < left <= 600
    (binding,) = office.registrar.find("alice")
    assert binding.contact.startswith("sip:from-trunk@127.0.0.1:")
    assert [one.cseq.sequence for one in office.seen] == [1, 2]
    # The registrar reaches the phone over the flow that it registered with.
    caller = scene.agents[0]
    request = caller.new_request("OPTIONS", binding.contact, from_uri="sip:callreel@127.0.0.1")
    assert (await caller.request(request, binding.flow)).code == 200
    assert [one.uri.user for one in phone.seen] == ["from-trunk"]
    # The refresh goes with the nonce that is known, in one round trip.
    registration.refresh()
    await until(lambda: len(office.seen) == 3)
    await until(lambda: office.registrar.find("alice")[0].cseq == 3)
    assert len({one.call_id for one in office.seen}) == 1
    assert "nc=00000002" in office.seen[-1].headers["Authorization"]
    await registration.close()
    assert office.registrar.find("alice") == []
    assert scene.memory.states == {}
    assert registration.status.registered_until is None


async def test_an_old_nonce_is_renewed_without_a_failure(scene: Scene) -> None:
    office, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    registration = scene.registration(agent, flow)
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.REGISTERED)
    scene.clock.ahead += 400.0
    registration.refresh()
    await until(lambda: len(office.seen) == 4)
    await until(lambda: office.registrar.find("alice")[0].cseq == 4)
    assert registration.status.last_error is None


async def test_wrong_password(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    office, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    registration = scene.registration(agent, flow, password="no-such-password")
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.FAILING)
    assert registration.status.last_error == "401 Unauthorized"
    assert registration.status.registered_until is None
    assert len(office.seen) == 2  # not again and again
    assert office.registrar.find("alice") == []
    await until(lambda: "trunk: not registered: 401 Unauthorized" in caplog.text)
    assert "no-such-password" not in caplog.text


async def test_too_brief_is_made_longer(scene: Scene) -> None:
    office, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    registration = scene.registration(agent, flow, seconds=30)
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.REGISTERED)
    assert [one.headers["Expires"] for one in office.seen] == ["30", "30", "60"]


async def test_nobody_there(scene: Scene) -> None:
    agent, *_ = await scene.agent(Phone())
    _, _, tcp = await scene.agent(Phone())
    await scene.agents[1].close()
    registration = scene.registration(agent, tcp)
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.FAILING)
    assert "cannot connect" in (registration.status.last_error or "")
    assert registration.flow is None


async def test_a_trunk_that_goes_away_is_looked_for_anew(scene: Scene) -> None:
    _, flow = await scene.office(Transport.TCP)
    agent, *_ = await scene.agent(Phone())
    registration = scene.registration(agent, flow)
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.REGISTERED)
    assert registration.flow is not None
    await scene.agents[0].close()
    registration.refresh()
    await until(lambda: registration.status.state is RegistrationState.FAILING)
    assert registration.flow is None
    assert registration.status.registered_until is not None  # it may know us still


async def test_bindings_outlive_the_process(scene: Scene) -> None:
    office, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    registration = scene.registration(agent, flow)
    registration.start()
    await until(lambda: registration.status.state is RegistrationState.REGISTERED)
    before = office.registrar.find("alice")
    again, _ = await scene.office()
    assert again.registrar.find("alice") == before
    scene.clock.ahead += 700.0
    assert again.registrar.find("alice") == []
    await again.registrar.sweep()
    assert scene.memory.states == {}


# Strangers at the registrar


def register(agent: UserAgent, flow: Flow, *, to: str = "alice", **headers: str) -> Request:
    return agent.new_request(
        "REGISTER",
        f"sip:127.0.0.1:{flow.port}",
        from_uri=f"sip:{to}@127.0.0.1",
        to_uri=f"sip:{to}@127.0.0.1",
        headers=list(headers.items()),
    )


async def test_users_register_nobody_else(scene: Scene) -> None:
    office, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    request = register(agent, flow, to="bob", Contact="<sip:bob@127.0.0.1>")
    _, response = await request_with_credentials(agent, request, flow, credentials())
    assert response.code == 403
    assert office.registrar.find("bob") == []


async def test_what_a_phone_asks_and_is_told(scene: Scene) -> None:
    _, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    client = credentials()
    for headers, code, contacts in (
        ({}, 200, 0),
        ({"Contact": "<sip:alice@127.0.0.1:1>, <sip:alice@127.0.0.1:2>;q=0.5"}, 200, 2),
        ({}, 200, 2),
        ({"Contact": "<sip:alice@127.0.0.1:1>;expires=0"}, 200, 1),
        ({"Contact": "*"}, 400, 0),
        ({"Contact": "<sip:alice@127.0.0.1:3>", "Expires": "5"}, 423, 0),
        ({"Contact": "*", "Expires": "0"}, 200, 0),
    ):
        request = register(agent, flow, **headers)
        _, response = await request_with_credentials(agent, request, flow, client)
        assert response.code == code
        assert len(response.headers.getlist("Contact")) == contacts
        assert (response.headers.get("Min-Expires") == "60") is (code == 423)
        assert (response.headers.get("Date") or "").endswith("GMT") is (code == 200)


async def test_what_cannot_be_kept_is_not_confirmed(scene: Scene) -> None:
    office, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    scene.memory.broken = True
    request = register(agent, flow, Contact="<sip:alice@127.0.0.1:1>")
    _, response = await request_with_credentials(agent, request, flow, credentials())
    assert response.code == 500
    assert office.registrar.find("alice") == []


# Requests that are challenged


@BOTH
async def test_an_invite_with_credentials(scene: Scene, transport: Transport) -> None:
    office, flow = await scene.office(transport)
    agent, *_ = await scene.agent(Phone())
    invite = agent.new_request(
        "INVITE", f"sip:42@127.0.0.1:{flow.port}", from_uri="sip:alice@127.0.0.1"
    )
    client = credentials()
    dialog, response = await invite_with_credentials(agent, invite, flow, client)
    assert response.code == 200
    assert [one.cseq.sequence for one in office.seen] == [1, 2]
    assert len({one.top_via.branch for one in office.seen}) == 2
    assert len({(one.call_id, one.from_address.tag) for one in office.seen}) == 1
    ended = await request_in_dialog_with_credentials(agent, dialog, "BYE", client)
    assert ended.code == 200
    assert [one.method for one in office.seen] == ["INVITE", "INVITE", "BYE"]


async def test_wrong_and_unknown_are_answered_alike(scene: Scene) -> None:
    _, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    answers: list[Response] = []
    for user in ("alice", "mallory"):
        invite = agent.new_request(
            "INVITE", f"sip:42@127.0.0.1:{flow.port}", from_uri=f"sip:{user}@127.0.0.1"
        )
        client = DigestClient(Credentials(user, "wrong"), CountingIds())
        with pytest.raises(RequestRefused) as caught:
            await invite_with_credentials(agent, invite, flow, client)
        answers.append(caught.value.response)
    assert [one.code for one in answers] == [401, 401]
    assert answers[0].headers.keys() == answers[1].headers.keys()


class TwoDoors:
    """A proxy and a server behind it, each with a question of its own."""

    def __init__(self) -> None:
        self.server = DigestServer(realm="server", key=b"a")
        self.proxy = DigestServer(realm="proxy", key=b"b")

    def answer(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        if "Proxy-Authorization" not in request.headers.keys():  # noqa: SIM118
            fields = self.proxy.challenges(source="", now=1.0)
            incoming.respond(407, headers=[("Proxy-Authenticate", value) for _, value in fields])
        elif (
            self.server.verify(request, lambda _, a: a.hash(b"alice:server:pw"), source="", now=1.0)
        ).outcome is not Outcome.RIGHT:
            incoming.respond(401, headers=self.server.challenges(source="", now=1.0))
        else:
            incoming.respond(200)


async def test_a_proxy_then_the_server(scene: Scene) -> None:
    phone = Phone(TwoDoors().answer)
    _, flow, _ = await scene.agent(phone)
    agent, *_ = await scene.agent(Phone())
    client = DigestClient(Credentials("alice", "pw"), CountingIds())
    request = agent.new_request("OPTIONS", "sip:x@127.0.0.1", from_uri="sip:alice@127.0.0.1")
    sent, response = await request_with_credentials(agent, request, flow, client)
    assert (response.code, sent.cseq.sequence, len(phone.seen)) == (200, 3, 3)
    assert phone.seen[-1].headers.get("Proxy-Authorization") is not None


async def test_a_server_that_is_never_content(scene: Scene) -> None:
    digest = DigestServer(realm="r", key=b"a")

    def answer(incoming: IncomingRequest) -> None:
        fields = digest.challenges(source="", now=1.0, stale=True)
        incoming.respond(401, headers=fields)

    phone = Phone(answer)
    _, flow, _ = await scene.agent(phone)
    agent, *_ = await scene.agent(Phone())
    request = agent.new_request("OPTIONS", "sip:x@127.0.0.1", from_uri="sip:alice@127.0.0.1")
    _, response = await request_with_credentials(agent, request, flow, credentials())
    assert (response.code, len(phone.seen)) == (401, 3)


async def test_a_challenge_that_cannot_be_answered(scene: Scene) -> None:
    phone = Phone(lambda i: void(i.respond(401, headers=[("WWW-Authenticate", 'Basic realm="r"')])))
    _, flow, _ = await scene.agent(phone)
    agent, *_ = await scene.agent(Phone())
    request = agent.new_request("OPTIONS", "sip:x@127.0.0.1", from_uri="sip:alice@127.0.0.1")
    _, response = await request_with_credentials(agent, request, flow, credentials())
    assert (response.code, len(phone.seen)) == (401, 1)


def void(_: object) -> None:
    """For lambdas that return nothing."""


async def test_credentials_that_cannot_be_read(scene: Scene) -> None:
    _, flow = await scene.office()
    agent, *_ = await scene.agent(Phone())
    request = register(agent, flow, Authorization='Digest realm="callreel')
    assert (await agent.request(request, flow)).code == 400
