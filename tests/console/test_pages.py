"""The pages over HTTP, as a browser without scripts sees them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest

from callreel.base.ids import parse_id
from callreel.demo.own_server import OwnServer
from tests.cli.commands import callreel
from tests.console.conftest import FIRST, HOSTILE, TOKEN, House
from tests.console.visitor import Visitor, form_token

_NONCE = re.compile(r'"inlineStyleNonce":"[^"]+"')

PAGES = ("/live", "/recordings", "/webhooks", "/health", "/start", "/display")


def test_nobody_sees_anything_without_signing_in(server: OwnServer) -> None:
    with Visitor(server) as nobody:
        for page in (*PAGES, "/", "/recordings/RE" + "a" * 32):
            answer = nobody.get(page)
            assert answer.url.path == "/console/sign-in", page
        refused = nobody.http.get("/live/events", headers={"Accept": "text/event-stream"})
        assert refused.status_code == 401
        assert nobody.http.post("/sign-out").url.path == "/console/sign-in"


def test_the_bare_address_leads_a_browser_here(server: OwnServer) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
    led = httpx.get(server.http_url + "/", headers=browser)
    assert (led.status_code, led.headers["location"]) == (303, "/console/")
    for accept in ("*/*", "application/json"):
        program = httpx.get(server.http_url + "/", headers={"Accept": accept})
        assert (program.status_code, program.json()["status"]) == (404, 404)
    posted = httpx.post(server.http_url + "/")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


def test_wrong_credentials_are_told_and_open_nothing(server: OwnServer) -> None:
    with Visitor(server, address="198.51.100.77") as guesser:
        for username, password in ((FIRST, "wrong"), ("AC" + "0f" * 16, TOKEN), ("", "")):
            answer = guesser.sign_in(username, password)
            assert answer.status_code == 403
            assert "No account has this SID and token" in answer.text
        assert not guesser.is_in


def test_guessing_here_is_limited_as_it_is_in_the_api(server: OwnServer) -> None:
    with Visitor(server, address="198.51.100.78") as guesser:
        statuses = [guesser.sign_in(FIRST, f"wrong {n}").status_code for n in range(24)]
        assert 429 in statuses
        assert guesser.sign_in(FIRST, TOKEN).status_code in (429, 200)
        path = f"/2010-04-01/Accounts/{FIRST}/Calls.json"
        api = httpx.get(
            server.http_url + path,
            auth=(FIRST, "wrong again"),
            headers={"X-Forwarded-For": "198.51.100.78"},
            trust_env=False,
        )
        assert api.status_code in (429, 401)


def test_the_session_is_a_cookie_that_no_script_and_no_other_site_gets(server: OwnServer) -> None:
    with Visitor(server) as visitor:
        visitor.http.follow_redirects = False
        plain = visitor.sign_in(FIRST, TOKEN).headers.get_list("set-cookie")
        (session,) = [one for one in plain if one.startswith("callreel_session=")]
        assert "HttpOnly" in session
        assert "SameSite=strict" in session
        assert "Path=/console" in session
        assert "Secure" not in session
    with Visitor(server) as visitor:
        visitor.http.headers["X-Forwarded-Proto"] = "https"
        (door,) = visitor.get("/sign-in").headers.get_list("set-cookie")
        assert "Secure" in door


def test_signing_in_leads_nowhere_else(server: OwnServer) -> None:
    for where in ("//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:x"):
        with Visitor(server) as visitor:
            visitor.http.follow_redirects = False
            location = visitor.sign_in(FIRST, TOKEN, next=where).headers["location"]
            assert location == "/console/"
    with Visitor(server) as visitor:
        assert visitor.sign_in(FIRST, TOKEN, next="/health").url.path == "/console/health"


def test_a_form_without_its_token_does_nothing(visitor: Visitor) -> None:
    for fields in ({}, {"form_token": "guessed"}):
        answer = visitor.http.post("/sign-out", data=fields)
        assert answer.status_code == 400
        assert "not of your session" in answer.text
    with_token = {"form_token": form_token(visitor.get("/display").text)}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = visitor.http.post("/sign-out", data=with_token, headers=headers)
        assert answer.status_code == 403
    assert visitor.is_in


def test_a_sign_in_form_of_another_site_does_nothing(server: OwnServer) -> None:
    with Visitor(server) as visitor:
        visitor.get("/sign-in")
        fields = {"username": FIRST, "password": TOKEN, "form_token": "guessed"}
        assert visitor.http.post("/sign-in", data=fields).status_code == 400
        assert not visitor.is_in


def test_signing_out_ends_the_session_for_good(visitor: Visitor) -> None:
    kept = visitor.http.cookies["callreel_session"]
    visitor.post("/sign-out")
    visitor.http.cookies.set("callreel_session", kept, path="/console")
    assert not visitor.is_in


def test_a_session_ends_with_the_key_it_was_begun_with(house: House) -> None:
    data = house.server.data
    made = callreel("keys", "create", FIRST, "--json", data=data).said
    with Visitor(house.server) as visitor:
        visitor.sign_in(made["sid"], made["secret"])
        assert made["sid"] in visitor.get("/start").text
        assert TOKEN not in visitor.get("/start").text
        assert callreel("keys", "delete", made["sid"], data=data).status == 0
        assert not visitor.is_in


def test_a_session_ends_when_the_token_is_replaced(house: House) -> None:
    data = house.server.data
    made = callreel("accounts", "create", "--json", data=data).said
    with Visitor(house.server) as visitor:
        visitor.sign_in(made["sid"], made["auth_token"])
        assert visitor.is_in
        assert callreel("accounts", "rotate-token", made["sid"], data=data).status == 0
        assert not visitor.is_in


@pytest.mark.parametrize("page", PAGES)
def test_every_page_comes_from_here_alone(visitor: Visitor, page: str) -> None:
    answer = visitor.get(page)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text
    assert "<script>" not in answer.text


def test_what_a_peer_calls_itself_is_only_text(visitor: Visitor, house: House) -> None:
    for page in ("/recordings", f"/recordings/{house.recording['sid']}", "/live"):
        text = visitor.get(page).text
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text


def test_a_second_account_sees_nothing_of_the_first(stranger: Visitor, house: House) -> None:
    sid = house.recording["sid"]
    unknown = "RE" + "0f" * 16
    for path in ("", "/peaks", "/report", "/audio.wav"):
        theirs = stranger.get(f"/recordings/{sid}{path}")
        nobodys = stranger.get(f"/recordings/{unknown}{path}")
        assert theirs.status_code == nobodys.status_code == 404
        told = _NONCE.sub("", theirs.text).replace(sid, unknown)
        assert told == _NONCE.sub("", nobodys.text)
    for page in PAGES:
        text = stranger.get(page).text
        assert "5550100" not in text
        assert sid not in text
    assert "No recording yet" in stranger.get("/recordings").text
    assert "No webhook yet" in stranger.get("/webhooks").text
    id_ = parse_id(sid)
    for action in ("download-wav", "delete"):
        answer = stranger.post("/recordings", id=id_, action=action)
        assert answer.status_code == 404
    call = house.recording["call_sid"]
    for action in ("record", "pause", "resume", "stop", "hang-up"):
        assert stranger.post(f"/live/{call}/{action}").status_code == 404


def test_a_deliverys_id_is_worth_nothing_to_a_second_account(
    visitor: Visitor, stranger: Visitor
) -> None:
    page = visitor.get("/webhooks").text
    id_ = page.partition('href="/console/webhooks/')[2][:32]
    assert visitor.get(f"/webhooks/{id_}").status_code == 200
    assert stranger.get(f"/webhooks/{id_}").status_code == 404
    assert stranger.post(f"/webhooks/{id_}").status_code == 404


def test_the_list_is_narrowed(visitor: Visitor) -> None:
    def found(query: str) -> bool:
        answer = visitor.get(f"/recordings?{query}")
        assert answer.status_code == 200
        assert ("Nothing matches" in answer.text) != ("+15550100" in answer.text)
        return "+15550100" in answer.text

    assert found("q=5550100")
    assert found("q=bea")
    assert not found("q=%25")
    assert not found("q=5550177")
    assert found("status=ready&direction=inbound&source=api")
    assert not found("status=absent")
    assert not found("direction=leg")
    assert found("min=1&max=60")
    assert not found("min=600")
    assert not found("from=2001-01-01&to=2001-12-31")
    assert found("from=2001-01-01&status=nonsense&gaps=maybe&page=x-y")


def test_a_recording_is_found_by_its_sid_and_its_calls(visitor: Visitor, house: House) -> None:
    for sid in (house.recording["sid"], house.recording["call_sid"]):
        assert house.recording["sid"] in visitor.get(f"/recordings?q={sid}").text


def test_days_are_the_viewers(visitor: Visitor, house: House) -> None:
    visitor.post("/display", zone="Pacific/Kiritimati")
    page = visitor.get(f"/recordings/{house.recording['sid']}").text
    assert "UTC+14:00" in page
    visitor.post("/display", zone="No/Such_Place")
    assert "Times are in UTC" in visitor.get("/live").text


def test_a_recordings_page_has_all_that_is_known(visitor: Visitor, house: House) -> None:
    page = visitor.get(f"/recordings/{house.recording['sid']}").text
    for said in ("Is it complete?", "packets", "Bea", "sip:+15550199@pbx.example.com", "SHA-256"):
        assert said in page
    for said in ("given up", "410", "gone for good", "RecordingSid"):
        assert said in page
    assert "squeamish" not in page  # what a callback's URL asks for may be secret


def test_audio_comes_as_from_the_api(visitor: Visitor, house: House) -> None:
    path = f"/recordings/{house.recording['sid']}/audio.wav"
    whole = visitor.get(path)
    assert whole.content[:4] == b"RIFF"
    assert whole.headers["cache-control"] == "no-store"
    part = visitor.http.get(path, headers={"Range": "bytes=4-11"})
    assert part.status_code == 206
    assert part.content == whole.content[4:12]
    beyond = visitor.http.get(path, headers={"Range": f"bytes={len(whole.content)}-"})
    assert beyond.status_code == 416
    saved = visitor.get(path + "?download")
    assert house.recording["sid"] in saved.headers["content-disposition"]
    mp3 = visitor.get(path.replace(".wav", ".mp3")).content
    assert mp3[:3] == b"ID3" or (mp3[0] == 0xFF and mp3[1] & 0xE0 == 0xE0), "no frame of MPEG audio"
    assert visitor.get(path.replace(".wav", ".exe")).status_code == 404


def test_the_waveform_is_that_of_both_channels(visitor: Visitor, house: House) -> None:
    peaks = visitor.get(f"/recordings/{house.recording['sid']}/peaks").json()
    assert len(peaks["channels"]) == 2
    for channel in peaks["channels"]:
        assert max(channel) > 100
        assert max(channel) <= 1000
    seconds = len(peaks["channels"][0]) * peaks["bucket_samples"] / peaks["rate_hz"]
    assert seconds == pytest.approx(peaks["duration_ms"] / 1000, abs=0.1)


def test_many_at_once_are_a_zip_with_a_manifest(visitor: Visitor, house: House) -> None:
    sid = house.recording["sid"]
    answer = visitor.post("/recordings", id=parse_id(sid), action="download-wav")
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert set(archive.namelist()) == {f"{sid}.wav", f"{sid}.json", "manifest.json"}
    (entry,) = json.loads(archive.read("manifest.json"))["recordings"]
    assert (entry["recording_sid"], entry["file"]) == (sid, f"{sid}.wav")
    assert archive.read(f"{sid}.wav") == visitor.get(f"/recordings/{sid}/audio.wav").content


def test_health_says_what_needs_attention(visitor: Visitor) -> None:
    page = visitor.get("/health").text
    assert "of your webhooks" in page
    assert "SQLite: ok" in page
    assert "Media workers" in page


def test_a_refused_action_says_why(visitor: Visitor, house: House) -> None:
    answer = visitor.post(f"/live/{house.recording['call_sid']}/hang-up")
    assert answer.status_code == 409
    assert "The call is completed." in answer.text


def test_an_open_page_ends_in_order_with_the_server(tmp_path: Path) -> None:
    server = OwnServer(tmp_path, FIRST, TOKEN)
    server.start()
    try:
        with Visitor(server) as visitor:
            visitor.sign_in(FIRST, TOKEN)
            with visitor.http.stream("GET", "/live/events") as answer:
                lines = answer.iter_lines()
                while "event: meters" not in next(lines):
                    pass
                assert server.process is not None
                server.process.terminate()
                for _ in lines:  # an answer that is cut off raises
                    pass
            # Once more would mean: at once.
            assert server.process.wait(40) == 0
    finally:
        server.stop()


def test_nothing_that_is_no_sid_is_looked_for(visitor: Visitor) -> None:
    for path in ("/recordings/x", "/webhooks/%2e%2e", "/live/1/2/3", "/nothing"):
        assert visitor.get(path).status_code == 404


def test_a_form_that_is_too_long_is_not_read(visitor: Visitor) -> None:
    answer = visitor.http.post("/recordings", data={"id": "x" * 300_000})
    assert answer.status_code == 413


def test_one_deletes_only_what_one_has_confirmed(visitor: Visitor, house: House) -> None:
    """Last: what the tests before look at is gone then."""
    sid = house.recording["sid"]
    id_ = parse_id(sid)
    asked = visitor.post("/recordings", id=id_, action="delete")
    assert "Delete 1 recording?" in asked.text
    assert visitor.get(f"/recordings/{sid}").status_code == 200
    done = visitor.post("/recordings", id=id_, action="delete", confirmed="yes")
    assert "1 recording deleted." in done.text
    assert visitor.get(f"/recordings/{sid}").status_code == 404
    media = house.server.data / "media"
    assert not [one for one in media.rglob("*") if one.is_file() and str(id_) in one.name]
