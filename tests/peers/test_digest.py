"""Digest with SIPp: a stranger's arithmetic against ours, in both roles."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callreel.service.throttle import FailureThrottle
from callreel.signalling.authentication import Gate
from callreel.signalling.credentials import request_with_credentials
from callreel.signalling.peers import PeerDirectory
from callreel.signalling.registrar import Registrar
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.signalling.users import User, UserDirectory
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.digest import Algorithm
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request

pytestmark = pytest.mark.peer

PASSWORD = "open,Sesame=42"


class Now:
    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


class Forgetful:
    """Keeps nothing: no process ends here."""

    async def keep(self, states: Mapping[str, str | None]) -> None:
        return

    async def every(self) -> Mapping[str, str]:
        return {}


class Office:
    """A registrar whose user may call."""

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "REGISTER")
    option_tags = ()

    def __init__(self) -> None:
        # SIPp 3.6 answers the first challenge only, and not SHA-256.
        alice = User("alice", "acc", password=PASSWORD)
        users = UserDirectory([alice], "callreel", algorithms=[Algorithm.MD5])
        throttle = FailureThrottle(burst=20, salt=b"s")
        self.gate = Gate(
            peers=PeerDirectory([]), users=users, key=b"k" * 32, clock=Now(), throttle=throttle
        )
        self.registrar = Registrar(gate=self.gate, store=Forgetful(), clock=Now())
        self.registered = ""
        self.allowed: list[Request] = []

    async def handle_request(self, incoming: IncomingRequest) -> None:
        if incoming.request.method == "REGISTER":
            await self.registrar.handle(incoming)
            self.registered = "".join(one.contact for one in self.registrar.find("alice"))
        elif incoming.request.method == "INVITE":
            if self.gate.admit(incoming) is not None:
                self.allowed.append(incoming.request)
                incoming.respond(200)
                await incoming.acknowledged()
        else:
            incoming.respond(200)


@pytest.fixture
async def office() -> AsyncIterator[tuple[Office, UserAgent, int]]:
    office = Office()
    agent = UserAgent(clock=Now(), ids=CountingIds(), handler=office)
    _, port = await agent.listen_udp("127.0.0.1")
    await agent.listen_tcp("127.0.0.1", port)
    yield office, agent, port
    await agent.close()


def request(method: str, cseq: int, *, extra: str = "", to: str = "", branch: str = "") -> str:
    user = "" if method == "REGISTER" else "42@"
    return f"""<send><![CDATA[
{method} sip:{user}[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch or "[branch]"}
From: <sip:alice@[remote_ip]>;tag=[pid]SIPp[call_number]
To: <sip:{"alice" if method == "REGISTER" else "42"}@[remote_ip]>{to}
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:alice@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
{extra}Content-Length: 0

]]></send>"""


def answered(password: str) -> str:
    return f"[authentication username=alice password={password}]\n"


def calling(password: str, code: int) -> str:
    steps = [
        request("INVITE", 1),
        '<recv response="401" auth="true"/>',
        request("ACK", 1, to="[peer_tag_param]", branch="[branch-2]"),
        request("INVITE", 2, extra=answered(password)),
        f'<recv response="{code}"/>',
    ]
    if code == 200:
        steps += [
            request("ACK", 2, to="[peer_tag_param]"),
            request("BYE", 3, to="[peer_tag_param]"),
            '<recv response="200"/>',
        ]
    else:
        steps.append(request("ACK", 2, to="[peer_tag_param]", branch="[branch-2]"))
    return "".join(steps)


def registering(password: str, code: int) -> str:
    return "".join(
        [
            request("REGISTER", 1, extra="Expires: 120\n"),
            '<recv response="401" auth="true"/>',
            request("REGISTER", 2, extra="Expires: 120\n" + answered(password)),
            f'<recv response="{code}"/>',
        ]
    )


async def run(sipp: str, folder: Path, steps: str, *arguments: str) -> str:
    """Run a scenario to its end; every message must be as it expects."""
    xml = f'<?xml version="1.0" encoding="UTF-8"?><scenario name="digest">{steps}</scenario>'
    (folder / "scenario.xml").write_text(xml)
    process = await asyncio.create_subprocess_exec(
        *(sipp, "-sf", "scenario.xml", "-i", "127.0.0.1", "-m", "1", "-nostdin"),
        *("-trace_err", "-error_file", "errors.log", "-timeout", "10", "-timeout_error"),
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    code = await process.wait()
    log = folder / "errors.log"
    errors = log.read_text(errors="replace") if log.exists() else ""
    assert code == 0, errors
    return errors


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_sipp_registers_and_calls(
    sipp: str, office: tuple[Office, UserAgent, int], tmp_path: Path, transport: str
) -> None:
    handler, _, port = office
    target = (f"127.0.0.1:{port}", "-t", transport)
    await run(sipp, tmp_path, registering(PASSWORD, 200), *target)
    assert re.fullmatch(r"sip:alice@127\.0\.0\.1:\d+;transport=(UDP|TCP)", handler.registered)
    await run(sipp, tmp_path, calling(PASSWORD, 200), *target)
    assert len(handler.allowed) == 1


async def test_sipp_with_a_wrong_password(
    sipp: str, office: tuple[Office, UserAgent, int], tmp_path: Path
) -> None:
    handler, _, port = office
    await run(sipp, tmp_path, registering("wrong", 401), f"127.0.0.1:{port}")
    await run(sipp, tmp_path, calling("wrong", 401), f"127.0.0.1:{port}")
    assert (handler.registered, handler.allowed) == ("", [])


CHALLENGING = r"""<recv request="REGISTER"/>
<send><![CDATA[
SIP/2.0 401 Unauthorized
[last_Via:]
[last_From:]
[last_To:];tag=[pid]SIPp[call_number]
[last_Call-ID:]
[last_CSeq:]
WWW-Authenticate: Digest realm="a, b", nonce="47ebe028cda119c35d4877b383027d28da013815", \
qop="auth,auth-int", algorithm=MD5
Content-Length: 0

]]></send>
<recv request="REGISTER"><action>
<verifyauth assign_to="valid" username="alice" password="open,Sesame=42"/>
</action></recv>
<nop next="good" test="valid"/>
<send><![CDATA[
SIP/2.0 403 Forbidden
[last_Via:]
[last_From:]
[last_To:];tag=[pid]SIPp[call_number]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
<nop next="end"/>
<label id="good"/>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]SIPp[call_number]
[last_Call-ID:]
[last_CSeq:]
[last_Contact:]
Content-Length: 0

]]></send>
<label id="end"/>""".replace("\\\n", "")


@pytest.mark.parametrize(("password", "code"), [(PASSWORD, 200), ("wrong", 403)])
async def test_sipp_verifies_us(
    sipp: str,
    office: tuple[Office, UserAgent, int],
    tmp_path: Path,
    password: str,
    code: int,
) -> None:
    _, agent, _ = office
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    peer = asyncio.create_task(run(sipp, tmp_path, CHALLENGING, "-p", str(port)))
    client = DigestClient(Credentials("alice", password), CountingIds())
    uri = f"sip:127.0.0.1:{port}"
    register = agent.new_request(
        "REGISTER",
        uri,
        from_uri="sip:alice@127.0.0.1",
        to_uri="sip:alice@127.0.0.1",
        headers=[("Contact", "<sip:alice@127.0.0.1:5060>")],
    )
    flow = Flow(Transport.UDP, "127.0.0.1", port)
    # Sent again until SIPp is there.
    _, response = await request_with_credentials(agent, register, flow, client)
    assert response.code == code
    await peer
