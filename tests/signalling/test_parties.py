from __future__ import annotations

import pytest

from callreel.calls.model import CallDirection, Track
from callreel.signalling.parties import Heard, find_parties, is_ours, shown_address
from callreel.wire.siprec.metadata import (
    NameID,
    Participant,
    ParticipantStreamAssoc,
    Recording,
    Stream,
)

ANN = Participant("pa", (NameID("sip:+15550100@sbc.example.com", "Ann"),))
BOB = Participant("pb", (NameID("sip:bob@pbx.example.com"),))
STREAMS = [Heard(0, "96"), Heard(1, "97")]


def metadata(*heard: tuple[str, str], people: tuple[Participant, ...] = (ANN, BOB)) -> Recording:
    return Recording(
        participants=people,
        streams=(Stream("ta", "s", "96"), Stream("tb", "s", "97"), Stream("tc", "s", "98")),
        participant_stream_assocs=tuple(
            ParticipantStreamAssoc(person, send=(stream,)) for person, stream in heard
        ),
    )


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sip:+15550100@sbc.example.com;user=phone", "+15550100"),
        ("sip:+1-555-(01)00@sbc.example.com", "+15550100"),
        ("tel:+1-555-0100;phone-context=example.com", "+15550100"),
        ("sip:alice@example.com:5070;transport=tcp", "sip:alice@example.com"),
        ("sips:alice@example.com", "sips:alice@example.com"),
        ("sip:example.com", "sip:example.com"),
        ('"Ann" <sip:+15550100@x>', "+15550100"),
        ("anonymous", "anonymous"),
        ("boss\n00:00 ERROR forged\x9b31m", "boss 00:00 ERROR forged 31m"),
        ("", ""),
    ],
)
def test_addresses_as_the_api_shows_them(uri: str, shown: str) -> None:
    assert shown_address(uri) == shown


def test_metadata_names_the_parties_and_their_tracks() -> None:
    found = find_parties(
        STREAMS,
        metadata(("pa", "ta"), ("pb", "tb")),
        sip_from="sip:src@sbc",
        sip_to="sip:srs@rec",
        our_side=None,
    )
    assert (found.from_, found.to) == ("+15550100", "sip:bob@pbx.example.com")
    assert found.caller_name == "Ann"
    assert found.direction is CallDirection.INBOUND
    assert found.tracks == {0: Track.INBOUND, 1: Track.OUTBOUND}
    assert [one.track for one in found.participants] == [Track.INBOUND, Track.OUTBOUND]
    assert found.heard == {0: ANN.aor, 1: BOB.aor}


def test_the_streams_decide_who_is_who_not_the_order_of_participants() -> None:
    found = find_parties(
        STREAMS,
        metadata(("pb", "ta"), ("pa", "tb")),
        sip_from="",
        sip_to="",
        our_side=None,
    )
    assert found.from_ == "sip:bob@pbx.example.com"
    assert found.participants[0].aor == BOB.aor


@pytest.mark.parametrize("ours", ["pbx.example.com", "sip:bob@pbx.example.com", "@pbx.example.com"])
def test_our_side_is_outbound_wherever_its_stream_stands(ours: str) -> None:
    found = find_parties(
        STREAMS,
        metadata(("pb", "ta"), ("pa", "tb")),
        sip_from="",
        sip_to="",
        our_side=ours,
    )
    assert found.tracks == {0: Track.OUTBOUND, 1: Track.INBOUND}
    assert found.direction is CallDirection.OUTBOUND_DIAL


def test_further_streams_go_to_the_track_of_their_party() -> None:
    found = find_parties(
        [*STREAMS, Heard(2, "98")],
        metadata(("pa", "ta"), ("pb", "tb"), ("pa", "tc")),
        sip_from="",
        sip_to="",
        our_side=None,
    )
    assert found.tracks == {0: Track.INBOUND, 1: Track.OUTBOUND, 2: Track.INBOUND}


def test_without_metadata_the_headers_and_the_order_of_streams_serve() -> None:
    found = find_parties(
        STREAMS, None, sip_from="sip:+15550100@a", sip_to="sip:carol@b", our_side=None
    )
    assert (found.from_, found.to) == ("+15550100", "sip:carol@b")
    assert found.tracks == {0: Track.INBOUND, 1: Track.OUTBOUND}
    assert found.participants == ()


def test_metadata_that_says_nothing_of_streams_still_names_the_parties() -> None:
    found = find_parties(STREAMS, metadata(), sip_from="", sip_to="", our_side=None)
    assert (found.from_, found.to) == ("+15550100", "sip:bob@pbx.example.com")
    assert found.tracks == {0: Track.INBOUND, 1: Track.OUTBOUND}


def test_no_stream_at_all() -> None:
    assert find_parties([], None, sip_from="a", sip_to="b", our_side=None).tracks == {}


def test_ours_is_a_whole_domain_or_address() -> None:
    assert not is_ours("sip:bob@evil-pbx.example.com", "pbx.example.com")
    assert not is_ours("", "pbx.example.com")
    assert is_ours("sip:+15550100@any", "+15550100")
