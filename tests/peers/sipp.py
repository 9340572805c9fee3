"""SIPp as a session recording client: scenarios, and the legs' RTP beside it.

SIPp speaks the signalling. Of media it knows one audio stream a call, so the tones of the two
legs come from senders of the test, to the ports that SIPp was answered.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.sender import Pacer, RtpSender
from callreel.phone.sources import encode_source, parse_source
from callreel.server.system import SystemClock
from callreel.wire.rtp import Packetizer

ANNOUNCED = (41000, 41002)
"""The RTP ports in SIPp's offers. The tones come from others, as from many an SBC."""

_METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
  <datamode>complete</datamode>
  <session session_id="s1"><sipSessionID>ab30317f1a784dc48ff824d0d3715d86</sipSessionID></session>
  <participant participant_id="pa"><nameID aor="sip:+15550100@sbc.example.com">\
<name xml:lang="en">Ann</name></nameID></participant>
  <participant participant_id="pb"><nameID aor="sip:+15550199@sbc.example.com"/></participant>
  <stream stream_id="ta" session_id="s1"><label>96</label></stream>
  <stream stream_id="tb" session_id="s1"><label>97</label></stream>
  <participantstreamassoc participant_id="pa"><send>ta</send><recv>tb</recv>\
</participantstreamassoc>
  <participantstreamassoc participant_id="pb"><send>tb</send><recv>ta</recv>\
</participantstreamassoc>
{padding}</recording>"""


def _body(direction: str, version: int, padding: int) -> str:
    media = "\n".join(
        f"m=audio {port} RTP/AVP 0 8\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n"
        f"a={direction}\na=label:{label}"
        for port, label in zip(ANNOUNCED, ("96", "97"), strict=True)
    )
    filler = "".join(
        f'  <extensiondata id="e{n}" parent="s1">{"x" * 60}</extensiondata>\n'
        for n in range(padding // 100)
    )
    return f"""--foobar
Content-Type: application/sdp

v=0
o=SRC 2890844526 {version} IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
{media}

--foobar
Content-Type: application/rs-metadata+xml
Content-Disposition: recording-session

{_METADATA.format(padding=filler)}
--foobar--
"""


def _request(method: str, cseq: int, *, body: str = "", to_tag: bool = True) -> str:
    extra = ""
    if body:
        extra = "Require: siprec\nContent-Type: multipart/mixed;boundary=foobar\n"
    branch = "[branch-3]" if method == "CANCEL" else "[branch]"
    if method == "ACK-2xx":
        method, branch = "ACK", "[branch]"
    to = "[peer_tag_param]" if to_tag else ""
    return f"""<send{' retrans="500"' if method in ("INVITE", "BYE") else ""}><![CDATA[
{method} sip:recorder@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}
From: <sip:src@sbc.example.com>;tag=[pid]SIPp[call_number]
To: <sip:recorder@[remote_ip]>{to}
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:src@[local_ip]:[local_port];transport=[transport]>;+sip.src
Max-Forwards: 70
{extra}Content-Length: [len]

{body}]]></send>"""


_RECV_200 = '<recv response="100" optional="true"/><recv response="200"/>'
_RECV_200_AND_PORTS = r"""<recv response="100" optional="true"/><recv response="200"><action>
<ereg regexp="m=audio ([0-9]+) .*m=audio ([0-9]+) " search_in="msg" check_it="true"
 assign_to="whole,first,second"/>
<log message="PORTS [call_number] [$first] [$second]"/></action></recv>
<Reference variables="whole"/>"""


def scenario(
    *,
    talk_ms: int = 0,
    padding: int = 0,
    ack_after_ms: int = 0,
    hold_ms: Sequence[int] = (),
    cancel: bool = False,
) -> str:
    """A session as XML.

    ``hold_ms``: talk so long, hold so long, then go on. ``ack_after_ms``: as if our 200s had been
    lost. ``cancel``: take the INVITE back while it is pending.
    """
    steps = [_request("INVITE", 1, body=_body("sendonly", 1, padding), to_tag=False)]
    if cancel:
        steps += [
            '<recv response="100"/><pause milliseconds="100"/>',
            _request("CANCEL", 1, to_tag=False),
            '<recv response="200"/><recv response="487"/>',
            _request("ACK", 1).replace("[branch]", "[branch-6]"),
        ]
    else:
        steps.append(_RECV_200_AND_PORTS)
        if ack_after_ms:
            steps.append(f'<pause milliseconds="{ack_after_ms}"/>')
        steps.append(_request("ACK-2xx", 1))
        cseq = 2
        if hold_ms:
            for wait, direction in zip(hold_ms, ("inactive", "sendonly"), strict=True):
                steps.append(f'<pause milliseconds="{wait}"/>')
                steps.append(_request("INVITE", cseq, body=_body(direction, cseq, 0)))
                steps += [_RECV_200, _request("ACK-2xx", cseq)]
                cseq += 1
        steps.append(f'<pause milliseconds="{talk_ms}"/>')
        steps += [_request("BYE", cseq), '<recv response="200"/>']
    return (
        '<?xml version="1.0" encoding="UTF-8"?><scenario name="SRC">' + "\n".join(steps)
    ) + "</scenario>"


def need_sipp() -> str:
    found = shutil.which("sipp")
    if found is None:
        pytest.skip("SIPp is not installed (Debian: sip-tester)")
    return found


@dataclass
class Sipp:
    """SIPp running a scenario."""

    process: asyncio.subprocess.Process
    folder: Path

    @classmethod
    async def start(
        cls, server: OwnServer, folder: Path, xml: str, *, transport: str = "u1", calls: int = 1
    ) -> Sipp:
        program = need_sipp()
        (folder / "scenario.xml").write_text(xml)
        host, port = server.sip_uri.removeprefix("sip:").split(":")
        process = await asyncio.create_subprocess_exec(
            *(program, f"{host}:{port}", "-sf", "scenario.xml", "-i", "127.0.0.1"),
            *("-t", transport, "-m", str(calls), "-r", str(max(calls, 20)), "-nostdin"),
            *("-trace_logs", "-log_file", "ports.log", "-trace_err", "-error_file", "errors.log"),
            *("-timeout", "60", "-timeout_error"),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return cls(process, folder)

    async def ports(self, calls: int = 1) -> list[tuple[int, int]]:
        """What the server answered, a pair a call."""
        log = self.folder / "ports.log"
        for _ in range(400):
            text = log.read_text() if log.exists() else ""
            found = re.findall(r"PORTS \d+ (\d+) (\d+)", text)
            if len(found) >= calls:
                return [(int(first), int(second)) for first, second in found]
            assert self.process.returncode is None, self.errors()
            await asyncio.sleep(0.025)
        raise AssertionError(f"no answer: {self.errors()}")

    def errors(self) -> str:
        path = self.folder / "errors.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def succeed(self) -> None:
        """Wait for the end; every message must have been as the scenario expects."""
        assert await self.process.wait() == 0, self.errors()


class Legs:
    """Tones to the two ports of a call, from source ports other than the announced ones."""

    def __init__(self, *tones_hz: int) -> None:
        self._pacer = Pacer(SystemClock())
        self.senders = [
            RtpSender(
                "127.0.0.1",
                encode_source(parse_source(f"tone:{hz}"), "PCMU"),
                Packetizer(ssrc=hz, payload_type=0, sequence=65500, timestamp=4294960000),
            )
            for hz in tones_hz
        ]

    def play(self, ports: Sequence[int]) -> None:
        for sender, port in zip(self.senders, ports, strict=True):
            sender.remote = ("127.0.0.1", port)
        self._pacer.add(self.senders)

    def hold(self, on: bool) -> None:
        for sender in self.senders:
            sender.held = on

    async def close(self) -> None:
        await self._pacer.close()
        self._pacer.remove(self.senders)  # those too that never played
