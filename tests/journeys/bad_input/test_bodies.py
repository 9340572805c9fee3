"""Offers that cannot be taken, and metadata that cannot be read: refused, or taken all the same."""

from __future__ import annotations

import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.sdp import metadata, multipart, part, sdp, siprec, stream

SDP_TYPE = "application/sdp"
XML_TYPE = "application/rs-metadata+xml"


@pytest.mark.parametrize(
    ("streams", "reason"),
    [
        ([stream(formats="4", more=("rtpmap:4 G723/8000",))], "no codec"),
        ([stream(formats="111", more=("rtpmap:111 AMR-WB/16000",))], "no codec"),
        ([stream(formats="99")], "no codec"),
        ([stream(protocol="RTP/SAVP", more=("crypto:1 AES_CM_128 inline:x",))], "RTP/SAVP"),
        ([stream(protocol="UDP/TLS/RTP/SAVPF")], "SAVPF"),
        ([stream(kind="video", formats="31")], "video"),
        ([stream(direction="recvonly")], "only receives"),
        ([stream(41000 + 2 * n, label=str(n)) for n in range(33)], "more than 32"),
        ([stream(more=("x:y",) * 1500)], "too many attributes"),
        ([stream(formats=" ".join(str(n) for n in range(100)))], "too many formats"),
        ([stream(more=("fmtp:0 " + "x" * 2000,))], "at most 1024"),
    ],
    ids=[
        "g723",
        "amr-wb",
        "unnamed",
        "srtp",
        "dtls",
        "video",
        "recvonly",
        "33",
        "1500",
        "many",
        "fmtp",
    ],
)
def test_offers_without_a_stream_for_us(server: OwnServer, streams: list[str], reason: str) -> None:
    with SipPeer(server) as peer:
        reply = RawCall(peer).invite(siprec(sdp(*streams)))
        assert reply.code == 488
        assert reply.headers["warning"].startswith('399 callreel "')
        assert reason in reply.headers["warning"]


@pytest.mark.parametrize(
    "offer",
    [
        "this is no description",
        "v=0\r\nm=audio 70000 RTP/AVP 0\r\n",
        "v=0\r\nm=audio -1 RTP/AVP 0\r\n",
        "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 41000 RTP/AVP zero\r\n",
        "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 41000 RTP/AVP 300\r\n",
        "v=0\r\nm=audio 41000 RTP/AVP 0\r\na=sendonly\r\n",
        "v=0\r\nc=IN IP4 $(reboot)\r\nm=audio 41000 RTP/AVP 0\r\na=sendonly\r\n",
        "m=\r\n",
        "\0" * 500,
    ],
)
def test_descriptions_that_are_none(server: OwnServer, offer: str) -> None:
    with SipPeer(server) as peer:
        reply = RawCall(peer).invite(siprec(offer))
        assert reply.code in (400, 488)
        assert "warning" in reply.headers


def test_invites_without_a_description_or_of_another_kind(server: OwnServer) -> None:
    with SipPeer(server) as peer:
        assert RawCall(peer).invite(b"").code == 488
        assert RawCall(peer).invite(multipart(part(XML_TYPE, metadata()))).code == 488
        assert RawCall(peer).invite(b"hello", content_type="text/plain").code == 415
        plain = sdp(stream(direction="sendrecv")).encode()
        call = peer.request("INVITE", body=plain, content_type=SDP_TYPE)
        reply = peer.ask(call)
        assert reply.code == 488
        assert "SIPREC" in reply.headers["warning"]


def test_only_the_streams_that_can_be_kept_are_taken(server: OwnServer) -> None:
    streams = [
        stream(0, label="1"),
        stream(41002, label="2"),
        stream(41004, "31", kind="video", label="3"),
        stream(41006, "4 8", label="4"),
        stream(41008, "4", label="5"),
    ]
    with SipPeer(server) as peer:
        call = RawCall(peer)
        reply = call.invite(siprec(sdp(*streams)))
        assert [bool(port) for port in call.ports] == [False, True, False, True, False]
        assert b"G723" not in reply.body
        call.hang_up()
        # A session whose streams come later: nothing to refuse yet.
        empty = RawCall(peer)
        assert empty.invite(siprec(sdp(stream(0)))).code == 200
        assert empty.ports == [0]
        empty.hang_up()


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE recording [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in ("ab", "bc", "cd", "de", "ef"))
    + ']><recording xmlns="urn:ietf:params:xml:ns:recording:1">&f;</recording>'
)
REACHING_OUT = (
    '<!DOCTYPE recording [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    '<recording><participant participant_id="a"><nameID aor="sip:z@z"><name>&x;</name></nameID>'
    "</participant></recording>"
)


@pytest.mark.parametrize(
    "about",
    [
        b"<recording><participant",
        b"not XML at all",
        b"<html>recording</html>",
        BILLION_LAUGHS.encode(),
        REACHING_OUT.encode(),
        b'<?xml version="1.0" encoding="klingon"?><recording/>',
        b"<recording>" + b"<a>" * 5000 + b"</recording>",
        b"<recording>" + b"<a/>" * 6000 + b"</recording>",
        b"\xff\xfe\x00" * 50,
    ],
    ids=["cut", "text", "html", "laughs", "outside", "klingon", "deep", "wide", "bytes"],
)
def test_a_call_goes_on_without_its_metadata(server: OwnServer, api: Api, about: bytes) -> None:
    """Whatever the metadata is, the call is taken; its parties come from the SIP headers."""
    with SipPeer(server, "tcp") as peer:
        call = RawCall(peer)
        assert call.invite(siprec(about=about)).code == 200
        newest = api.get("/Calls.json", PageSize="1")["calls"][0]
        assert newest["status"] == "in-progress"
        assert (newest["from"], newest["to"]) == ("+15550133", "+15550144")
        call.hang_up()


def test_metadata_in_unusual_wrapping(server: OwnServer, api: Api) -> None:
    latin = metadata("sip:+15550210@pbx", "sip:j\u00f6rg@pbx").replace("UTF-8", "ISO-8859-1")
    bodies = [
        # Latin-1 as it says, Latin-1 though it says UTF-8, and UTF-16.
        siprec(about=latin.encode("latin-1")),
        siprec(about=metadata("sip:+15550210@pbx", "sip:j\u00f6rg@pbx").encode("latin-1")),
        siprec(about=metadata("sip:+15550210@pbx").replace("UTF-8", "UTF-16").encode("utf-16")),
        # A multipart within a multipart, nothing has a Content-ID or a disposition.
        multipart(
            part(
                "multipart/mixed;boundary=inner",
                multipart(
                    part(SDP_TYPE, sdp()),
                    part(XML_TYPE, metadata("sip:+15550210@pbx")),
                    boundary="inner",
                ),
            ),
            part("text/plain", "with kind regards"),
        ),
        # The older type, metadata first, a Content-ID that nobody refers to.
        multipart(
            part("application/rs-metadata", metadata("sip:+15550210@pbx"), "Content-ID: <?>"),
            part(SDP_TYPE, sdp(), "Content-Disposition: session;handling=required"),
        ),
    ]
    with SipPeer(server) as peer:
        for body in bodies:
            call = RawCall(peer)
            assert call.invite(body).code == 200
            newest = api.get("/Calls.json", PageSize="1")["calls"][0]
            assert newest["from"] == "+15550210"
            call.hang_up()


def test_huge_metadata(server: OwnServer, api: Api) -> None:
    large = metadata().replace("</recording>", f"<!--{'x' * 180_000}--></recording>")
    with SipPeer(server, "tcp") as peer:
        call = RawCall(peer)
        assert call.invite(siprec(about=large)).code == 200
        call.hang_up()
        too_large = large.replace("<!--", f"<!--{'x' * 100_000}")
        peer.send(peer.request("INVITE", body=siprec(about=too_large))[:3000])
        assert peer.final().code == 513
        assert peer.closed()
