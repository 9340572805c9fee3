"""One server for all that is hostile, and one healthy call on it that nothing may disturb."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans
from tests.journeys.api import Api, Json

TWILIO_SID = "AC" + "5a" * 16
TOKEN = "a-token-of-tests"
TONES_HZ = (600, 1000)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server. At its end it must have written no traceback, and one event a line."""
    with OwnServer(tmp_path_factory.mktemp("bad"), TWILIO_SID, TOKEN) as server:
        yield server
    assert "Traceback" not in server.log
    assert re.search(r"[^\n\x20-\x7e\u00a0-\uffff]", server.log) is None, "control characters"


@pytest.fixture(scope="package")
def healthy(server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Json]:
    """The recording of a call that goes on beside everything; at its end it must be whole."""
    api = Api(server)
    phone = subprocess.Popen(
        [
            *(sys.executable, "-m", "callreel", "phone", "siprec", server.sip_uri),
            *(piece for hz in TONES_HZ for piece in ("--track", f"tone:{hz}")),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        (call,) = api.wait_live(1, seconds=20)
        time.sleep(0.3)
        recording = api.start(call["sid"], RecordingChannels="dual")
        begun = time.monotonic()
        yield recording
        assert phone.poll() is None, "the healthy call was ended"
        api.stop(recording)
        seconds = time.monotonic() - begun
        _assert_whole(api, recording["sid"], seconds, tmp_path_factory.mktemp("healthy"))
    finally:
        phone.terminate()
        phone.wait(10)
        api.http.close()


def _assert_whole(api: Api, sid: str, seconds: float, folder: Path) -> None:
    finished = api.finished(sid)
    assert finished["status"] == "completed"
    report = api.integrity(sid)
    assert report["clean"], report["problems"]
    assert all(one["packets"]["foreign"] == 0 for one in report["streams"])
    rate_hz, samples = read_wav(api.download(sid, folder))
    assert abs(len(samples) / rate_hz - seconds) < 0.2
    for channel, hz in enumerate(TONES_HZ):
        ((start, end),) = tone_spans(samples[:, channel], rate_hz, hz)
        assert start < 0.1
        assert end > len(samples) / rate_hz - 0.1


@pytest.fixture
def api(server: OwnServer) -> Iterator[Api]:
    api = Api(server)
    yield api
    api.http.close()


@pytest.fixture(autouse=True)
def undisturbed(server: OwnServer, healthy: Json) -> Iterator[None]:
    """After every test: the server is well, and the healthy call is still being recorded."""
    yield
    api = Api(server)
    health = api.http.get("/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert api.get(f"/Recordings/{healthy['sid']}.json")["status"] == "in-progress"
    api.http.close()
