from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from callreel.base.errors import PeerError
from callreel.signalling.peers import Peer, PeerDirectory
from callreel.signalling.session import Session
from callreel.wire.sdp import SessionDescription
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.session_timer import SessionTimer
from callreel.wire.siprec.metadata import NameID, Participant, Recording

PEER = Peer("sbc", (ipaddress.ip_network("192.0.2.0/24"),), "a" * 32, None, "pbx.example.com")
SDP = SessionDescription.parse(
    b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\na=sendonly\r\na=label:1\r\n"
)
SESSION = Session(
    call_id="b" * 32,
    peer=PEER,
    dialog=Dialog(
        call_id="x@y",
        local="<sip:srs@rec>;tag=1",
        remote="<sip:src@sbc>;tag=2",
        remote_target="sip:src@192.0.2.1:5070",
        route_set=("<sip:proxy.example.com;lr>",),
        local_cseq=3,
        remote_cseq=4,
        flow=Flow(Transport.UDP, "192.0.2.1", 5070, ("192.0.2.9", 5060)),
    ),
    sip_from="sip:src@sbc",
    sip_to="sip:srs@rec",
    offer=SDP,
    answer=SDP,
    metadata=Recording(participants=(Participant("p", (NameID("sip:a@b", "Ann"),)),)),
    versions=2,
    timer=SessionTimer(1800, "uac", we_refresh=False, required=True),
    allow="INVITE, UPDATE",
    knows_timers=True,
)


def test_a_session_is_the_same_after_a_restart() -> None:
    text = SESSION.to_json()
    found = Session.from_json(SESSION.call_id, text, PeerDirectory([PEER]))
    assert found is not None
    assert found.to_json() == text
    assert found.dialog.id == SESSION.dialog.id
    assert found.timer == SESSION.timer
    assert found.metadata == SESSION.metadata
    assert found.peer is PEER
    bare = replace(SESSION, metadata=None, timer=None)
    again = Session.from_json(bare.call_id, bare.to_json(), PeerDirectory([PEER]))
    assert again is not None
    assert (again.metadata, again.timer) == (None, None)


async def test_only_a_change_that_is_accepted_moves_the_target() -> None:
    session = replace(SESSION, dialog=replace(SESSION.dialog))
    with pytest.raises(PeerError):
        async with session.target_kept_if_refused():
            session.dialog.remote_target = "sip:elsewhere@192.0.2.66"
            raise PeerError("no codec", status=488)
    assert session.dialog.remote_target == "sip:src@192.0.2.1:5070"
    async with session.target_kept_if_refused():
        session.dialog.remote_target = "sip:moved@192.0.2.1"
    assert session.dialog.remote_target == "sip:moved@192.0.2.1"


def test_a_peer_that_is_configured_no_more_is_known_by_what_was_written_down() -> None:
    found = Session.from_json(SESSION.call_id, SESSION.to_json(), PeerDirectory([]))
    assert found is not None
    assert found.dialog.id == SESSION.dialog.id
    assert (found.peer.name, found.peer.our_side) == (SESSION.peer.name, SESSION.peer.our_side)
    assert found.peer.networks == ()


def test_the_narrowest_network_is_the_peer() -> None:
    wide = replace(PEER, name="wide", networks=(ipaddress.ip_network("192.0.0.0/8", strict=False),))
    directory = PeerDirectory([wide, PEER])
    assert directory.find("192.0.2.7") is PEER
    assert directory.find("192.9.2.7") is wide
    assert directory.find("::ffff:192.0.2.7") is PEER
    assert directory.find("198.51.100.1") is None
    assert directory.may_speak("192.0.2.7")
    assert not directory.may_speak("2001:db8::1")
