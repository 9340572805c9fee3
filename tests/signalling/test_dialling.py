"""To whom calls go that programs and documents make, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.signalling.agents import Agents, listen, until
from tests.signalling.voice_house import VoiceHouse, open_voice_house
from tests.signalling.voice_phones import Phone, call, description, dial, offered, refusing_with

from callreel.calls.model import CallStatus
from callreel.calls.voice import Ending, NoRoute, NotConnected, Target
from callreel.signalling.user_agent import IncomingRequest, RequestRefused, UserAgent
from callreel.wire import sdp
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.digest import Algorithm, hash_a1
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.digest_server import DigestServer, Outcome
from callreel.wire.sip.flow import Flow, Transport


class End:
    """A phone or trunk at a port of its own."""

    def __init__(self, handler: Phone, agent: UserAgent, flow: Flow) -> None:
        self.handler, self.agent, self.flow = handler, agent, flow

    @property
    def uri(self) -> str:
        return f"sip:{self.flow.host}:{self.flow.port}"

    @property
    def invites(self) -> list[IncomingRequest]:
        return self.handler.heard("INVITE")


@pytest.fixture
async def ends(agents: Agents) -> list[End]:
    found = []
    for _ in range(2):
        agent = agents.make(handler := Phone())
        found.append(End(handler, agent, await listen(agent, Transport.UDP)))
    return found


@pytest.fixture
async def houses(tmp_path: Path) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def open_with(
    houses: AsyncExitStack, folder: Path, trunks: Sequence[End], **settings: Any
) -> VoiceHouse:
    """A house with trunks ``t0``, ``t1``…"""
    tables = [{"name": f"t{number}", "uri": one.uri} for number, one in enumerate(trunks)]
    return await houses.enter_async_context(open_voice_house(folder, trunks=tables, **settings))


def asks(end: End, user: str, password: str) -> list[str]:
    """Have an end ask for credentials; the names that it was given."""
    secret = hash_a1(Algorithm.MD5, user, "them", password)
    server = DigestServer(realm="them", key=b"k" * 32, algorithms=[Algorithm.MD5])
    names: list[str] = []

    async def answer(incoming: IncomingRequest) -> None:
        host = incoming.flow.host
        verdict = server.verify(
            incoming.request, lambda name, _: secret if name == user else None, source=host, now=1
        )
        if verdict.username:
            names.append(verdict.username)
        if verdict.outcome is Outcome.RIGHT:
            await end.handler.answers(incoming)
        else:
            incoming.respond(401, headers=server.challenges(source=host, now=1, stale=False))

    end.handler.on_invite = answer
    return names


async def test_a_number_goes_by_the_only_trunk(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    house = await open_with(houses, tmp_path, ends[:1])
    call_id = await dial(house, ends[0].flow, target=Target("+1 555 0199"))
    assert ends[0].invites[0].request.uri.user == "+15550199"
    assert (await house.row(call_id)).peer == "t0"


async def test_of_several_trunks_the_default_one_is_taken(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    house = await open_with(houses, tmp_path, ends, default_trunk="t1")
    await dial(house, ends[0].flow, target=Target("+15550199"))
    assert (len(ends[0].invites), len(ends[1].invites)) == (0, 1)


@pytest.mark.parametrize("default", [None, ""])
async def test_without_a_default_numbers_are_not_called(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End], default: str | None
) -> None:
    trunks = ends if default is None else ends[:1]
    house = await open_with(houses, tmp_path, trunks, default_trunk=default)
    with pytest.raises(NoRoute):
        house.phone.check(house.account.id, Target("+15550199"))
    with pytest.raises(NoRoute):
        await dial(house, ends[0].flow, target=Target("+15550199"))


async def test_routes_for_others_are_not_for_programs(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    routes = [
        {"prefix": "+1", "from": ["users"], "to": ["trunk:t0"]},
        {"prefix": "+1", "from": ["api"], "to": ["trunk:t1"]},
    ]
    house = await open_with(
        houses, tmp_path, ends, routes=routes, dial_uris=False, default_trunk=""
    )
    await dial(house, ends[0].flow, target=Target("+15550199"))
    assert (len(ends[0].invites), len(ends[1].invites)) == (0, 1)
    with pytest.raises(NoRoute):
        house.phone.check(house.account.id, Target("+4930123"))
    with pytest.raises(NoRoute):
        house.phone.check(house.account.id, Target(f"sip:bob@127.0.0.1:{ends[0].flow.port}"))


async def test_the_credentials_of_a_call_win_over_the_trunks(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    names = asks(ends[0], "carol", "hers alone")
    trunk = {"name": "t", "uri": ends[0].uri, "username": "us", "password": "the trunk's own"}
    house = await houses.enter_async_context(open_voice_house(tmp_path, trunks=[trunk]))
    await dial(
        house, ends[0].flow, target=Target("+15550199", username="carol", password="hers alone")
    )
    assert names == ["carol"]
    with pytest.raises(NotConnected) as caught:
        await dial(house, ends[0].flow, target=Target("+15550199"))
    assert caught.value.status is CallStatus.FAILED
    assert names == ["carol", "us"]


async def test_credentials_are_not_shown_to_whom_the_call_is_redirected(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    names = asks(ends[1], "carol", "hers alone")
    routes = [{"user": "elsewhere", "to": ["trunk:t1"]}]
    house = await open_with(houses, tmp_path, ends, routes=routes, default_trunk="t0")

    async def redirect(incoming: IncomingRequest) -> None:
        incoming.respond(302, headers=[("Contact", "<sip:elsewhere@example.com>")])

    ends[0].handler.on_invite = redirect
    with pytest.raises(NotConnected):
        await dial(
            house, ends[0].flow, target=Target("+15550199", username="carol", password="hers alone")
        )
    assert len(ends[1].invites) == 1
    assert names == []


async def test_the_next_trunk_of_a_route_is_tried(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    routes = [{"prefix": "+", "to": ["trunk:t0", "trunk:t1"]}]
    house = await open_with(houses, tmp_path, ends, routes=routes)
    ends[0].handler.on_invite = refusing_with(503)
    call_id = await dial(house, ends[0].flow, target=Target("+15550199"))
    assert (len(ends[0].invites), len(ends[1].invites)) == (1, 1)
    assert (await house.row(call_id)).peer == "t1"
    ports = [sdp.SessionDescription.parse(one.invites[0].request.body).media[0] for one in ends]
    assert ports[0].port == ports[1].port


async def test_all_phones_of_a_user_ring_and_one_has_the_call(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    user = {"name": "anna", "password": "of Anna's phone", "number": "+15550111"}
    house = await houses.enter_async_context(open_voice_house(tmp_path, users=[user]))
    for end in ends:
        await register(house, end, "anna", "of Anna's phone")
    cancelled = asyncio.Event()

    async def rings(incoming: IncomingRequest) -> None:
        incoming.respond(180)
        await incoming.wait_cancelled()
        cancelled.set()
        incoming.respond(487)

    ends[0].handler.on_invite = rings
    call_id = await dial(house, ends[0].flow, target=Target("+15550111"))
    await asyncio.wait_for(cancelled.wait(), 5)
    assert len(ends[1].handler.dialogs) == 1
    assert (await house.row(call_id)).peer == "user:anna"
    own = await dial(house, ends[0].flow, target=Target(house.uri("anna")))
    assert (await house.row(own)).peer == "user:anna"


async def register(house: VoiceHouse, end: End, user: str, password: str) -> None:
    request = end.agent.new_request(
        "REGISTER",
        house.uri("").replace("@", ""),
        from_uri=f"sip:{user}@127.0.0.1",
        to_uri=f"sip:{user}@127.0.0.1",
        headers=[("Contact", f"<sip:{user}@{end.flow.host}:{end.flow.port}>")],
    )
    client = DigestClient(Credentials(user, password), house.context.ids)
    assert (await end.agent.request(request, house.flow)).code == 401
    response = await end.agent.request(request.copy(), house.flow)
    client.receive(response)
    again = request.copy()
    client.dress(again)
    assert (await end.agent.request(again, house.flow)).code == 200


async def test_registered_phones_are_answered_when_they_ask_whether_we_are_there(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    user = {"name": "anna", "password": "of Anna's phone"}
    house = await houses.enter_async_context(
        open_voice_house(tmp_path, users=[user], accept_loopback=False)
    )
    asked = ends[0].agent.new_request("OPTIONS", house.uri("x"), from_uri="sip:anna@127.0.0.1")
    assert (await ends[0].agent.request(asked.copy(), house.flow)).code == 403
    await register(house, ends[0], "anna", "of Anna's phone")
    assert (await ends[0].agent.request(asked.copy(), house.flow)).code == 200
    assert (await ends[1].agent.request(asked.copy(), house.flow)).code == 403


async def test_srtp_is_offered_with_keys_of_our_own_where_it_is_required(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    trunk = {"name": "t", "uri": ends[0].uri, "srtp": "required"}
    house = await houses.enter_async_context(open_voice_house(tmp_path, trunks=[trunk]))

    async def answers(incoming: IncomingRequest) -> None:
        offered = sdp.SessionDescription.parse(incoming.request.body).media[0]
        assert offered.protocol == "RTP/SAVP"
        body = description().replace(b"RTP/AVP", b"RTP/SAVP")
        line = next(value for name, value in offered.attributes if name == "crypto")
        key = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
        assert line is not None
        body += f"a=crypto:{line.split()[0]} {line.split()[1]} {key}\r\n".encode()
        incoming.respond(200, body=body, content_type="application/sdp")
        await incoming.acknowledged()

    ends[0].handler.on_invite = answers
    call_id = await dial(house, ends[0].flow, target=Target("+15550199"))
    srtp = house.media.streams[call_id].srtp
    assert srtp is not None
    assert srtp.send != srtp.receive


# Which calls documents answer


@pytest.mark.parametrize(("dialled", "offers"), [("100", ["100"]), ("200", []), ("300", ["300"])])
async def test_a_number_s_document_comes_before_the_routes_and_the_account_s_after(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End], dialled: str, offers: list[str]
) -> None:
    routes = [{"prefix": "1", "to": ["trunk:t0"]}, {"prefix": "2", "to": ["trunk:t0"]}]
    house = await open_with(houses, tmp_path, ends[:1], routes=routes)
    house.voice.numbers.add("100")
    house.voice.everything = True
    ends[0].handler.on_invite = refusing_with(486)
    calling = await call(house, ends[1].agent, dialled)
    if offers:
        await house.phone.reject(await offered(house), busy=True)
    with pytest.raises(RequestRefused) as caught:
        await calling
    assert caught.value.status == 486
    assert [number for _, number in house.voice.calls_offered] == offers
    assert len(ends[0].invites) == (not offers)


async def test_there_are_no_more_calls_than_there_may_be(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    house = await open_with(houses, tmp_path, ends[:1], max_calls=1)
    first = await dial(house, ends[0].flow)
    with pytest.raises(NotConnected) as caught:
        await dial(house, ends[0].flow)
    assert caught.value.sip_code == 503
    house.voice.numbers.add("100")
    with pytest.raises(RequestRefused) as refused:
        await (await call(house, ends[1].agent))
    assert refused.value.status == 503
    await house.phone.hang_up(first, reason="enough")
    second = await dial(house, ends[0].flow)
    assert house.phone.live() == {second: None}


async def test_a_shutdown_hangs_everybody_up(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    house = await open_with(houses, tmp_path, ends[:1])
    answered = await dial(house, ends[0].flow)
    house.voice.numbers.add("100")
    calling = await call(house, ends[1].agent)
    ringing = await offered(house)
    house.telephony.door.refuse_new()
    await house.calls.hang_up_all(reason="shutdown")
    with pytest.raises(RequestRefused) as refused:
        await calling
    assert refused.value.status == 480
    assert len(ends[0].handler.heard("BYE")) == 1
    assert (await house.row(answered)).status is CallStatus.COMPLETED
    assert (await house.row(ringing)).status is CallStatus.CANCELED
    assert sorted(house.voice.ends) == sorted([(answered, Ending.OURS), (ringing, Ending.OURS)])
    assert len(house.telephony.door) == 0
    with pytest.raises(NotConnected):
        await dial(house, ends[0].flow)


async def test_a_call_without_an_offer_is_connected_in_its_answer(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    house = await open_with(houses, tmp_path, ends[:1])
    house.voice.numbers.add("100")
    ends[0].handler.body = description("8 PCMA/8000")
    agent = ends[1].agent
    request = agent.new_request("INVITE", house.uri("100"), from_uri="sip:eve@127.0.0.1")
    async with agent.outgoing_invite(request, [house.flow]) as attempt:
        first = await offered(house)
        second = await dial(house, ends[0].flow, beside=first)
        connecting = asyncio.create_task(house.phone.connect(first, second))
        response = await attempt.final()
        offer = sdp.SessionDescription.parse(response.body).media[0]
        assert [one.payload_type for one in offer.codecs] == [8]
        dialog: Dialog = await attempt.acknowledge(
            body=description("8 PCMA/8000", port=43000), content_type="application/sdp"
        )
        await connecting
    assert house.media.bridged == {first: second, second: first}
    assert house.media.streams[first].remote_port == 43000
    await agent.request_in_dialog(dialog, "BYE")
    await until(lambda: house.media.attended == {second})


# Trunks that are asked whether they are there


async def test_a_trunk_that_does_not_answer_is_tried_last(
    houses: AsyncExitStack, tmp_path: Path, ends: list[End]
) -> None:
    trunks = [
        {"name": f"t{number}", "uri": one.uri, "keepalive_seconds": 0.05}
        for number, one in enumerate(ends)
    ]
    routes = [{"prefix": "+", "to": ["trunk:t0", "trunk:t1"]}]
    house = await houses.enter_async_context(
        open_voice_house(tmp_path, trunks=trunks, routes=routes)
    )
    down = True

    async def answer(incoming: IncomingRequest) -> None:
        if incoming.request.method == "OPTIONS":
            incoming.respond(503 if down else 404)
        else:
            await Phone.handle_request(ends[0].handler, incoming)

    ends[0].handler.handle_request = answer  # type: ignore[method-assign]
    probes = house.telephony.probes
    assert {one.answers for one in probes.states.values()} == {None}
    await house.telephony.start()
    await until(lambda: probes.is_down("t0") and probes.states["t1"].answers is True)
    assert probes.states["t0"].said.startswith("503")
    await dial(house, ends[0].flow, target=Target("+15550199"))
    assert (len(ends[0].invites), len(ends[1].invites)) == (0, 1)
    down = False
    await until(lambda: probes.states["t0"].answers is True)
    await dial(house, ends[0].flow, target=Target("+15550199"))
    assert len(ends[0].invites) == 1
