"""Scenarios for SIPp as a phone that calls, and as one that is called: pieces of XML to be joined.

A piece is one message or one thing to wait for. ``caller(...)`` and ``callee(...)`` make the
whole of them; SIPp fails where something else comes than what they expect.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

TONES = {0: "tone.ulaw", 8: "tone.alaw"}
"""What is said, by codec: in the folder in which SIPp runs."""

_CODECS = {0: "PCMU/8000", 8: "PCMA/8000", 4: "G723/8000", 101: "telephone-event/8000"}


def sdp(
    *,
    codecs: Sequence[int] = (0, 8),
    direction: str = "sendrecv",
    address: str = "[media_ip]",
    port: str = "[rtpstream_audio_port]",
    version: int = 1,
    audio: bool = True,
) -> str:
    """A description; without ``audio`` it has video alone."""
    media = [f"m=audio {port} RTP/AVP {' '.join(str(one) for one in codecs)}"]
    media += [f"a=rtpmap:{one} {_CODECS[one]}" for one in codecs]
    if not audio:
        media = [f"m=video {port} RTP/AVP 96", "a=rtpmap:96 H264/90000"]
    lines = ["v=0", f"o=sipp 53655765 {version} IN IP4 [local_ip]", "s=-", f"c=IN IP4 {address}"]
    return "\n".join([*lines, "t=0 0", *media, f"a={direction}"]) + "\n"


def pause(milliseconds: int) -> str:
    return f'<pause milliseconds="{milliseconds}"/>'


def speak(codec: int = 0) -> str:
    """Say the tone from now on, to where the peer's last description said."""
    stream = f"{TONES[codec]},-1,{codec}"
    return f'<nop><action><exec rtp_stream="{stream}"/></action></nop>'


def hush(on: bool) -> str:
    """Say nothing for a while, or go on."""
    return f'<nop><action><exec rtp_stream="{"pause" if on else "resume"}"/></action></nop>'


def expect(
    status: int, *, optional: Sequence[int] = (), keep: bool = False, containing: str = ""
) -> str:
    """A response. ``keep``: where its dialog is from now on, and by which way."""
    before = "".join(f'<recv response="{one}" optional="true"/>' for one in optional)
    kept = ' rrs="true"' if keep else ""
    if containing:
        return before + f'<recv response="{status}"{kept}>{_contains(containing)}</recv>'
    return before + f'<recv response="{status}"{kept}/>'


_STEP = re.compile(r"<(?:send|recv|pause|nop|timewait)\b")
_BRANCH_OF = re.compile(r"@branch-of-([0-9]+)@")


def _whole(name: str, pieces: Sequence[str]) -> str:
    """SIPp counts a branch back in steps; here it is named by the CSeq of its INVITE."""
    steps = 0
    invites: dict[str, int] = {}
    done = []
    for piece in pieces:
        found = _BRANCH_OF.search(piece)
        if found is not None:
            piece = _BRANCH_OF.sub(f"[branch-{steps - invites[found[1]]}]", piece)
        invite = re.search(r"^CSeq: ([0-9]+) INVITE$", piece, re.MULTILINE)
        if invite is not None and piece.startswith("<send"):
            invites.setdefault(invite[1], steps)
        steps += len(_STEP.findall(piece))
        done.append(piece)
    head = f'<?xml version="1.0" encoding="UTF-8"?><scenario name="{name}">'
    return head + "\n".join(done) + "</scenario>"


# The caller


def caller(*pieces: str) -> str:
    return _whole("caller", pieces)


def invite(
    dialled: str, number: str, *, body: str | None = None, cseq: int = 1, headers: str = ""
) -> str:
    """The first INVITE, from ``number``; an empty body: without an offer."""
    body = sdp() if body is None else body
    return _send(
        "INVITE",
        f"sip:{dialled}@[remote_ip]:[remote_port]",
        f'"Ann" <sip:{number}@[local_ip]:[local_port]>;tag=[pid]a[call_number]',
        f"<sip:{dialled}@[remote_ip]:[remote_port]>",
        cseq,
        body=body,
        headers=headers,
        branch="[branch]",
    )


class Dialog:
    """Requests of the side that called, from ``number``, within the dialog."""

    def __init__(self, dialled: str, number: str) -> None:
        self._from = f'"Ann" <sip:{number}@[local_ip]:[local_port]>;tag=[pid]a[call_number]'
        self._to = f"<sip:{dialled}@[remote_ip]:[remote_port]>[peer_tag_param]"
        self._dialled = dialled

    def ack(self, cseq: int = 1, *, body: str = "") -> str:
        """Of a 2xx."""
        return self._request("ACK", cseq, body=body)

    def ack_refusal(self, cseq: int = 1) -> str:
        """Of any other final response: it has the INVITE's own branch."""
        uri = f"sip:{self._dialled}@[remote_ip]:[remote_port]" if cseq == 1 else "[next_url]"
        return _send("ACK", uri, self._from, self._to, cseq, branch=f"@branch-of-{cseq}@")

    def cancel(self) -> str:
        uri = f"sip:{self._dialled}@[remote_ip]:[remote_port]"
        to = f"<sip:{self._dialled}@[remote_ip]:[remote_port]>"
        return _send("CANCEL", uri, self._from, to, 1, branch="@branch-of-1@")

    def bye(self, cseq: int = 2) -> str:
        return self._request("BYE", cseq)

    def reinvite(self, cseq: int, body: str) -> str:
        return self._request("INVITE", cseq, body=body)

    def request(self, method: str, cseq: int, *, body: str = "", headers: str = "") -> str:
        return self._request(method, cseq, body=body, headers=headers)

    def _request(self, method: str, cseq: int, *, body: str = "", headers: str = "") -> str:
        return _send(
            method,
            "[next_url]",
            self._from,
            self._to,
            cseq,
            body=body,
            headers="[routes]\n" + headers,
        )


# The callee


def callee(*pieces: str) -> str:
    return _whole("callee", pieces)


def take_invite(*, hops: int = 1) -> str:
    """The first INVITE, over so many hops: what is said later in its dialog is kept from it."""
    kept = {"theirs": "From:", "ours": "To:"}
    regexps = [
        f'<ereg regexp=".*" search_in="hdr" header="{header}" assign_to="{name}"/>'
        for name, header in kept.items()
    ]
    regexps += [
        f'<ereg regexp=".*" search_in="hdr" header="Via:" occurrence="{hop}" assign_to="via{hop}"/>'
        for hop in range(1, hops + 1)
    ]
    names = ",".join([*kept, *(f"via{hop}" for hop in range(1, hops + 1))])
    return (
        f'<recv request="INVITE" rrs="true"><action>{"".join(regexps)}</action></recv>'
        f'<Reference variables="{names}"/>'
    )


def vias(hops: int = 1) -> str:
    """Of the first INVITE, for an answer to it when there has been another request meanwhile."""
    return "\n".join(f"Via:[$via{hop}]" for hop in range(1, hops + 1))


def take(method: str, *, containing: str = "", optional: bool = False) -> str:
    """A request, in which a regular expression is to be found."""
    flag = ' optional="true"' if optional else ""
    if not containing:
        return f'<recv request="{method}"{flag}/>'
    return f"""<recv request="{method}"{flag}>{_contains(containing)}</recv>"""


_found = itertools.count()


def _contains(pattern: str) -> str:
    name = f"found{next(_found)}"
    return (
        f'<action><ereg regexp="{pattern}" search_in="msg" check_it="true" assign_to="{name}"/>'
        f'<log message="[${name}]"/></action>'
    )


def respond(
    status: int,
    phrase: str,
    *,
    body: str = "",
    headers: str = "",
    tag: str = "b",
    again: bool = False,
    cseq: str = "[last_CSeq:]",
    via: str = "[last_Via:]",
) -> str:
    """To the last request. ``tag``: ours, for one that has none yet; ``again``: until the ACK."""
    to = f"[last_To:];tag=[pid]{tag}[call_number]" if tag else "[last_To:]"
    contact = "Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>\n"
    retrans = ' retrans="500"' if again else ""
    return f"""<send{retrans}><![CDATA[
SIP/2.0 {status} {phrase}
{via}
[last_Record-Route:]
[last_From:]
{to}
[last_Call-ID:]
{cseq}
{contact if status < 300 else ""}{_content(body)}{headers}Content-Length: [len]

{body}]]></send>"""


def respond_ok() -> str:
    """200 within the dialog, to what has no answer of its own."""
    return respond(200, "OK", tag="")


def give_up(*, tag: str = "b", hops: int = 1) -> list[str]:
    """Take a CANCEL: 200 to it, 487 to the INVITE, and the ACK of that."""
    return [
        take("CANCEL"),
        respond(200, "OK", tag=tag),
        respond(487, "Request Terminated", tag=tag, cseq="CSeq: 1 INVITE", via=vias(hops)),
        take("ACK"),
    ]


def callee_request(
    method: str, cseq: int, *, body: str = "", headers: str = "", tag: str = "b"
) -> str:
    """A request of the side that was called."""
    return _send(
        method,
        "[next_url]",
        f"[$ours];tag=[pid]{tag}[call_number]",
        "[$theirs]",
        cseq,
        body=body,
        headers="[routes]\n" + headers,
    )


def answer(*, body: str | None = None, headers: str = "") -> list[str]:
    """200 with a description, its ACK, and the tone."""
    described = sdp() if body is None else body
    return [
        respond(200, "OK", body=described, headers=headers, again=True),
        take("ACK"),
        speak(),
    ]


def _content(body: str) -> str:
    return "Content-Type: application/sdp\n" if body else ""


def _send(
    method: str,
    uri: str,
    from_: str,
    to: str,
    cseq: int,
    *,
    body: str = "",
    headers: str = "",
    branch: str = "[branch]",
) -> str:
    retrans = "" if method == "ACK" else ' retrans="500"'
    return f"""<send{retrans}><![CDATA[
{method} {uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}
From: {from_}
To: {to}
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
Allow: INVITE, ACK, BYE, CANCEL, UPDATE, OPTIONS, NOTIFY, REFER
{_content(body)}{headers}Content-Length: [len]

{body}]]></send>"""
