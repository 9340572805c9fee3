"""SIPp with reliable provisional responses (RFC 3262), as caller and as callee."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callreel.signalling.user_agent import IncomingRequest, Provisional
from callreel.wire.sip.flow import Flow, Transport
from tests.peers.sipp import need_sipp
from tests.signalling.agents import Agents, ReliableHandler, listen

pytestmark = pytest.mark.peer

SDP = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 40000 RTP/AVP 0\n"


def _headers(method: str, cseq: int, *, to: str = "[peer_tag_param]") -> str:
    return f"""Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:sipp@[local_ip]>;tag=[pid]SIPp[call_number]
To: <sip:callreel@[remote_ip]>{to}
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70"""


CALLER = f"""<?xml version="1.0"?><scenario name="caller">
<send retrans="500"><![CDATA[
INVITE sip:callreel@[remote_ip]:[remote_port] SIP/2.0
{_headers("INVITE", 1, to="")}
Supported: 100rel
Content-Type: application/sdp
Content-Length: [len]

{SDP}]]></send>
<recv response="100" optional="true"/>
<recv response="183"><action>
<ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true" assign_to="rseq"/>
<ereg regexp="100rel" search_in="hdr" header="Require:" check_it="true" assign_to="tag"/>
</action></recv><Reference variables="tag"/>
<send retrans="500"><![CDATA[
PRACK sip:callreel@[remote_ip]:[remote_port] SIP/2.0
{_headers("PRACK", 2)}
RAck: [$rseq] 1 INVITE
Content-Length: 0

]]></send>
<recv response="200"><action>
<ereg regexp="2 PRACK" search_in="hdr" header="CSeq:" check_it="true" assign_to="one"/>
</action></recv><Reference variables="one"/>
<recv response="200"><action>
<ereg regexp="1 INVITE" search_in="hdr" header="CSeq:" check_it="true" assign_to="two"/>
</action></recv><Reference variables="two"/>
<send><![CDATA[
ACK sip:callreel@[remote_ip]:[remote_port] SIP/2.0
{_headers("ACK", 1)}
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
BYE sip:callreel@[remote_ip]:[remote_port] SIP/2.0
{_headers("BYE", 3)}
Content-Length: 0

]]></send>
<recv response="200"/></scenario>"""

_COPY = "[last_Via:]\n[last_From:]\n{to}\n[last_Call-ID:]\n[last_CSeq:]"
_TAGGED = _COPY.format(to="[last_To:];tag=[pid]SIPpTag01[call_number]")
_PLAIN = _COPY.format(to="[last_To:]")
_CONTACT = "Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>"
# The final answer has to have the Vias of the INVITE, which the PRACK has overtaken.
CALLEE = f"""<?xml version="1.0"?><scenario name="callee">
<recv request="INVITE"><action>
<ereg regexp="branch=[^;]+" search_in="hdr" header="Via:" check_it="true" assign_to="branch"/>
<ereg regexp=".*" search_in="hdr" header="Via:" check_it="true" assign_to="via"/>
<ereg regexp="100rel" search_in="hdr" header="Supported:" check_it="true" assign_to="tag"/>
</action></recv><Reference variables="tag,branch"/>
<send retrans="500"><![CDATA[
SIP/2.0 183 Session Progress
{_TAGGED}
{_CONTACT}
Require: 100rel
RSeq: 4711
Content-Type: application/sdp
Content-Length: [len]

{SDP}]]></send>
<recv request="PRACK"><action>
<ereg regexp="4711 1 INVITE" search_in="hdr" header="RAck:" check_it="true" assign_to="rack"/>
</action></recv><Reference variables="rack"/>
<send><![CDATA[
SIP/2.0 200 OK
{_PLAIN}
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
SIP/2.0 200 OK
Via:[$via]
[last_From:]
[last_To:]
[last_Call-ID:]
CSeq: 1 INVITE
{_CONTACT}
Content-Length: 0

]]></send>
<recv request="ACK"/>
<recv request="BYE"/>
<send><![CDATA[
SIP/2.0 200 OK
{_PLAIN}
Content-Length: 0

]]></send></scenario>"""


@pytest.fixture
async def agents() -> AsyncIterator[Agents]:
    made = Agents()
    yield made
    for agent in made.all:
        await agent.close()


async def _sipp(folder: Path, xml: str, *options: str) -> asyncio.subprocess.Process:
    program = need_sipp()
    (folder / "scenario.xml").write_text(xml)
    return await asyncio.create_subprocess_exec(
        *(program, *options, "-sf", "scenario.xml", "-i", "127.0.0.1", "-m", "1", "-nostdin"),
        *("-trace_err", "-error_file", "errors.log", "-timeout", "20", "-timeout_error"),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _succeed(process: asyncio.subprocess.Process, folder: Path) -> None:
    log = folder / "errors.log"
    status = await process.wait()
    assert status == 0, log.read_text(errors="replace") if log.exists() else status


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
async def test_caller(agents: Agents, tmp_path: Path, transport: Transport) -> None:
    handler = ReliableHandler()

    async def answer(incoming: IncomingRequest) -> None:
        body = SDP.encode().replace(b"\n", b"\r\n")
        incoming.respond(183, body=body, content_type="application/sdp", reliable=True)
        incoming.respond(200)
        await incoming.acknowledged()

    handler.on_invite = answer
    flow = await listen(agents.make(handler), transport)
    kind = "u1" if transport is Transport.UDP else "t1"
    process = await _sipp(tmp_path, CALLER, f"{flow.host}:{flow.port}", "-t", kind)
    await _succeed(process, tmp_path)
    assert [one.request.method for one in handler.seen] == ["INVITE", "BYE"]


async def test_callee(agents: Agents, tmp_path: Path) -> None:
    client = agents.make(ReliableHandler())
    await listen(client, Transport.UDP)
    # A port that is free now; SIPp names none that it has taken by itself.
    spare = agents.make()
    port = (await listen(spare, Transport.UDP)).port
    await spare.close()
    process = await _sipp(tmp_path, CALLEE, "-p", str(port), "-t", "u1")
    flow = Flow(Transport.UDP, "127.0.0.1", port)
    invite = client.new_request(
        "INVITE",
        f"sip:sipp@127.0.0.1:{port}",
        from_uri="sip:callreel@127.0.0.1",
        body=SDP.encode().replace(b"\n", b"\r\n"),
        content_type="application/sdp",
    )
    rung: list[Provisional] = []
    # SIPp may not be there yet: the INVITE is sent again until it is.
    async with client.outgoing_invite(invite, [flow], on_provisional=rung.append) as attempt:
        assert (await attempt.final()).code == 200
        dialog = await attempt.acknowledge()
    assert [(one.response.code, one.reliable) for one in rung] == [(183, True)]
    assert rung[0].dialog is dialog
    assert (await client.request_in_dialog(dialog, "BYE")).code == 200
    await _succeed(process, tmp_path)
