"""Requests to the API that are wrong: each gets its code in the envelope, and changes nothing."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api, Json
from tests.journeys.bad_input.conftest import TOKEN, TWILIO_SID
from tests.journeys.bad_input.peer import RawCall, SipPeer
from tests.journeys.bad_input.sdp import metadata, siprec

NOBODY = "ee" * 16
TEN_MB = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def idle_call(server: OwnServer, healthy: Json) -> Iterator[str]:
    """SID of a call in progress that nobody records; all refusals must leave it so."""
    api = Api(server)
    with SipPeer(server) as peer:
        call = RawCall(peer)
        assert call.invite(siprec(about=metadata("sip:+15550401@pbx"))).code == 200
        (shown,) = api.get("/Calls.json", From="+15550401")["calls"]
        yield shown["sid"]
        assert api.get("/Recordings.json", CallSid=shown["sid"])["recordings"] == []
        call.hang_up()
    api.http.close()


@pytest.fixture(scope="module")
def ended_call(server: OwnServer, healthy: Json) -> str:
    """SID of a call that is over."""
    api = Api(server)
    with SipPeer(server) as peer:
        call = RawCall(peer)
        assert call.invite(siprec(about=metadata("sip:+15550402@pbx"))).code == 200
        call.hang_up()
    (shown,) = api.get("/Calls.json", From="+15550402")["calls"]
    api.http.close()
    return str(shown["sid"])


def assert_envelope(answer: httpx.Response, status: int, code: int) -> None:
    """The vendors' four keys, and nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "more_info", "status"}
    assert (body["status"], body["code"]) == (status, code)


def raw(server: OwnServer, data: bytes, *, wait_s: float = 5) -> bytes:
    """What the server says to these bytes on a connection of their own."""
    at = urlsplit(server.http_url)
    assert at.hostname is not None
    with socket.create_connection((at.hostname, at.port or 80), timeout=wait_s) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except OSError:
            pass
        return received


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("RecordingChannels", "stereo", 10000),
        ("RecordingChannels", "Dual", 10000),
        ("RecordingChannels", "2", 10000),
        ("RecordingTrack", "left", 10000),
        ("Trim", "true", 13699),
        ("Trim", "trim-silence ", 13699),
        ("RecordingStatusCallback", "example.com/hook", 21402),
        ("RecordingStatusCallback", "ftp://example.com/", 21402),
        ("RecordingStatusCallback", "http://", 21402),
        ("RecordingStatusCallback", "http://[::1", 21402),
        ("RecordingStatusCallback", "http://host:99999/", 21402),
        ("RecordingStatusCallback", "http://host/\r\nX-Evil: 1", 21402),
        ("RecordingStatusCallback", "http://host/" + "x" * 5000, 21402),
        ("RecordingStatusCallbackMethod", "DELETE", 21209),
        ("RecordingStatusCallbackEvent", "started", 13621),
        ("RecordingStatusCallbackEvent", "completed failed", 13621),
        ("RecordingChannels", "mono\0", 90000),
        ("RecordingStatusCallback", "http://host/\0", 90000),
    ],
)
def test_start_with_a_wrong_parameter(
    api: Api, idle_call: str, field: str, value: str, code: int
) -> None:
    path = f"/Calls/{idle_call}/Recordings.json"
    assert_envelope(api.post(path, **{field: value}), 400, code)
    as_json = api.http.post(f"{api.account}{path}", json={field: value})
    assert_envelope(as_json, 400, code)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"[]", "application/json"),
        (b'["RecordingChannels"]', "application/json"),
        (b"17", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"Trim": {"a": 1}}', "application/json"),
        (b'{"Trim": ' + b"[" * 900 + b"]" * 900 + b"}", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"RecordingStatusCallback": "http://host/\\ud800"}', "application/json"),
        (b'{"Trim": ' + b"9" * 5000 + b"}", "application/json"),
        (b"Trim=%ff%fe", "application/x-www-form-urlencoded"),
        (b"\xff\xfe\x00", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=b" for _ in range(1000)), "application/x-www-form-urlencoded"),
    ],
)
def test_bodies_that_are_neither_form_nor_object(
    api: Api, idle_call: str, body: bytes, media_type: str
) -> None:
    answer = api.http.post(
        f"{api.account}/Calls/{idle_call}/Recordings.json",
        content=body,
        headers={"Content-Type": media_type},
    )
    assert_envelope(answer, 400, 90000)


def test_ten_megabytes(server: OwnServer, api: Api, idle_call: str) -> None:
    path = f"{api.account}/Calls/{idle_call}/Recordings.json"
    basic = base64.b64encode(f"{TWILIO_SID}:{TOKEN}".encode()).decode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n"
    announced = raw(server, f"{head}Content-Length: {TEN_MB}\r\n\r\nTrim=".encode())
    assert announced.startswith(b"HTTP/1.1 413 ")
    assert json.loads(announced.partition(b"\r\n\r\n")[2])["status"] == 413
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    chunked = raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + piece * 5)
    assert chunked.startswith(b"HTTP/1.1 413 ")
    # Sent as a whole, the answer may be lost with the connection; nobody else's is.
    try:
        answer = httpx.post(
            server.http_url + path,
            content=b"x" * TEN_MB,
            auth=(TWILIO_SID, TOKEN),
            trust_env=False,
        )
        assert_envelope(answer, 413, 20413)
    except httpx.TransportError:
        pass
    unsigned = raw(server, f"POST {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert unsigned.startswith(b"HTTP/1.1 401 ")


def test_wrong_methods_and_unknown_paths(api: Api, idle_call: str) -> None:
    for method, path in (
        ("PUT", f"/Calls/{idle_call}/Recordings.json"),
        ("DELETE", f"/Calls/{idle_call}/Recordings.json"),
        ("PATCH", f"/Calls/{idle_call}.json"),
        ("PUT", "/Recordings.json"),
        ("POST", f"/Recordings/RE{NOBODY}.json"),
    ):
        answer = api.http.request(method, f"{api.account}{path}")
        assert_envelope(answer, 405, 20004)
        assert answer.headers["allow"]
    for path in (
        "/",
        "/2010-04-01",
        "/2010-04-01/Accounts",
        f"{api.account}/Nothing.json",
        f"{api.account}/Calls/{idle_call}/Nothing.json",
        "/errors/none",
        "/errors/12345",
        "/api/laml/api/laml/x",
        "/healthz/x",
    ):
        assert_envelope(api.http.get(path), 404, 20404)


@pytest.mark.parametrize(
    "sid",
    [
        "x",
        "CA" + "z" * 32,
        "CA" + "a" * 31,
        "..%2f..%2fcallreel.db",
        "%2e%2e",
        "%00",
        "CA" + "a" * 32 + "%00",
        "a" * 20_000,
        "%ff%fe",
        "'; DROP TABLE calls; --",
        "{sid}",
        "%0d%0aX-Evil:1",
    ],
)
def test_sids_that_name_nothing(api: Api, idle_call: str, sid: str) -> None:
    for path in (
        f"/Calls/{sid}.json",
        f"/Recordings/{sid}.json",
        f"/Recordings/{sid}.wav",
        f"/Recordings/{sid}/Integrity.json",
        f"/Calls/{idle_call}/Recordings/{sid}.json",
    ):
        answer = api.http.get(f"{api.account}{path}")
        assert_envelope(answer, 404, 20404)
        assert "x-evil" not in answer.headers
    answer = api.post(f"/Calls/{sid}/Recordings.json")
    assert_envelope(answer, 404, 20404)


@pytest.mark.parametrize(
    "target",
    [
        "/../../../../etc/passwd",
        f"/2010-04-01/Accounts/{TWILIO_SID}/Recordings/../../../../etc/passwd",
        f"/2010-04-01/Accounts/{TWILIO_SID}/Recordings/..%5c..%5cserver.key",
        f"/2010-04-01/Accounts/{TWILIO_SID}/Recordings//etc/passwd.wav",
        "/console/../../data/callreel.db",
        "//etc/passwd",
    ],
)
def test_paths_that_climb(server: OwnServer, target: str) -> None:
    basic = base64.b64encode(f"{TWILIO_SID}:{TOKEN}".encode()).decode()
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n\r\n"
    answer = raw(server, request.encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"root:" not in answer


def test_the_one_answer_without_the_right_credentials(
    server: OwnServer, api: Api, idle_call: str, healthy: Json
) -> None:
    paths = [
        f"{api.account}/{kind}/{sid}{suffix}"
        for kind, sids, suffix in (
            ("Calls", (idle_call, "CA" + NOBODY), ".json"),
            ("Recordings", (healthy["sid"], "RE" + NOBODY), ".json"),
        )
        for sid in sids
    ] + [f"/2010-04-01/Accounts/AC{NOBODY}/Calls.json"]
    headers: list[dict[str, str]] = [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + TOKEN},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
        {"Authorization": "Basic " + base64.b64encode(TWILIO_SID.encode() + b":wrong").decode()},
        {"Authorization": "Basic " + base64.b64encode(f"AC{NOBODY}:{TOKEN}".encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(f"{TWILIO_SID}:".encode()).decode()},
        {"Authorization": "Basic " + "QUFB" * 10_000},
    ]
    bodies = set()
    with httpx.Client(base_url=server.http_url, trust_env=False) as client:
        for path in paths:
            for given in headers:
                answer = client.get(path, headers=given)
                assert_envelope(answer, 401, 20003)
                assert answer.headers["www-authenticate"].startswith('Basic realm="callreel"')
                bodies.add(answer.content)
        media = {
            client.get(f"{api.account}/Recordings/{sid}.wav").content
            for sid in (healthy["sid"], "RE" + NOBODY, "RE" + "x" * 7)
        }
    # Good credentials, somebody else's path.
    other = api.http.get(f"/2010-04-01/Accounts/AC{NOBODY}/Calls.json")
    assert_envelope(other, 401, 20003)
    bodies.add(other.content)
    assert len(bodies) == 1
    assert len(media) == 1


def test_what_cannot_be_started_or_stopped(api: Api, ended_call: str) -> None:
    assert_envelope(api.post(f"/Calls/{ended_call}/Recordings.json"), 400, 21220)
    assert_envelope(api.post(f"/Calls/CA{NOBODY}/Recordings.json"), 404, 20404)
    update = f"/Calls/{ended_call}/Recordings"
    assert_envelope(api.post(f"{update}/Twilio.CURRENT.json", Status="stopped"), 404, 20404)
    assert_envelope(api.post(f"{update}/RE{NOBODY}.json", Status="stopped"), 404, 20404)


def test_two_starts_at_once_and_two_stops(server: OwnServer, api: Api, healthy: Json) -> None:
    with SipPeer(server) as peer:
        call = RawCall(peer)
        assert call.invite(siprec(about=metadata("sip:+15550403@pbx"))).code == 200
        (shown,) = api.get("/Calls.json", From="+15550403")["calls"]
        path = f"/Calls/{shown['sid']}/Recordings.json"
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: api.post(path, Trim="trim-silence"), range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
        assert len({answer.json()["sid"] for answer in answers}) == 1
        recording = answers[0].json()
        update = f"/Calls/{shown['sid']}/Recordings/{recording['sid']}.json"
        for fields in ({}, {"Status": ""}, {"Status": "running"}, {"Status": "STOPPED"}):
            assert_envelope(api.post(update, **fields), 400, 10000)
        wrong = api.post(update, Status="paused", PauseBehavior="maybe")
        assert_envelope(wrong, 400, 10000)
        # Somebody else's recording, under this call.
        foreign = f"/Calls/{shown['sid']}/Recordings/{healthy['sid']}.json"
        assert_envelope(api.post(foreign, Status="stopped"), 404, 20404)
        with ThreadPoolExecutor(8) as pool:
            stops = list(pool.map(lambda _: api.post(update, Status="stopped"), range(8)))
        assert sorted(answer.status_code for answer in stops) == [200] + [400] * 7
        for answer in stops:
            if answer.status_code != 200:
                assert_envelope(answer, 400, 21220)
        for status in ("stopped", "paused", "in-progress"):
            assert_envelope(api.post(update, Status=status), 400, 21220)
        call.hang_up()


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/Recordings.json", {"PageSize": "0"}, 54454),
        ("/Recordings.json", {"PageSize": "many"}, 54454),
        ("/Recordings.json", {"PageSize": "9" * 5000}, 0),
        ("/Recordings.json", {"PageToken": "PA"}, 54453),
        ("/Recordings.json", {"PageToken": "PAzzzz"}, 54453),
        ("/Recordings.json", {"PageToken": "\u00e9"}, 54453),
        ("/Recordings.json", {"Page": "-1"}, 10000),
        ("/Recordings.json", {"DateCreated": "yesterday"}, 10000),
        ("/Recordings.json", {"DateCreated>": "0001-01-01T00:00:00+14:00"}, 10000),
        ("/Recordings.json", {"DateCreated<": "9999-12-31T23:59:59-14:00"}, 10000),
        ("/Recordings.json", {"DateCreated": "9999-12-31"}, 0),
        ("/Recordings.json", {"DateCreated": f"Wed, 26 Sep 2018 00:00:00 +{'9' * 30}"}, 10000),
        ("/Recordings.json", {"DateCreated": f"Wed, 26 Sep {'9' * 30} 00:00:00 +0000"}, 10000),
        ("/Recordings.json", {"CallSid": "nonsense"}, 0),
        ("/Recordings.json", {"CallSid": "\0"}, 90000),
        ("/Calls.json", {"Status": "asleep"}, 10000),
        ("/Calls.json", {"To": "\0"}, 90000),
        ("/Calls.json", {"From": "' OR 1=1 --"}, 0),
        ("/Calls.json", {"StartTime": "\u0661\u0662"}, 10000),
    ],
)
def test_lists_with_wrong_filters(api: Api, path: str, query: dict[str, str], code: int) -> None:
    answer = api.http.get(f"{api.account}{path}", params=query)
    if code:
        assert_envelope(answer, 400, code)
    else:
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00" * 1000,
        b"INVITE sip:a@b SIP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
    ],
    ids=["zeros", "sip", "tls", "version", "path", "headers", "length", "chunk", "url", "bytes"],
)
def test_what_is_no_http(server: OwnServer, noise: bytes) -> None:
    answer = raw(server, noise)
    assert not answer or 400 <= int(answer.split(b" ")[1]) < 500


def test_slow_clients_hold_up_nobody(server: OwnServer, api: Api) -> None:
    at = urlsplit(server.http_url)
    stalled = [socket.create_connection((at.hostname or "", at.port or 80)) for _ in range(100)]
    try:
        for one in stalled:
            one.sendall(b"POST /2010-04-01/Accounts HTTP/1.1\r\nContent-Le")
        begun = time.monotonic()
        api.live_calls()
        assert time.monotonic() - begun < 1
    finally:
        for one in stalled:
            one.close()
