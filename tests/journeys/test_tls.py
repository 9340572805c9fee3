"""TLS at the root of a host, on the real process: what clients that force https need."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.journeys.api import Api
from tests.journeys.test_ends import processes

SID, TOKEN = "AC" + "cd" * 16, "a-token-of-tests"
CALLS = f"/2010-04-01/Accounts/{SID}/Calls.json"
CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with OwnServer(tmp_path_factory.mktemp("tls"), SID, TOKEN, tls=True) as server:
        yield server
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


def client(server: OwnServer, base: str) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(server.ca_file))
    return httpx.Client(base_url=base, auth=(SID, TOKEN), verify=context, trust_env=False)


def test_both_listeners_serve_the_api_at_their_root(server: OwnServer) -> None:
    for base in (server.https_url, server.http_url):
        with client(server, base) as http:
            for _ in range(2):  # on one connection
                assert http.get(CALLS).json()["calls"] == []
            assert http.get(CALLS, headers={"Connection": "close"}).headers["connection"] == "close"
            assert http.get(CALLS, auth=(SID, "wrong")).status_code == 401
    assert server.https_url.startswith("https://127.0.0.1:")
    assert server.https_url in server.log
    assert str(server.ca_file) in server.log


def test_who_does_not_trust_it_is_not_served(server: OwnServer) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(server.https_url + CALLS, trust_env=False)


def test_twilio_with_a_bundle_by_the_environment(server: OwnServer) -> None:
    script = (
        "from twilio.rest import Client\n"
        f"c = Client({SID!r}, {TOKEN!r})\n"
        f"c.api.base_url = {server.https_url!r}\n"
        "print(len(c.calls.list()))\n"
    )
    environment = os.environ | {"REQUESTS_CA_BUNDLE": str(server.ca_file), "NO_PROXY": "*"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr


def test_noise_does_not_end_the_listener(server: OwnServer) -> None:
    at = urlsplit(server.https_url)
    hello = bytes.fromhex("16030100310100002d0302" + "5a" * 32 + "000006c014c009002f0100")
    silent = [socket.create_connection((at.hostname or "", at.port or 0)) for _ in range(100)]
    try:
        for noise in (hello, b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\xff" * 100_000):
            with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as peer:
                try:
                    peer.sendall(noise)
                    assert peer.recv(100) == b""
                except ConnectionError:
                    pass  # closed all the same
        for one in silent[:50]:
            one.sendall(hello[:20])
        with client(server, server.https_url) as http:
            begun = time.monotonic()
            assert http.get(CALLS).status_code == 200
            assert time.monotonic() - begun < 1
    finally:
        for one in silent:
            one.close()


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


async def test_links_lead_to_https(server: OwnServer, phone: RecordingClient) -> None:
    async with WebhookReceiver() as receiver:
        tones = [parse_source("tone:440"), parse_source("tone:880")]
        call = await phone.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)
        api = Api(server)
        (shown,) = await asyncio.to_thread(api.wait_live)
        path = f"/Calls/{shown['sid']}/Recordings.json"
        started = await asyncio.to_thread(api.post, path, RecordingStatusCallback=receiver.url)
        assert started.is_success, started.text
        refused = await asyncio.to_thread(api.post, path, Trim="wrong")
        assert refused.json()["more_info"].startswith(server.https_url + "/")
        await asyncio.sleep(0.3)
        await phone.hang_up(call)
        hook = await receiver.wait_for("completed")
    url = hook.fields["RecordingUrl"]
    assert url.startswith(server.https_url + "/")
    finished = await asyncio.to_thread(api.get, f"/Recordings/{started.json()['sid']}.json")
    assert finished["media_url"].startswith(server.https_url + "/")
    with client(server, server.https_url) as http:
        media = await asyncio.to_thread(http.get, url + ".wav")
    assert media.content[:4] == b"RIFF"


def test_ports_and_certificate_outlive_the_control_process(server: OwnServer) -> None:
    before, trusted = (server.http_url, server.https_url), server.ca_file.read_bytes()
    (control,) = processes(server, "-m callreel.server ")
    (server.data / "server.json").unlink()
    os.kill(control, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while not (server.data / "server.json").exists():
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)
    server.learn_state()
    assert (server.http_url, server.https_url) == before
    assert server.ca_file.read_bytes() == trusted
    with client(server, server.https_url) as http:
        assert http.get(CALLS).status_code == 200


def test_a_bad_certificate_ends_the_start_with_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    (tmp_path / "key.pem").write_text("nothing")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "callreel", "serve", "--data", str(tmp_path / "data")),
            *("--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--sip", "127.0.0.1:0"),
            *("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 78
    assert f"{tmp_path}/cert.pem holds no certificate in PEM form" in ran.stderr
    assert "Traceback" not in ran.stderr
