"""SIP from where no peer is: refused, or not answered at all. And who is a peer is served."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api
from tests.journeys.bad_input.conftest import TOKEN
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.sdp import siprec

PEER = "127.0.0.9"
SIGNALWIRE_SID = "5a5a5a5a-5a5a-4a5a-8a5a-5a5a5a5a5a5a"


def guarded(folder: Path, *, silently: bool) -> OwnServer:
    """A server with one peer, whose SignalWire account refuses with 422."""
    config = folder / "callreel.toml"
    config.write_text(
        f"accept_loopback = false\nrefuse_silently = {str(silently).lower()}\n"
        f'workers = 1\nrender_workers = 1\n[[peers]]\nname = "sbc"\naddresses = ["{PEER}"]\n'
    )
    return OwnServer(folder, SIGNALWIRE_SID, TOKEN, options=("--config", str(config)))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with guarded(tmp_path_factory.mktemp("strict"), silently=False) as server:
        yield server
    assert "Traceback" not in server.log


METHODS = ("INVITE", "OPTIONS", "BYE", "REGISTER", "NONSENSE")


def test_strangers_are_refused_over_udp(strict: OwnServer) -> None:
    with SipPeer(strict, "udp") as stranger:
        for method in METHODS:
            body = siprec() if method == "INVITE" else b""
            assert stranger.ask(stranger.request(method, body=body)).code == 403
        stranger.send(stranger.request("ACK"))
        stranger.send(b"INVITE nonsense\r\n\r\n")
        assert stranger.ask(stranger.request("OPTIONS", cseq=9)).headers["cseq"] == "9 OPTIONS"
    assert "not a peer of ours" in strict.log


@pytest.mark.parametrize("method", METHODS)
def test_strangers_are_refused_over_tcp_and_hold_no_connection(
    strict: OwnServer, method: str
) -> None:
    with SipPeer(strict, "tcp") as stranger:
        body = siprec() if method == "INVITE" else b""
        assert stranger.ask(stranger.request(method, body=body)).code == 403
        assert stranger.closed()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_peer_is_served(strict: OwnServer, transport: str) -> None:
    with SipPeer(strict, transport, host=PEER) as peer, SipPeer(strict, transport) as stranger:
        call = RawCall(peer)
        assert call.invite().code == 200
        # Who is no peer cannot end it, even if it knows all of the dialog.
        forged = call.request("BYE", cseq=5)
        assert stranger.ask(forged).code == 403
        api = Api(strict)
        (shown,) = api.live_calls()
        assert shown["status"] == "in-progress"
        api.http.close()
        call.hang_up()


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("RecordingChannels", "stereo", 10000),
        ("RecordingTrack", "sideways", 10000),
        ("Trim", "yes", 13699),
        ("RecordingStatusCallback", "nowhere", 21402),
        ("RecordingStatusCallbackMethod", "PUT", 21209),
        ("RecordingStatusCallbackEvent", "started", 13621),
    ],
)
def test_signalwire_refuses_with_422(strict: OwnServer, field: str, value: str, code: int) -> None:
    api = Api(strict)
    with SipPeer(strict, host=PEER) as peer:
        call = RawCall(peer)
        call.invite()
        (live,) = api.live_calls()
        answer = api.post(f"/Calls/{live['sid']}/Recordings", **{field: value})
        assert answer.status_code == 422
        assert (answer.json()["code"], answer.json()["status"]) == (code, 422)
        recordings = api.get("/Recordings.json", CallSid=live["sid"])["recordings"]
        assert recordings == []
        call.hang_up()
    ended = api.post(f"/Calls/{live['sid']}/Recordings")
    assert (ended.status_code, ended.json()["code"]) == (422, 21220)
    api.http.close()


def test_silence_for_strangers(tmp_path: Path) -> None:
    with guarded(tmp_path, silently=True) as silent:
        with SipPeer(silent) as stranger:
            for method in ("INVITE", "OPTIONS"):
                stranger.send(stranger.request(method))
            stranger.send(b"\xff" * 100)
            assert stranger.receive(0.5) is None
        target = silent.sip_uri.removeprefix("sip:").split(":")
        with socket.create_connection((target[0], int(target[1]))) as connection:
            connection.settimeout(3)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        with SipPeer(silent, host=PEER) as peer:
            assert peer.ask(peer.request("OPTIONS")).code == 200
        assert httpx.get(f"{silent.http_url}/healthz", trust_env=False).status_code == 200
    assert "Traceback" not in silent.log
