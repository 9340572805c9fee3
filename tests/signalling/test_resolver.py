"""RFC 3263 against a real name server, and what happens when a host does not answer."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tests.signalling.agents import Agents, Handler, JumpClock, RawServer, listen
from tests.signalling.nameserver import NameServer

from callreel.base.errors import PeerError
from callreel.signalling import resolver as module
from callreel.signalling.resolver import Resolver
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.values import URI


@pytest.fixture
def clock() -> JumpClock:
    return JumpClock()


@pytest.fixture
def resolver(names: NameServer, clock: JumpClock, tmp_path: Path) -> Resolver:
    return Resolver(
        clock=clock,
        fraction=lambda: 0.0,
        nameservers=["127.0.0.1"],
        port=names.port,
        hosts_file=tmp_path / "hosts",
    )


async def ways(resolver: Resolver, uri: str) -> list[str]:
    return [str(flow) for flow in await resolver.locate(URI.parse(uri))]


async def test_naptr_srv_and_addresses(names: NameServer, resolver: Resolver) -> None:
    names.add(
        "example.com",
        "NAPTR",
        '20 10 "s" "SIP+D2U" "" _sip._udp.example.com.',
        '10 10 "s" "SIPS+D2T" "" _sips._tcp.example.com.',
        '5 10 "s" "SIP+D2S" "" _sip._sctp.example.com.',
    )
    names.add("_sips._tcp.example.com", "SRV", "0 0 5081 secure.carrier.example.")
    names.add(
        "_sip._udp.example.com", "SRV", "20 0 5070 b.example.com.", "10 0 5060 a.example.com."
    )
    names.add("secure.carrier.example", "A", "192.0.2.1")
    names.add("a.example.com", "A", "192.0.2.2", "192.0.2.3")
    names.add("a.example.com", "AAAA", "2001:db8::2")
    names.add("b.example.com", "AAAA", "2001:db8::3")
    flows = await resolver.locate(URI.parse("sip:a@Example.com"))
    flows[1:3] = sorted(flows[1:3], key=str)  # the DNS gives addresses in any order
    assert flows == [
        Flow(Transport.TLS, "192.0.2.1", 5081, domain="example.com"),
        Flow(Transport.UDP, "192.0.2.2", 5060),
        Flow(Transport.UDP, "192.0.2.3", 5060),
        Flow(Transport.UDP, "2001:db8::2", 5060),
        Flow(Transport.UDP, "2001:db8::3", 5070),
    ]
    assert await resolver.locate(URI.parse("sips:a@example.com")) == flows[:1]


async def test_srv_without_naptr(names: NameServer, resolver: Resolver) -> None:
    names.add("_sip._tcp.example.com", "SRV", "0 0 5070 a.example.com.", "1 0 5070 gone.example.")
    names.add("a.example.com", "A", "192.0.2.2")
    assert await ways(resolver, "sip:example.com") == ["tcp:192.0.2.2:5070"]
    assert names.asked["example.com", "NAPTR"] == 1
    assert await ways(resolver, "sip:example.com;transport=tcp") == ["tcp:192.0.2.2:5070"]
    assert names.asked["_sips._tcp.example.com", "SRV"] == 0  # sip: is not made sips: by chance


async def test_what_skips_the_srv_records(names: NameServer, resolver: Resolver) -> None:
    names.add("example.com", "A", "192.0.2.2")
    names.add("_sip._udp.example.com", "SRV", "0 0 5070 example.com.")
    assert await ways(resolver, "sip:example.com:5090") == ["udp:192.0.2.2:5090"]
    assert await ways(resolver, "sip:192.0.2.9;transport=tcp") == ["tcp:192.0.2.9:5060"]
    assert await ways(resolver, "sips:[2001:db8::1]") == ["tls:[2001:db8::1]:5061"]
    assert set(names.asked) == {("example.com", "A"), ("example.com", "AAAA")}


async def test_addresses_alone(names: NameServer, resolver: Resolver) -> None:
    names.add("h.example", "A", "192.0.2.2")
    assert await ways(resolver, "sip:h.example") == ["udp:192.0.2.2:5060"]
    assert await ways(resolver, "sip:h.example;transport=tls") == ["tls:192.0.2.2:5061"]


async def test_answers_are_kept_as_long_as_they_say(
    names: NameServer, resolver: Resolver, clock: JumpClock
) -> None:
    names.add("h.example", "A", "192.0.2.2", ttl=50)
    for _ in range(3):
        await ways(resolver, "sip:h.example:1")
    assert (names.asked["h.example", "A"], names.asked["h.example", "AAAA"]) == (1, 1)
    clock.ahead = 31.0  # that there is no AAAA is not believed for long
    await ways(resolver, "sip:h.example:1")
    assert (names.asked["h.example", "A"], names.asked["h.example", "AAAA"]) == (1, 2)
    clock.ahead = 51.0
    names.add("h.example", "A", "192.0.2.3", ttl=0)
    assert await ways(resolver, "sip:h.example:1") == ["udp:192.0.2.3:1"]
    await ways(resolver, "sip:h.example:1")
    assert names.asked["h.example", "A"] == 3


async def test_the_memory_is_bounded(
    names: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 4)
    for number in range(6):
        names.add(f"h{number}.example", "A", "192.0.2.2")
        await ways(resolver, f"sip:h{number}.example:1")
    assert len(resolver._cache) == 4


async def test_one_question_for_many_who_ask(names: NameServer, resolver: Resolver) -> None:
    names.add("h.example", "A", "192.0.2.2")
    await asyncio.gather(*(ways(resolver, "sip:h.example:1") for _ in range(20)))
    assert names.asked["h.example", "A"] == 1


async def test_a_server_that_knows_no_naptr(names: NameServer, resolver: Resolver) -> None:
    names.fails_on = {"NAPTR", "SRV"}
    names.add("h.example", "A", "192.0.2.2")
    assert await ways(resolver, "sip:h.example") == ["udp:192.0.2.2:5060"]


async def test_hosts_file_comes_first(
    names: NameServer, resolver: Resolver, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("::1 pbx\n192.0.2.7 pbx PBX.example\n")
    assert await ways(resolver, "sip:pbx") == ["udp:192.0.2.7:5060", "udp:[::1]:5060"]
    assert await ways(resolver, "sip:pbx.example:7") == ["udp:192.0.2.7:7"]
    (tmp_path / "hosts").write_text("192.0.2.88 pbx\n")
    assert await ways(resolver, "sip:pbx") == ["udp:192.0.2.88:5060"]
    assert (await ways(resolver, "sip:localhost"))[0] == "udp:127.0.0.1:5060"
    assert not names.asked


@pytest.mark.parametrize("uri", ["sip:nowhere.example", f"sip:{'a' * 64}.example:1"])
async def test_nothing_there(resolver: Resolver, uri: str) -> None:
    with pytest.raises(PeerError, match="cannot be resolved") as caught:
        await ways(resolver, uri)
    assert caught.value.status == 503


async def test_no_answer(
    names: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.silent = True
    monkeypatch.setattr(module, "TOTAL_SECONDS", 0.1)
    with pytest.raises(PeerError, match="does not answer") as caught:
        await ways(resolver, "sip:h.example")
    assert caught.value.status == 503
    await resolver.close()
    assert not resolver._under_way


async def test_questions_are_bounded(
    names: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.silent = True
    monkeypatch.setattr(module, "MAX_UNDER_WAY", 1)
    with pytest.raises(PeerError, match="too many"):
        await ways(resolver, "sip:h.example:1")
    await resolver.close()


# Failover (RFC 3263 §4.3)


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def test_next_server_where_the_first_cannot_be_reached(
    agents: Agents, names: NameServer
) -> None:
    agents.dns_port = names.port
    handler = Handler()
    good = await listen(agents.make(handler), Transport.TCP)
    names.add(
        "_sip._tcp.example.com",
        "SRV",
        f"10 0 {_closed_port()} down.example.com.",
        f"20 0 {good.port} up.example.com.",
    )
    names.add("down.example.com", "A", "127.0.0.1")
    names.add("up.example.com", "A", "127.0.0.1")
    client = agents.make()
    uri = "sip:b@example.com;transport=tcp"
    flows = await client.resolve_all(uri)
    assert flows[1] == good
    invite = client.new_request("INVITE", uri, from_uri="sip:a@h", body=b"v=0\r\n")
    async with client.outgoing_invite(invite, flows) as attempt:
        assert (await attempt.final()).code == 200
        dialog = await attempt.acknowledge()
    assert attempt.flow == good
    assert (await client.request_in_dialog(dialog, "BYE")).code == 200
    # For a while the one that failed is tried last.
    assert await client.resolve_all(uri) == [good, flows[0]]
    agents.clock.ahead = 31.0
    assert await client.resolve_all(uri) == flows


async def test_next_server_after_503_with_a_new_branch(agents: Agents) -> None:
    handler = Handler()
    good = await listen(agents.make(handler), Transport.UDP)
    async with RawServer() as busy:
        client = agents.make()
        port = (await listen(client, Transport.UDP)).port
        invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=b"v=0\r\n")
        async with client.outgoing_invite(invite, [busy.flow, good]) as attempt:
            first = await busy.request("INVITE")
            await busy.reply(first, port, 503)
            await busy.request("ACK")
            assert (await attempt.final()).code == 200
            await attempt.acknowledge()
        second = handler.seen[0].request
        assert second.top_via.branch != first.top_via.branch
        assert (second.call_id, second.cseq, second.from_address.tag) == (
            first.call_id,
            first.cseq,
            first.from_address.tag,
        )
        options = client.new_request("OPTIONS", "sip:b@h", from_uri="sip:a@h")
        task = asyncio.create_task(client.request_any(options, [busy.flow, good]))
        await busy.reply(await busy.request("OPTIONS"), port, 503)
        assert (await task).code == 200


async def test_the_last_503_is_the_answer(agents: Agents) -> None:
    async with RawServer() as busy:
        client = agents.make()
        port = (await listen(client, Transport.UDP)).port
        invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h")
        async with client.outgoing_invite(invite, [busy.flow]) as attempt:
            await busy.reply(await busy.request("INVITE"), port, 503)
            assert (await attempt.final()).code == 503


@pytest.mark.parametrize("first_response_s", [None, 0.1])
async def test_next_server_where_the_first_is_mute(
    agents: Agents, first_response_s: float | None
) -> None:
    good = await listen(agents.make(), Transport.UDP)
    async with RawServer() as mute:
        client = agents.make()
        await listen(client, Transport.UDP)
        invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h", body=b"v=0\r\n")
        async with client.outgoing_invite(
            invite, [mute.flow, good], first_response_s=first_response_s
        ) as attempt:
            await mute.request("INVITE")
            if first_response_s is None:
                await mute.request("INVITE")  # sent again, its timers are set
                agents.clock.ahead += 33.0
            assert (await attempt.final()).code == 200
            await attempt.acknowledge()
        assert attempt.flow == good


async def test_who_rang_is_not_given_up_for_another(agents: Agents) -> None:
    handler = Handler()
    other = await listen(agents.make(handler), Transport.UDP)
    async with RawServer() as peer:
        client = agents.make()
        port = (await listen(client, Transport.UDP)).port
        invite = client.new_request("INVITE", "sip:b@h", from_uri="sip:a@h")
        async with client.outgoing_invite(
            invite, [peer.flow, other], first_response_s=0.1
        ) as attempt:
            request = await peer.request("INVITE")
            await peer.reply(request, port, 180)
            await asyncio.sleep(0.2)
            await peer.reply(request, port, 486)
            assert (await attempt.final()).code == 486
            assert attempt.flow == peer.flow
    assert handler.seen == []
