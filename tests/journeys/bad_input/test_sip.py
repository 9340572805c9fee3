"""Sessions that break the rules of SIP, and those that keep them in awkward ways."""

from __future__ import annotations

import time

import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api, Json
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.sdp import metadata, multipart, part, sdp, siprec, stream


def call_of(api: Api, caller: str) -> Json:
    """The live call from this caller."""
    call: Json
    (call,) = api.get("/Calls.json", From=caller, Status="in-progress")["calls"]
    return call


def test_invite_a_byte_at_a_time(server: OwnServer, api: Api) -> None:
    with SipPeer(server, "tcp") as peer:
        call = RawCall(peer)
        about = metadata(caller="sip:+15550201@pbx")
        invite = call.request("INVITE", "Require: siprec", body=siprec(about=about))
        border = invite.index(b"\r\n\r\n")
        slow = range(border - 20, border + 60)
        at = 0
        while at < len(invite):
            step = 1 if at in slow or at > len(invite) - 40 else 97
            peer.send(invite[at : at + step])
            time.sleep(0.002)
            at += step
        reply = peer.final()
        assert reply.code == 200
        call.acknowledge(invite, reply)
        assert len(call.ports) == 2
        assert call_of(api, "+15550201")["to"] == "+15550122"
        call.hang_up()


def test_two_messages_in_a_segment_and_a_body_in_three(server: OwnServer, api: Api) -> None:
    with SipPeer(server, "tcp") as peer:
        call = RawCall(peer)
        invite = call.request("INVITE", "Require: siprec", body=siprec())
        options = peer.request("OPTIONS")
        peer.send(options + invite[:-300])
        assert peer.final().code == 200
        time.sleep(0.02)
        peer.send(invite[-300:-150])
        time.sleep(0.02)
        peer.send(invite[-150:])
        reply = peer.final()
        assert reply.code == 200
        call.acknowledge(invite, reply)
        bye = call.request("BYE")
        peer.send(b"\r\n\r\n" + options.replace(b"z9hG4bK", b"z9hG4bKx") + bye)
        pong = peer.socket.recv(2, 2)  # a look at the keep-alive's answer (RFC 5626 §4.4.1)
        assert pong == b"\r\n"
        peer.socket.recv(2)
        assert [peer.final().code, peer.final().code] == [200, 200]


def test_requests_that_are_refused(server: OwnServer) -> None:
    with SipPeer(server) as peer:
        require = peer.ask(peer.request("INVITE", "Require: siprec, teleport", body=siprec()))
        assert (require.code, require.headers["unsupported"]) == (420, "teleport")
        for method, code in (("MESSAGE", 405), ("REGISTER", 405), ("JUGGLE", 501)):
            reply = peer.ask(peer.request(method))
            assert reply.code == code
            assert "INVITE" in reply.headers["allow"]
        assert peer.ask(peer.request("CANCEL")).code == 481
        for method in ("BYE", "UPDATE", "INVITE"):
            body = siprec() if method == "INVITE" else b""
            assert peer.ask(peer.request(method, to_tag="nobody", body=body)).code == 481
        for method in ("BYE", "UPDATE"):
            assert peer.ask(peer.request(method)).code == 481
        peer.send(peer.request("ACK", to_tag="nobody"))
        peer.send(peer.request("OPTIONS", cseq=77))
        assert peer.final().headers["cseq"] == "77 OPTIONS"


@pytest.mark.parametrize("contact", [None, "Contact: *", "Contact: <sip:>", "Contact: <<<"])
def test_invite_without_a_contact_makes_no_call(
    server: OwnServer, api: Api, contact: str | None
) -> None:
    # Without a target we could never say BYE. It is refused before anything is set up.
    before = api.get("/Calls.json", PageSize="1")["calls"][0]["sid"]
    with SipPeer(server) as peer:
        extra = [] if contact is None else [contact]
        reply = peer.ask(
            peer.request("INVITE", "Require: siprec", *extra, body=siprec(), contact=False)
        )
        assert reply.code == 400
    assert api.get("/Calls.json", PageSize="1")["calls"][0]["sid"] == before


def test_session_timers(server: OwnServer) -> None:
    with SipPeer(server, "tcp") as peer:
        small = RawCall(peer).invite(None, "Supported: timer", "Session-Expires: 30")
        assert (small.code, small.headers["min-se"]) == (422, "90")
        assert RawCall(peer).invite(None, "Session-Expires: soon").code == 400
        bad = RawCall(peer).invite(None, "Supported: timer", "Session-Expires: 90;refresher=me")
        assert bad.code == 400
        call = RawCall(peer)
        good = call.invite(None, "Supported: timer", "Session-Expires: 90;refresher=uac")
        assert (good.code, good.headers["session-expires"]) == (200, "90;refresher=uac")
        assert call.ask("UPDATE", "Supported: timer", "Session-Expires: 10").code == 422
        assert call.ask("UPDATE", "Supported: timer", "Session-Expires: 120").code == 200
        call.hang_up()


def test_a_refused_change_leaves_the_session_as_it_was(server: OwnServer, api: Api) -> None:
    with SipPeer(server, "tcp") as peer:
        call = RawCall(peer)
        first = call.invite(siprec(about=metadata("sip:+15550202@pbx")))
        assert first.code == 200
        recording = api.start(call_of(api, "+15550202")["sid"])

        fewer = siprec(sdp(stream(label="1"), version=2), metadata("sip:+15550299@pbx"))
        reply = call.ask("INVITE", body=fewer)
        assert reply.code == 488
        assert "fewer streams" in reply.headers["warning"]
        nothing_left = sdp(stream(formats="4"), stream(41002, "4", label="2"), version=3)
        assert call.ask("INVITE", body=siprec(nothing_left)).code == 488
        broken = call.ask("INVITE", body=b"v=0\r\nnonsense", content_type="application/sdp")
        assert broken.code == 400
        assert call.ask("UPDATE", cseq=1).code == 500
        assert call.ask("MESSAGE").code == 405

        # Everything is still there, and a later word of the parties is not mixed with a refused.
        assert call.ask("INVITE").ports == first.ports
        assert call_of(api, "+15550202")["status"] == "in-progress"
        assert api.get(f"/Recordings/{recording['sid']}.json")["status"] == "in-progress"
        call.hang_up()
        assert api.finished(recording["sid"])["error_code"] == 16101


def test_update_with_new_metadata_changes_the_parties(server: OwnServer, api: Api) -> None:
    with SipPeer(server) as peer:
        call = RawCall(peer)
        call.invite(siprec(about=metadata("sip:+15550203@pbx", "sip:+15550204@pbx")))
        sid = call_of(api, "+15550203")["sid"]
        about = metadata("sip:+15550205@pbx", "sip:bob@pbx.example.com").encode()
        reply = call.ask("UPDATE", body=about, content_type="application/rs-metadata+xml")
        assert (reply.code, reply.body) == (200, b"")
        shown = api.get(f"/Calls/{sid}.json")
        assert (shown["from"], shown["to"]) == ("+15550205", "sip:bob@pbx.example.com")
        call.hang_up()


def test_streams_added_and_dropped_by_reinvite(server: OwnServer, api: Api) -> None:
    with SipPeer(server) as peer:
        call = RawCall(peer)
        first = call.invite(siprec(about=metadata("sip:+15550206@pbx"))).ports
        streams = [stream(41000), stream(41002, label="2"), stream(41004, label="3")]
        more = call.ask("INVITE", body=siprec(sdp(*streams, version=2))).ports
        assert more[:2] == first
        assert more[2]
        assert len(set(more)) == 3
        streams[1] = stream(0, label="2")
        fewer = call.ask("INVITE", body=siprec(sdp(*streams, version=3))).ports
        assert fewer == [more[0], 0, more[2]]
        streams[1] = stream(41002, label="2")
        again = call.ask("INVITE", body=siprec(sdp(*streams, version=4))).ports
        assert (again[0], again[2]) == (more[0], more[2])
        assert again[1]
        call.hang_up()


def test_an_invite_again_and_again_is_one_call(server: OwnServer, api: Api) -> None:
    with SipPeer(server) as peer:
        call = RawCall(peer)
        about = metadata("sip:+15550207@pbx")
        invite = call.request("INVITE", "Require: siprec", body=siprec(about=about))
        for _ in range(5):
            peer.send(invite)
        reply = peer.final()
        call.acknowledge(invite, reply)
        assert call_of(api, "+15550207")
        while (copy := peer.receive(0.1)) is not None:
            assert copy.code == 100 or copy.body == reply.body
        call.hang_up()


def test_names_that_would_forge_a_line_of_the_log(server: OwnServer, api: Api) -> None:
    forged = "boss&#10;2026-11-22 00:00:00,000 ERROR callreel: forged&#13;&#x9b;31m"
    with SipPeer(server) as peer:
        call = RawCall(peer)
        assert call.invite(siprec(about=metadata("sip:+15550208@pbx", forged))).code == 200
        shown = call_of(api, "+15550208")["to"]
        assert shown.startswith("boss")
        assert shown.isprintable()
        call.hang_up()
    assert "\n2026-11-22 00:00:00,000 ERROR callreel: forged" not in server.log


def test_parts_that_are_not_about_the_call(server: OwnServer) -> None:
    with SipPeer(server) as peer:
        many = multipart(*(part("text/plain", "x") for _ in range(40)))
        assert RawCall(peer).invite(many).code == 413
        deep = part("application/sdp", sdp())
        for level in range(6):
            nested = multipart(deep, boundary=f"b{level}")
            deep = part(f"multipart/mixed;boundary=b{level}", nested)
        assert RawCall(peer).invite(multipart(deep)).code == 400
        assert RawCall(peer).invite(b"no boundary at all").code == 400
