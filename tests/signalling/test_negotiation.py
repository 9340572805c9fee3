from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.calls.media import Codec, MediaAddress
from callreel.calls.model import Track
from callreel.signalling.negotiation import acceptable, answer, streams_of
from callreel.wire.sdp import Direction, SessionDescription

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"
TWO = (
    HEAD + "c=IN IP4 192.0.2.1\r\n"
    "m=audio 4000 RTP/AVP 9 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n"
    "a=label:1\r\n"
    "m=audio 4002 RTP/AVP 0 13\r\na=sendonly\r\na=label:2\r\n"
)
PORTS = {0: MediaAddress("192.0.2.9", 10000, 10001), 1: MediaAddress("192.0.2.9", 10002, 10003)}


def offer(text: str) -> SessionDescription:
    return SessionDescription.parse(text.replace("\r\n", "\n").replace("\n", "\r\n").encode())


def test_two_streams_are_taken_with_the_codecs_we_understand() -> None:
    theirs = offer(TWO)
    taken = acceptable(theirs, source_host="198.51.100.1")
    ours = answer(theirs, taken, PORTS, session_id=1, session_version=1)
    assert [media.port for media in ours.media] == [10000, 10002]
    assert [media.direction for media in ours.media] == [Direction.RECVONLY] * 2
    assert [media.label for media in ours.media] == ["1", "2"]
    assert ours.media[0].formats == ("9", "8", "0", "101")
    assert ours.media[1].formats == ("0", "13")
    streams = streams_of(taken, {0: Track.INBOUND, 1: Track.OUTBOUND}, {0: "sip:a@b"})
    assert [one.remote_host for one in streams] == ["192.0.2.1"] * 2
    assert [codec.name for codec in streams[0].codecs] == [
        "G722",
        "PCMA",
        "PCMU",
        "TELEPHONE-EVENT",
    ]
    assert streams[0].participant == "sip:a@b"
    assert all(one.sending for one in streams)


def test_what_we_cannot_keep_is_refused_and_the_rest_taken() -> None:
    theirs = offer(
        HEAD + "c=IN IP4 192.0.2.1\n"
        "m=video 5000 RTP/AVP 96\na=rtpmap:96 H264/90000\na=sendonly\n"
        "m=audio 0 RTP/AVP 0\n"
        "m=audio 5004 RTP/AVP 4\na=sendonly\n"
        "m=audio 5006 RTP/AVP 0\na=sendonly\n"
    )
    taken = acceptable(theirs, source_host="192.0.2.1")
    assert [one.number for one in taken] == [3]
    ours = answer(theirs, taken, {3: PORTS[0]}, session_id=1, session_version=1)
    assert [media.port for media in ours.media] == [0, 0, 0, 10000]


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        ("m=audio 4000 RTP/AVP 4\na=sendonly\n", "codec"),
        ("m=audio 4000 RTP/AVP 96\na=rtpmap:96 AMR-WB/16000\na=sendonly\n", "codec"),
        ("m=audio 4000 RTP/SAVP 0\na=sendonly\n", "RTP/SAVP"),
        ("m=video 4000 RTP/AVP 96\na=rtpmap:96 VP8/90000\n", "video"),
        ("m=audio 4000 RTP/AVP 0\na=recvonly\n", "only receives"),
    ],
)
def test_an_offer_without_anything_for_us_is_488_with_the_reason(media: str, reason: str) -> None:
    with pytest.raises(PeerError, match=reason) as caught:
        acceptable(offer(HEAD + "c=IN IP4 192.0.2.1\n" + media), source_host="192.0.2.1")
    assert caught.value.status == 488


@pytest.mark.parametrize(
    ("lines", "codec"),
    [
        ("m=audio 4000 RTP/AVP 9\n", Codec(9, "G722", 8000)),
        ("m=audio 4000 RTP/AVP 3\n", Codec(3, "GSM", 8000)),
        ("m=audio 4000 RTP/AVP 10\n", Codec(10, "L16", 44_100, 2)),
        (
            "m=audio 4000 RTP/AVP 18\na=fmtp:18 annexb=no\n",
            Codec(18, "G729", 8000, fmtp="annexb=no"),
        ),
        (
            "m=audio 4000 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"
            "a=fmtp:111 useinbandfec=1;usedtx=1\n",
            Codec(111, "OPUS", 48_000, 2, "useinbandfec=1;usedtx=1"),
        ),
        ("m=audio 4000 RTP/AVP 97\na=rtpmap:97 L16/16000\n", Codec(97, "L16", 16_000)),
    ],
)
def test_every_codec_that_can_be_rendered_is_taken_and_told_to_the_workers(
    lines: str, codec: Codec
) -> None:
    theirs = offer(HEAD + "c=IN IP4 192.0.2.1\n" + lines + "a=ptime:30\na=sendonly\n")
    taken = acceptable(theirs, source_host="192.0.2.1")
    (stream,) = streams_of(taken, {0: Track.INBOUND}, {})
    assert stream.codecs == (codec,)
    ours = answer(theirs, taken, PORTS, session_id=1, session_version=1)
    assert ours.media[0].formats == (str(codec.payload_type),)
    assert ours.media[0].codecs[0].parameters == codec.fmtp
    assert ours.media[0].ptime_ms == 30


def test_keys_and_comfort_noise_of_any_clock_come_along_but_are_not_enough() -> None:
    between = (
        "a=rtpmap:110 telephone-event/48000\na=rtpmap:98 CN/16000\na=rtpmap:111 opus/48000/2\n"
    )
    head = HEAD + "c=IN IP4 192.0.2.1\n"
    theirs = offer(f"{head}m=audio 4000 RTP/AVP 111 110 98 4\n{between}a=sendonly\n")
    (taken,) = acceptable(theirs, source_host="192.0.2.1")
    assert [one.payload_type for one in taken.codecs] == [111, 110, 98]
    with pytest.raises(PeerError, match="codec"):
        acceptable(
            offer(f"{head}m=audio 4000 RTP/AVP 110 98 4\n{between}"), source_host="192.0.2.1"
        )


def test_an_offer_of_empty_streams_is_taken_as_it_is() -> None:
    assert acceptable(offer(HEAD + "m=audio 0 RTP/AVP 0\n"), source_host="192.0.2.1") == []


@pytest.mark.parametrize(
    "held",
    [
        "c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\na=sendonly\n",
        "c=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=inactive\n",
    ],
)
def test_hold_keeps_the_stream_but_expects_nothing(held: str) -> None:
    taken = acceptable(offer(HEAD + held), source_host="192.0.2.1")
    (stream,) = streams_of(taken, {0: Track.INBOUND}, {})
    assert not stream.sending
    assert stream.remote_host == "192.0.2.1"


def test_a_name_instead_of_an_address_means_where_the_offer_came_from() -> None:
    named = offer(HEAD + "c=IN IP4 sbc.example.com\nm=audio 4000 RTP/AVP 0\na=sendonly\n")
    (taken,) = acceptable(named, source_host="198.51.100.7")
    assert taken.host == "198.51.100.7"
