"""Offers and answers of the phone."""

from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.phone.description import Negotiation
from callreel.wire.sdp import Direction, SessionDescription


def negotiation(*codecs: str, port: int = 4000) -> Negotiation:
    return Negotiation(host="127.0.0.1", port=port, codecs=codecs or ("PCMU", "PCMA"), session_id=7)


def offer_of(*lines: str, address: str = "192.0.2.9") -> bytes:
    head = ("v=0", "o=- 1 1 IN IP4 192.0.2.9", "s=-", f"c=IN IP4 {address}", "t=0 0")
    return "".join(f"{line}\r\n" for line in (*head, *lines)).encode()


def test_an_offer() -> None:
    (media,) = SessionDescription.parse(negotiation("PCMA", "PCMU").offer()).media
    assert (media.kind, media.port, media.protocol) == ("audio", 4000, "RTP/AVP")
    assert media.formats == ("8", "0", "101")
    assert [codec.name for codec in media.codecs] == ["PCMA", "PCMU", "telephone-event"]
    assert media.codecs[2].parameters == "0-15"
    assert media.direction is Direction.SENDRECV


def test_two_of_them_agree() -> None:
    a, b = negotiation(), negotiation("PCMA", port=5000)
    answer, theirs = b.accept(a.offer(), source_host="127.0.0.1")
    ours = a.conclude(answer, source_host="127.0.0.1")
    assert (ours.remote, theirs.remote) == (("127.0.0.1", 5000), ("127.0.0.1", 4000))
    assert (ours.rtcp, theirs.rtcp) == (("127.0.0.1", 5001), ("127.0.0.1", 4001))
    assert ours.codec == theirs.codec == "PCMA"
    assert ours.event_type == theirs.event_type == 101


@pytest.mark.parametrize(
    ("direction", "answered", "sends", "held"),
    [
        ("sendrecv", Direction.SENDRECV, True, False),
        ("sendonly", Direction.RECVONLY, False, True),
        ("recvonly", Direction.SENDONLY, True, False),
        ("inactive", Direction.INACTIVE, False, True),
    ],
)
def test_directions(direction: str, answered: Direction, sends: bool, held: bool) -> None:
    phone = negotiation()
    body, agreed = phone.accept(
        offer_of("m=audio 7000 RTP/AVP 0", f"a={direction}"), source_host="192.0.2.9"
    )
    assert SessionDescription.parse(body).media[0].direction is answered
    assert (agreed.remote is not None) is sends
    assert agreed.held is held


def test_hold_of_old() -> None:
    _, agreed = negotiation().accept(
        offer_of("m=audio 7000 RTP/AVP 0", address="0.0.0.0"), source_host="192.0.2.9"
    )
    assert agreed.remote is None
    assert agreed.held


def test_the_first_stream_that_suits_is_taken_and_keeps_its_place() -> None:
    phone = negotiation()
    body, agreed = phone.accept(
        offer_of(
            "m=video 6000 RTP/AVP 96",
            "m=audio 6002 RTP/SAVP 0",
            "m=audio 6004 RTP/AVP 18 8 97",
            "a=rtpmap:97 telephone-event/8000",
            "a=rtcp-mux",
        ),
        source_host="192.0.2.9",
    )
    assert [media.port for media in SessionDescription.parse(body).media] == [0, 0, 4000]
    assert agreed.remote == agreed.rtcp == ("192.0.2.9", 6004)
    assert agreed.rtcp_mux
    assert (agreed.codec, agreed.event_type) == ("PCMA", 97)
    again = SessionDescription.parse(phone.offer())
    assert [media.port for media in again.media] == [0, 0, 4000]
    assert again.media[2].formats == ("0", "8", "97")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("m=audio 0 RTP/AVP 0",),
        ("m=audio 7000 RTP/AVP 18",),
        ("m=audio 7000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"),
        ("m=image 7000 udptl t38",),
    ],
)
def test_nothing_in_common(lines: tuple[str, ...]) -> None:
    with pytest.raises(PeerError) as caught:
        negotiation().accept(offer_of(*lines), source_host="192.0.2.9")
    assert caught.value.status == 488
    phone = negotiation()
    phone.offer()
    with pytest.raises(PeerError) as caught:
        phone.conclude(offer_of(*lines), source_host="192.0.2.9")
    assert caught.value.status == 488


def test_the_version_grows_with_each_change_only() -> None:
    phone = negotiation()

    def version() -> int:
        return SessionDescription.parse(phone.offer()).session_version

    first = version()
    assert version() == first
    phone.direction = Direction.INACTIVE
    assert version() == first + 1
    phone.direction = Direction.SENDRECV
    assert version() == first + 2


def test_a_name_for_an_address_is_not_looked_up() -> None:
    _, agreed = negotiation().accept(
        offer_of("m=audio 7000 RTP/AVP 0", address="pbx.example.com"), source_host="192.0.2.7"
    )
    assert agreed.remote == ("192.0.2.7", 7000)
