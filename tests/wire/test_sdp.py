from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.wire.sdp import (
    Codec,
    Direction,
    Media,
    SessionDescription,
    answer_media,
    check_reoffer,
    common_codecs,
    refuse_media,
)

# The offer of RFC 7866 §7.1.1, line for line, with a second codec and extras added.
SIPREC = b"""v=0
o=SRC 2890844526 2890844526 IN IP4 198.51.100.1
s=-
c=IN IP4 198.51.100.1
t=0 0
m=audio 12240 RTP/AVP 0 4 8
a=sendonly
a=label:1
m=audio 22456 RTP/AVP 98 101
a=rtpmap:98 opus/48000/2
a=fmtp:98 minptime=10; useinbandfec=1
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=rtcp:22500 IN IP4 198.51.100.9
a=mid:x
a=sendonly
a=label:2
m=video 0 RTP/AVP 31
""".replace(b"\n", b"\r\n")


def audio(*lines: str, m: str = "audio 4000 RTP/AVP 0", c: str = "IN IP4 192.0.2.1") -> Media:
    text = "\r\n".join(
        ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", f"c={c}", "t=0 0", f"m={m}", *lines]
    )
    (media,) = SessionDescription.parse(text.encode()).media
    return media


def test_siprec_offer() -> None:
    offer = SessionDescription.parse(SIPREC)
    first, second, third = offer.media
    assert (offer.origin_username, offer.session_id, offer.origin_address) == (
        "SRC",
        2890844526,
        "198.51.100.1",
    )
    assert (first.kind, first.port, first.protocol, first.label) == ("audio", 12240, "RTP/AVP", "1")
    assert [codec.name for codec in first.codecs] == ["PCMU", "G723", "PCMA"]
    assert first.direction is Direction.SENDONLY
    assert first.address == "198.51.100.1"
    assert first.rtcp_target == ("198.51.100.1", 12241)
    assert second.codecs == (
        Codec(98, "opus", 48000, 2, "minptime=10; useinbandfec=1"),
        Codec(101, "telephone-event", 8000, 1, "0-15"),
    )
    assert second.ptime_ms == 20
    assert second.rtcp_target == ("198.51.100.9", 22500)
    assert second.attribute("mid") == "x"
    assert second.attribute("crypto") is None
    assert (third.port, third.rtcp_target) == (0, None)


def test_serialised_reads_the_same() -> None:
    offer = SessionDescription.parse(SIPREC)
    assert SessionDescription.parse(offer.serialize()) == offer
    assert offer.serialize().endswith(b"\r\n")
    assert b"\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=" in offer.serialize()


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n\r\n", b" \r\n"])
def test_line_ends(line_end: bytes) -> None:
    data = SIPREC.replace(b"\r\n", line_end)
    assert SessionDescription.parse(data) == SessionDescription.parse(SIPREC)


def test_missing_and_unknown_lines() -> None:
    text = (
        "v=0\nb=AS:64\nk=clear:x\nz=0 0\nm=audio 4000 RTP/AVP 8\nc=IN IP6 2001:db8::1\ni=x\nq=?\n"
    )
    offer = SessionDescription.parse(text)
    assert offer.media[0].address == "2001:db8::1"
    assert b"c=IN IP6 2001:db8::1" in offer.serialize()
    assert SessionDescription.parse("m=audio 1 RTP/AVP 0\nc=IN IP4 h.example").media[0].port == 1


@pytest.mark.parametrize(
    ("payload_type", "name", "clock_rate_hz"),
    [
        *((0, "PCMU", 8000), (3, "GSM", 8000), (8, "PCMA", 8000), (9, "G722", 8000)),
        *((13, "CN", 8000), (18, "G729", 8000)),
    ],
)
def test_static_payload_types(payload_type: int, name: str, clock_rate_hz: int) -> None:
    media = audio(m=f"audio 4000 RTP/AVP {payload_type}")
    assert media.codecs == (Codec(payload_type, name, clock_rate_hz),)


def test_rtpmap_wins_over_the_static_type_and_broken_ones_are_passed_over() -> None:
    media = audio(
        "a=rtpmap:0 L16/16000",
        "a=rtpmap:96 broken",
        "a=rtpmap:97 x/0",
        "a=rtpmap:300 x/8000",
        "a=fmtp:18 annexb=no",
        "a=rtpmap:98 AMR-WB/16000/1",
        m="audio 4000 RTP/AVP 0 96 97 18 98 77",
    )
    assert media.formats == ("0", "96", "97", "18", "98", "77")
    assert media.codecs == (
        Codec(0, "L16", 16000),
        Codec(18, "G729", 8000, 1, "annexb=no"),
        Codec(98, "AMR-WB", 16000),
    )


@pytest.mark.parametrize(
    ("lines", "c", "held"),
    [
        ([], "IN IP4 0.0.0.0", True),
        (["a=inactive"], "IN IP4 192.0.2.1", True),
        (["a=sendonly"], "IN IP4 192.0.2.1", False),
        (["c=IN IP4 192.0.2.9"], "IN IP4 0.0.0.0", False),
        ([], "IN IP6 ::", True),
    ],
)
def test_hold(lines: list[str], c: str, held: bool) -> None:
    assert audio(*lines, c=c).is_held is held


def test_direction_of_the_session_holds_unless_the_stream_has_its_own() -> None:
    text = (
        "v=0\nc=IN IP4 192.0.2.1\na=inactive\n"
        "m=audio 1 RTP/AVP 0\nm=audio 2 RTP/AVP 0\na=sendonly\n"
    )
    assert [media.direction for media in SessionDescription.parse(text).media] == [
        Direction.INACTIVE,
        Direction.SENDONLY,
    ]


def test_rtcp_mux_and_multicast_ttl() -> None:
    assert audio("a=rtcp-mux").rtcp_target == ("192.0.2.1", 4000)
    assert audio(c="IN IP4 224.2.1.1/127/3").address == "224.2.1.1"
    assert audio("a=rtcp:0").rtcp_target == ("192.0.2.1", 4001)
    assert audio("a=rtcp:70000 IN IP4 1.2.3.4").rtcp_target == ("192.0.2.1", 4001)


def test_other_protocols_pass() -> None:
    media = audio(m="image 5000 udptl t38")
    assert (media.is_rtp, media.codecs, media.formats) == (False, (), ("t38",))
    assert audio(m="audio 4000 RTP/SAVP 0").is_rtp
    assert audio(m="audio 4000/2 UDP/TLS/RTP/SAVPF 0").port == 4000


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"hello", 400),
        (b"<xml/>", 400),
        (b"o=x\r\n", 400),
        (b"v=0\r\nbad line\r\n", 400),
        (b"v=0\r\nm=audio\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio x RTP/AVP 0\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 65536 RTP/AVP 0\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio -1 RTP/AVP 0\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP x\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP 128\r\n", 400),
        (b"v=0\r\nc=IN IP4 192.0.2.1; rm\r\nm=audio 1 RTP/AVP 0\r\n", 400),
        (b"v=0\r\nc=IN IP4 a$b\r\nm=audio 1 RTP/AVP 0\r\n", 400),
        (b"v=0\r\nc=TN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP 0\r\n", 400),
        (b"v=0\r\nm=audio 1 RTP/AVP 0\r\n", 400),
        (b"v=0\r\n" + b"m=audio 0 RTP/AVP 0\r\n" * 33, 488),
        (b"v=0\r\n" + b"a=x\r\n" * 1100, 488),
        (b"v=0\r\nc=IN IP4 h\r\nm=audio 1 RTP/AVP" + b" 0" * 65 + b"\r\n", 488),
        (b"v=0\r\ns=" + b"x" * 17_000, 488),
    ],
)
def test_garbage(data: bytes, status: int) -> None:
    with pytest.raises(PeerError) as caught:
        SessionDescription.parse(data)
    assert caught.value.status == status


def test_32_streams_are_taken() -> None:
    assert len(SessionDescription.parse(b"v=0\r\n" + b"m=audio 0 RTP/AVP 0\r\n" * 32).media) == 32


@pytest.mark.parametrize(
    ("offered", "ours", "answered"),
    [
        ("sendonly", Direction.RECVONLY, "recvonly"),
        ("sendrecv", Direction.RECVONLY, "recvonly"),
        ("recvonly", Direction.RECVONLY, "inactive"),
        ("inactive", Direction.RECVONLY, "inactive"),
        ("sendrecv", Direction.SENDRECV, "sendrecv"),
        ("sendonly", Direction.SENDRECV, "recvonly"),
        ("recvonly", Direction.SENDRECV, "sendonly"),
    ],
)
def test_answer(offered: str, ours: Direction, answered: str) -> None:
    offer = audio(
        f"a={offered}", "a=rtpmap:97 PCMA/8000", "a=label:77", m="audio 4000 RTP/AVP 0 97 18"
    )
    codecs = common_codecs(offer, ["pcma/8000", "G729/8000"])
    assert [codec.payload_type for codec in codecs] == [97, 18]
    answer = answer_media(offer, port=20000, address="192.0.2.2", codecs=codecs[:1], direction=ours)
    session = SessionDescription(media=(answer,), origin_address="192.0.2.2")
    text = session.serialize().decode()
    assert "m=audio 20000 RTP/AVP 97\r\n" in text
    assert "a=rtpmap:97 PCMA/8000\r\n" in text
    assert f"a={answered}\r\n" in text
    assert "a=label:77\r\n" in text
    assert "c=IN IP4 192.0.2.2\r\n" in text


def test_refused_stream_keeps_its_place() -> None:
    offer = audio("a=label:2", "a=rtcp-mux", m="audio 4000 RTP/AVP 77")
    for answer in (
        refuse_media(offer),
        answer_media(offer, port=1, address="192.0.2.2", codecs=(), direction=Direction.RECVONLY),
    ):
        assert b"m=audio 0 RTP/AVP 77\r\n" in SessionDescription(media=(answer,)).serialize()


def test_mux_only_if_offered() -> None:
    codecs = (Codec(0, "PCMU", 8000),)
    for offer, mux in ((audio(), False), (audio("a=rtcp-mux"), True)):
        answer = answer_media(
            offer,
            port=2,
            address="h",
            codecs=codecs,
            direction=Direction.RECVONLY,
            rtcp_mux=True,
        )
        assert answer.rtcp_mux is mux


def test_reoffer_with_fewer_streams_is_refused() -> None:
    session = SessionDescription.parse(SIPREC)
    check_reoffer(session, session)
    with pytest.raises(PeerError) as caught:
        check_reoffer(session, SessionDescription(media=session.media[:2]))
    assert caught.value.status == 488


def test_codecs_match_whatever_their_numbers() -> None:
    assert Codec(0, "PCMU", 8000).matches(Codec(96, "pcmu", 8000, 1, "x"))
    assert not Codec(0, "PCMU", 8000).matches(Codec(0, "PCMU", 16000))


def test_bodies_of_the_torture_messages() -> None:
    for path in (Path(__file__).parent / "sip" / "torture").glob("*.dat"):
        body = path.read_bytes().partition(b"\r\n\r\n")[2]
        if body.startswith(b"v=0"):
            assert SessionDescription.parse(body).media[0].codecs[0].name == "PCMU"


def parse(data: bytes) -> None:
    try:
        session = SessionDescription.parse(data)
    except PeerError:
        return
    again = SessionDescription.parse(session.serialize())
    assert [media.port for media in again.media] == [media.port for media in session.media]
    for media in session.media:
        _ = (media.is_held, media.rtcp_target, media.is_rtp)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    parse(data)
    parse(b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP 0\r\na=" + data)


@given(st.data())
def test_damaged_offer(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(SIPREC)))
    length = data.draw(st.integers(0, 8))
    parse(SIPREC[:position] + data.draw(st.binary(max_size=8)) + SIPREC[position + length :])


def test_truncations() -> None:
    for end in range(len(SIPREC)):
        parse(SIPREC[:end])
