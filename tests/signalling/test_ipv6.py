"""Both families at once: each peer is spoken to from the socket of its own."""

from __future__ import annotations

import socket

import pytest
from tests.signalling.agents import Agents, Handler, listen

from callreel.wire.sip.flow import Flow, Transport


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
async def test_dual_stack(agents: Agents, transport: Transport) -> None:
    handler = Handler()
    server, client = agents.make(handler), agents.make()
    four = await listen(server, transport, "127.0.0.1")
    six = await listen(server, transport, "::1")
    await listen(client, transport, "127.0.0.1")
    own = await listen(client, transport, "::1")
    for flow, host in ((four, "127.0.0.1"), (six, "[::1]")):
        uri = f"sip:srs@{host}:{flow.port};transport={transport}"
        assert await client.resolve(uri) == Flow(transport, flow.host, flow.port)
        invite = client.new_request("INVITE", uri, from_uri="sip:a@h", body=b"v=0\r\n")
        dialog, _ = await client.invite(invite, await client.resolve(uri))
        assert (await client.request_in_dialog(dialog, "BYE")).code == 200
    first, _, second, bye = handler.seen
    assert [first.flow.host, second.flow.host] == ["127.0.0.1", "::1"]
    assert (second.request.top_via.host, second.request.top_via.port) == ("[::1]", own.port)
    assert f"@[::1]:{own.port}" in second.request.headers["Contact"]
    assert second.contact.partition(";")[0] == f"sip:callreel@[::1]:{six.port}"
    assert str(bye.request.uri).startswith(f"sip:callreel@[::1]:{six.port}")


async def test_the_same_port_in_both_families(agents: Agents) -> None:
    agent = agents.make()
    _, port = await agent.listen_udp("0.0.0.0")
    assert await agent.listen_udp("::", port) == ("::", port)


async def test_a_peer_of_a_family_that_we_do_not_speak(agents: Agents) -> None:
    agent = agents.make()
    await listen(agent, Transport.UDP)
    names = {"two.example": ("127.0.0.2", "::1"), "six.example": ("::1",)}
    agent.resolver._known = lambda host: names[host]  # type: ignore[method-assign]
    assert [flow.host for flow in await agent.resolve_all("sip:two.example")] == ["127.0.0.2"]
    assert [flow.host for flow in await agent.resolve_all("sip:six.example")] == ["::1"]
