from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.calls.media import MediaAddress
from callreel.signalling.passing import (
    OurSession,
    audio_of,
    onward_answer,
    onward_offer,
    same_media,
    stream_of,
)
from callreel.wire.sdp import Direction, SessionDescription

OURS = MediaAddress("198.51.100.1", 20000, 20001)
SESSION = OurSession(77, 3)


def described(*lines: str) -> SessionDescription:
    head = ["v=0", "o=- 1 1 IN IP4 192.0.2.7", "s=-", "c=IN IP4 192.0.2.7", "t=0 0"]
    return SessionDescription.parse("\r\n".join([*head, *lines, ""]))


OFFER = described(
    "m=video 5000 RTP/AVP 96",
    "m=audio 4000 RTP/AVP 0 97 8 9 96 101",
    "a=rtpmap:96 opus/48000/2",
    "a=fmtp:96 useinbandfec=1;stereo=1",
    "a=rtpmap:97 EVS/16000",
    "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-15",
    "a=ptime:20",
    "a=maxptime:40",
    "a=candidate:1 1 UDP 1 192.0.2.7 4000 typ host",
    "a=sendrecv",
)


def test_an_offer_goes_on_with_our_address_and_what_can_be_recorded() -> None:
    audio = audio_of(OFFER, source_host="192.0.2.7")
    assert (audio.index, audio.host) == (1, "192.0.2.7")
    onward = onward_offer(audio, OURS, SESSION)
    (media,) = onward.media
    assert (media.port, media.address) == (20000, "198.51.100.1")
    assert [one.payload_type for one in media.codecs] == [0, 8, 9, 96, 101]
    assert media.codecs[3].parameters == "useinbandfec=1;stereo=1"
    assert (media.codecs[4].parameters, media.ptime_ms, media.rtcp_mux) == ("0-15", 20, True)
    assert media.attribute("maxptime") == "40"
    assert media.attribute("candidate") is None
    assert (onward.session_id, onward.session_version) == (77, 3)
    assert SessionDescription.parse(onward.serialize()) == onward


def test_the_answer_comes_back_in_the_shape_of_the_offer() -> None:
    answer = described("m=audio 6000 RTP/AVP 8 101", "a=rtpmap:101 telephone-event/8000")
    offered = audio_of(OFFER, source_host="192.0.2.7")
    answered = audio_of(answer, source_host="192.0.2.8")
    back = onward_answer(OFFER, offered, answered, OURS, SESSION.next)
    assert [one.port for one in back.media] == [0, 20000]
    assert [one.payload_type for one in back.media[1].codecs] == [8, 101]
    assert back.media[1].rtcp_port == 20001, "it did not offer rtcp-mux"
    assert back.session_version == 4
    other = audio_of(described("m=audio 6000 RTP/AVP 0"), source_host="192.0.2.8")
    only_a_law = audio_of(described("m=audio 4000 RTP/AVP 8"), source_host="192.0.2.7")
    with pytest.raises(PeerError, match="in common"):
        onward_answer(OFFER, only_a_law, other, OURS, SESSION)


@pytest.mark.parametrize(
    ("lines", "direction", "sending", "receiving"),
    [
        (("a=sendrecv",), Direction.SENDRECV, True, True),
        (("a=sendonly",), Direction.SENDONLY, True, False),
        (("a=recvonly",), Direction.RECVONLY, False, True),
        (("a=inactive",), Direction.INACTIVE, False, False),
        (("c=IN IP4 0.0.0.0",), Direction.SENDONLY, False, False),
    ],
)
def test_hold_passes_on(
    lines: tuple[str, ...], direction: Direction, sending: bool, receiving: bool
) -> None:
    held = described("m=audio 4000 RTP/AVP 0", *lines)
    audio = audio_of(held, source_host="192.0.2.7")
    assert audio.host == "192.0.2.7"
    stream = stream_of(audio)
    assert (stream.sending, stream.receiving) == (sending, receiving)
    before = onward_offer(audio_of(OFFER, source_host="x"), OURS, SESSION)
    onward = onward_offer(audio, OURS, SESSION.next, previous=before)
    assert len(onward.media) == len(before.media)
    assert onward.media[0].direction is direction


def test_what_cannot_be_passed_on_is_488() -> None:
    for lines in (
        ("m=video 5000 RTP/AVP 96",),
        ("m=audio 0 RTP/AVP 0",),
        ("m=audio 4000 RTP/AVP 4",),
        ("m=audio 4000 RTP/SAVP 0",),
        ("m=audio 4000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"),
    ):
        with pytest.raises(PeerError) as refusal:
            audio_of(described(*lines), source_host="192.0.2.7")
        assert refusal.value.status == 488


def test_a_refresh_is_told_from_a_change() -> None:
    again = described("m=audio 4000 RTP/AVP 0")
    later = SessionDescription.parse(again.serialize().replace(b"o=- 1 1", b"o=- 1 2"))
    assert same_media(again, later)
    assert not same_media(again, described("m=audio 4000 RTP/AVP 0", "a=sendonly"))
    assert not same_media(again, described("m=audio 4002 RTP/AVP 0"))
