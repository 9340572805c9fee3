"""Two that want the same thing at once, and clients that go away: right answers, nothing leaked."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api, Json
from tests.journeys.bad_input.conftest import TOKEN, TWILIO_SID
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.sdp import metadata, siprec
from tests.journeys.test_ends import processes

ROUNDS = 12
SLOW_ROUNDS = 3
"""Of a peer that does not answer our BYE: the API waits 2 s for that."""


def a_recorded_call(peer: SipPeer, api: Api, number: int) -> tuple[RawCall, Json]:
    call = RawCall(peer)
    assert call.invite(siprec(about=metadata(f"sip:+1555{number}@pbx"))).code == 200
    (shown,) = api.get("/Calls.json", From=f"+1555{number}", Status="in-progress")["calls"]
    return call, api.start(shown["sid"])


def test_a_stop_that_races_the_hang_up(server: OwnServer, api: Api) -> None:
    """Whichever comes first: the recording stops once, and ends."""
    stops = []
    for number in range(ROUNDS):
        with SipPeer(server) as peer, ThreadPoolExecutor(2) as pool:
            call, recording = a_recorded_call(peer, api, 5000 + number)
            path = f"/Calls/{recording['call_sid']}/Recordings/{recording['sid']}.json"
            if number % 2:
                time.sleep(0.001 * number)
            bye = pool.submit(call.hang_up)
            stop = pool.submit(api.post, path, Status="stopped")
            bye.result()
            answer = stop.result()
            assert (answer.status_code, answer.json().get("code")) in ((200, None), (400, 21220))
            stops.append(answer.status_code)
            # No media came: nothing but absent can be said of it.
            finished = api.finished(recording["sid"])
            assert (finished["status"], finished["error_code"]) == ("absent", 16101)
            assert api.get(f"/Calls/{recording['call_sid']}.json")["status"] == "completed"


def test_an_end_by_the_api_that_races_a_start(server: OwnServer, api: Api) -> None:
    for number in range(SLOW_ROUNDS):
        with SipPeer(server) as peer, ThreadPoolExecutor(2) as pool:
            call = RawCall(peer)
            assert call.invite(siprec(about=metadata(f"sip:+1556{number}@pbx"))).code == 200
            (shown,) = api.get("/Calls.json", From=f"+1556{number}", Status="in-progress")["calls"]
            path = f"/Calls/{shown['sid']}"
            end = pool.submit(api.post, f"{path}.json", Status="completed")
            start = pool.submit(api.post, f"{path}/Recordings.json")
            answer = start.result()
            assert (answer.status_code, answer.json().get("code")) in ((201, None), (400, 21220))
            assert end.result().status_code == 200
            assert api.get(f"{path}.json")["status"] == "completed"
            for one in api.get(f"{path}/Recordings.json")["recordings"]:
                assert api.finished(one["sid"])["status"] == "absent"


def test_a_delete_that_races_the_finish_and_another_delete(server: OwnServer, api: Api) -> None:
    for number in range(ROUNDS):
        with SipPeer(server) as peer, ThreadPoolExecutor(2) as pool:
            call, recording = a_recorded_call(peer, api, 5700 + number)
            url = f"{api.account}/Recordings/{recording['sid']}.json"
            assert api.http.delete(url).json()["code"] == 20009
            call.hang_up()
            codes: list[int] = []
            deadline = time.monotonic() + 10
            while 204 not in codes:
                assert time.monotonic() < deadline
                both = [pool.submit(api.http.delete, url) for _ in range(2)]
                codes += [one.result().status_code for one in both]
            assert set(codes) <= {204, 400, 404}
            # Both are told 204 where the second came while the files were still going.
            assert set(codes[:-2]) <= {400}
            assert api.http.get(url).status_code == 404
    names = [one.name for one in (server.data / "media").rglob("*.json")]
    assert not [name for name in names if recording["sid"][2:] in name]


def open_files(server: OwnServer) -> int:
    (control,) = processes(server, "callreel.server ")
    return len(os.listdir(f"/proc/{control}/fd"))


def test_clients_that_go_away_in_mid_download(server: OwnServer, api: Api, tmp_path: Path) -> None:
    phone = subprocess.Popen(
        [
            *(sys.executable, "-m", "callreel", "phone", "siprec", server.sip_uri),
            *("--for", "3", "--from", "sip:+15550777@pbx.example.com"),
        ],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while not (calls := api.get("/Calls.json", From="+15550777", Status="in-progress")["calls"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    recording = api.start(calls[0]["sid"], RecordingChannels="dual")
    phone.wait(10)
    assert api.finished(recording["sid"])["status"] == "completed"
    at = urlsplit(server.http_url)
    basic = base64.b64encode(f"{TWILIO_SID}:{TOKEN}".encode()).decode()
    path = f"{api.account}/Recordings/{recording['sid']}"
    suffixes = [".wav", ".mp3", ".wav?RequestedChannels=1", ".mp3?RequestedChannels=1"]
    before = open_files(server)
    for number in range(40):
        suffix = (".wav", ".mp3", ".wav?RequestedChannels=1", ".mp3?RequestedChannels=1")[
            number % 4
        ]
        with socket.create_connection((at.hostname or "", at.port or 80)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # Closed with data unread, the connection is reset rather than ended in order.
            head = f"GET {path}{suffix} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}"
            client.sendall(f"{head}\r\n\r\n".encode())
            if number % 3:
                client.recv(100)
    for suffix in suffixes:
        whole = api.http.get(path + suffix)
        assert whole.status_code == 200
        assert len(whole.content) == int(whole.headers["content-length"])
    deadline = time.monotonic() + 10
    while open_files(server) > before + 2:
        assert time.monotonic() < deadline, "connections or files are left open"
        time.sleep(0.05)
    assert not list((server.data / "scratch").iterdir()), "half-made files are left"


def test_sids_in_the_other_vendors_spelling_and_of_the_wrong_kind(api: Api, healthy: Json) -> None:
    hexadecimal = healthy["sid"][2:]
    dashed = "-".join(hexadecimal[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
    for spelled in (dashed, dashed.upper(), hexadecimal, "re" + hexadecimal.upper()):
        assert api.get(f"/Recordings/{spelled}.json")["sid"] == healthy["sid"]
    call = healthy["call_sid"]
    for path in (
        f"/Recordings/{call}.json",  # a call's, where a recording's is due
        f"/Calls/{healthy['sid']}.json",
        f"/Calls/{healthy['sid']}/Recordings.json",
        f"/Calls/{healthy['sid']}/Recordings/{call}.json",
    ):
        for method in ("GET", "DELETE"):
            answer = api.http.request(method, f"{api.account}{path}")
            assert answer.status_code in (404, 405), answer.text


def test_page_tokens_that_somebody_made_up(api: Api, healthy: Json) -> None:
    def token(mark: str, micros: int, id_: bytes) -> str:
        packed = micros.to_bytes(8, "big", signed=True) + id_
        return mark + base64.urlsafe_b64encode(packed).decode()

    good = token("PA", 1_800_000_000_000_000, b"\0" * 16)
    for made_up in (
        good[:-4],
        good + "AAAA",
        good.replace("PA", "PC"),
        "PA" + "!" * 32,
        "PB",
        token("PA", 2**63 - 1, b"\xff" * 16),
        token("PB", -(2**63), b"\0" * 16),
        good + "\u00e9",
        "PA" + "A" * 5000,
    ):
        answer = api.http.get(f"{api.account}/Recordings.json", params={"PageToken": made_up})
        assert (answer.status_code, answer.json().get("code")) == (400, 54453), made_up
    # One of the right form is only a place in the caller's own list.
    for mark, micros in (("PA", 10**15), ("PB", 10**15), ("PA", -(10**15)), ("PB", 4 * 10**15)):
        page = api.get("/Recordings.json", PageToken=token(mark, micros, b"\xff" * 16))
        assert {one["account_sid"] for one in page["recordings"]} <= {TWILIO_SID}
