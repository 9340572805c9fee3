"""Several accounts on a real server: what each can reach, and what the command line changes."""

from __future__ import annotations

import asyncio
import itertools
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from tests.cli.commands import callreel
from tests.console.visitor import Visitor
from tests.journeys.api import Api, Json

FIRST = "AC" + "cd" * 16
TOKEN = "a-token-of-tests"
KEPT = "b3877c40-da60-4998-90ad-b792e98472af"
STRANGER = "AC" + "0f" * 16
CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")
BURST = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    environment = {"CALLREEL_AUTH_FAILURES_BURST": str(BURST)}
    folder = tmp_path_factory.mktemp("accounts")
    server = OwnServer(folder, FIRST, TOKEN, environment=environment)
    with server:
        yield server
    assert "Traceback" not in server.log


@pytest.fixture
async def phone() -> AsyncIterator[RecordingClient]:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    yield phone
    await phone.close()


_addresses = itertools.count(1)


@dataclass(slots=True)
class Program:
    """A client behind the proxy on this machine, at an address of its own."""

    server: OwnServer
    user: str
    password: str = field(repr=False)
    address: str = ""

    def __post_init__(self) -> None:
        self.address = self.address or f"198.51.100.{next(_addresses)}"

    def get(self, path: str, **query: str) -> httpx.Response:
        headers = {"X-Forwarded-For": self.address}
        return httpx.get(
            self.server.http_url + path,
            params=query,
            auth=(self.user, self.password),
            headers=headers,
            trust_env=False,
            timeout=20,
        )

    def list_(self, account_sid: str, what: str, **query: str) -> list[Json]:
        answer = self.get(f"/2010-04-01/Accounts/{account_sid}/{what}.json", **query)
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()[what.lower()]
        return found

    def may_enter(self, account_sid: str) -> bool:
        answer = self.get(f"/2010-04-01/Accounts/{account_sid}/Calls.json")
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200


async def a_recording(phone: RecordingClient, server: OwnServer) -> Json:
    """Of a second of a call, completed."""
    tones = [parse_source("tone:440"), parse_source("tone:880")]
    api = Api(server)
    call = await phone.call(server.sip_uri, tones, caller=CALLER, callee=CALLEE)
    (shown,) = await asyncio.to_thread(api.wait_live)
    started = await asyncio.to_thread(api.start, shown["sid"])
    await asyncio.sleep(0.5)
    await phone.hang_up(call)
    finished = await asyncio.to_thread(api.finished, started["sid"])
    assert finished["status"] == "completed"
    return finished


def command_lines(pid: int) -> Iterator[str]:
    """Of a process and its children, as `ps` shows them."""
    yield Path(f"/proc/{pid}/cmdline").read_text()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from command_lines(int(child))


def refusal(answer: httpx.Response) -> tuple[int, bytes, str]:
    """All of it but the date."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, answer.content, json.dumps(headers)


async def test_a_second_account_reaches_nothing_of_the_first(
    phone: RecordingClient, server: OwnServer
) -> None:
    recording = await a_recording(phone, server)
    made = await asyncio.to_thread(
        lambda: callreel("accounts", "create", "--sid", KEPT, "--json", data=server.data).said
    )
    assert made["sid"] == KEPT
    assert made["api_url"] == f"{server.http_url}/api/laml/2010-04-01/Accounts/{KEPT}"
    key = await asyncio.to_thread(
        lambda: callreel("keys", "create", FIRST, "--json", data=server.data).said
    )
    await asyncio.to_thread(_reaches_nothing, server, recording, made["auth_token"], key)


def _reaches_nothing(server: OwnServer, recording: Json, token: str, key: Json) -> None:
    own = Program(server, FIRST, TOKEN)
    other = Program(server, KEPT, token)
    sid, call_sid = recording["sid"], recording["call_sid"]
    assert own.list_(FIRST, "Recordings", CallSid=call_sid)
    assert own.list_(FIRST, "Calls")
    assert other.list_(KEPT, "Recordings") == []
    assert other.list_(KEPT, "Recordings", CallSid=call_sid) == []
    assert other.list_(KEPT, "Calls") == []
    below = f"/2010-04-01/Accounts/{KEPT}"
    for path in (
        f"{below}/Recordings/{sid}.json",
        f"{below}/Recordings/{sid}.wav",
        f"{below}/Recordings/{sid}.mp3",
        f"{below}/Recordings/{sid}/Integrity",
        f"{below}/Calls/{call_sid}",
        f"{below}/Calls/{call_sid}/Recordings",
        f"{below}/Calls/{call_sid}/Recordings/{sid}",
    ):
        answer = other.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, 20404), path
    paths = ("/Calls.json", f"/Recordings/{sid}.json", f"/Recordings/{sid}/Integrity")
    answers = {
        refusal(Program(server, user, password).get(f"/2010-04-01/Accounts/{account}{path}"))
        for path in paths
        for user, password, account in (
            (KEPT, token, FIRST),  # foreign account
            (FIRST, TOKEN, KEPT),
            (key["sid"], key["secret"], KEPT),  # foreign key
            (key["sid"], "wrong", FIRST),
            (key["sid"], key["secret"], STRANGER),
            (FIRST, "wrong", FIRST),
            (STRANGER, TOKEN, STRANGER),  # unknown account
            ("SK" + "0f" * 16, key["secret"], FIRST),  # unknown key
        )
    }
    assert len(answers) == 1
    ((status, body, _),) = answers
    assert status == 401
    assert json.loads(body)["code"] == 20003
    media = f"/Recordings/{sid}.wav"
    gone = f"/Recordings/{'RE' + '0f' * 16}.wav"
    assert refusal(
        Program(server, KEPT, token).get(f"/2010-04-01/Accounts/{FIRST}{media}")
    ) == refusal(Program(server, KEPT, token).get(f"/2010-04-01/Accounts/{FIRST}{gone}"))
    assert own.get(f"/2010-04-01/Accounts/{FIRST}{media}").content[:4] == b"RIFF"


async def test_a_key_opens_api_media_and_console_until_it_is_deleted(
    phone: RecordingClient, server: OwnServer
) -> None:
    recording = await a_recording(phone, server)

    def follow() -> None:
        made = callreel("keys", "create", FIRST, "--json", data=server.data).said
        program = Program(server, made["sid"], made["secret"])
        assert program.may_enter(FIRST)
        media = f"/api/laml/2010-04-01/Accounts/{FIRST}/Recordings/{recording['sid']}"
        assert program.get(f"{media}.wav").content[:4] == b"RIFF"
        assert program.get(f"{media}/Integrity").json()["clean"]
        console.sign_in(made["sid"], made["secret"])
        assert recording["sid"] in console.get("/recordings").text
        assert callreel("keys", "delete", made["sid"], data=server.data).status == 0
        assert not program.may_enter(FIRST)
        assert program.get(f"{media}.wav").status_code == 401
        assert not console.is_in

    with Visitor(server) as console:
        await asyncio.to_thread(follow)


def test_a_rotated_token_is_dead_at_once(server: OwnServer) -> None:
    made = callreel("accounts", "create", "--dialect", "twilio", "--json", data=server.data).said
    sid = made["sid"]
    program = Program(server, sid, made["auth_token"])
    assert program.may_enter(sid)
    changed = callreel("accounts", "rotate-token", sid, "--json", data=server.data).said
    assert not program.may_enter(sid)
    assert Program(server, sid, changed["auth_token"]).may_enter(sid)
    assert callreel("accounts", "delete", sid, "--yes", data=server.data).status == 0
    assert not Program(server, sid, changed["auth_token"]).may_enter(sid)


def test_guessing_is_slowed_down_and_nobody_else_is(server: OwnServer) -> None:
    sid = callreel("accounts", "create", "--json", data=server.data).said["sid"]
    token = callreel("accounts", "rotate-token", sid, "--json", data=server.data).said["auth_token"]
    there = Program(server, sid, token)
    assert there.may_enter(sid)
    guesser = Program(server, sid, "guess", address=there.address)
    nobody = httpx.get(f"{server.http_url}/2010-04-01/Accounts/{sid}/Calls", trust_env=False)
    assert nobody.status_code == 401
    statuses = [guesser.get(f"/2010-04-01/Accounts/{sid}/Calls").status_code for _ in range(8)]
    assert statuses[:BURST] == [401] * BURST
    assert statuses[BURST:].count(429) >= 3, statuses  # on a slow machine one may grow back
    refused = guesser.get(f"/2010-04-01/Accounts/{sid}/Calls")
    if refused.status_code == 401:
        refused = guesser.get(f"/2010-04-01/Accounts/{sid}/Calls")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 3
    assert refused.json() == {
        "code": 20429,
        "message": "Too many requests with wrong credentials from this address",
        "more_info": f"{server.http_url}/errors/20429",
        "status": 429,
    }
    with Visitor(server, address=there.address) as visitor:
        console = visitor.sign_in(sid, "guess")
    assert console.status_code == 429
    assert "Retry-After" in console.headers
    # A program that was there before works on, the right token at a new place of the same address
    # would be an oracle, and other addresses are others.
    for _ in range(3):
        assert there.may_enter(sid)
    unknown_here = Program(server, FIRST, TOKEN, address=there.address)
    assert unknown_here.get(f"/2010-04-01/Accounts/{FIRST}/Calls").status_code == 429
    assert Program(server, FIRST, TOKEN).may_enter(FIRST)
    assert "again and again" in server.log
    assert there.address in server.log


def test_secrets_are_shown_once_and_nowhere_else(server: OwnServer) -> None:
    command = [sys.executable, "-m", "callreel"]
    where = ["--data", str(server.data), "--json"]
    shown = subprocess.run(
        [*command, "accounts", "create", *where], capture_output=True, check=True, timeout=30
    )
    made = json.loads(shown.stdout)
    assert shown.stderr == b""
    sid = made["sid"]
    rotated = callreel("accounts", "rotate-token", sid, "--json", data=server.data).said
    apart = callreel("accounts", "signing-key", sid, "--new", "--json", data=server.data).said
    key = callreel("keys", "create", sid, "--json", data=server.data).said
    Program(server, sid, "a-wrong-guess").may_enter(sid)
    listed = callreel("accounts", "list", data=server.data).out
    assert sid in listed
    state = json.loads((server.data / "server.json").read_text())
    assert server.process is not None
    running = "".join(command_lines(server.process.pid))
    assert "callreel.server" in running
    secrets = (
        TOKEN,
        made["auth_token"],
        rotated["auth_token"],
        apart["signing_key"],
        key["secret"],
        "a-wrong-guess",
    )
    for secret in secrets:
        assert secret not in server.log
        assert secret not in json.dumps(state)
        assert secret not in running
        assert secret not in listed
    admin = Path(state["admin_socket"])
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert stat.S_IMODE(admin.parent.stat().st_mode) == 0o700


def test_a_refused_command_exits_with_2(server: OwnServer) -> None:
    ran = callreel("accounts", "rotate-token", STRANGER, data=server.data)
    assert ran.status == 2
    assert ran.err == f"callreel: there is no account {STRANGER}\n"
    ran = callreel("accounts", "delete", FIRST, "--yes", data=server.data)
    assert ran.status == 2
    assert "this machine" in ran.err


async def test_an_account_goes_with_all_it_has(phone: RecordingClient, tmp_path: Path) -> None:
    """And a token that was rotated with the server down does not keep it from starting."""
    server = OwnServer(tmp_path, FIRST, TOKEN)

    def kept(folder: str) -> list[Path]:
        return [one for one in (server.data / folder).rglob("*") if one.is_file()]

    with server:
        recording = await a_recording(phone, server)
        ran = await asyncio.to_thread(
            callreel, "accounts", "delete", FIRST, "--yes", data=server.data
        )
        assert ran.status == 2
    made = await asyncio.to_thread(
        lambda: callreel("accounts", "create", "--json", data=server.data).said
    )
    rotated = await asyncio.to_thread(
        lambda: callreel("accounts", "rotate-token", FIRST, "--json", data=server.data).said
    )
    server.environment["CALLREEL_ACCEPT_LOOPBACK"] = "false"
    with server:
        own = Program(server, FIRST, rotated["auth_token"])
        media = f"/2010-04-01/Accounts/{FIRST}/Recordings/{recording['sid']}.wav"
        assert (await asyncio.to_thread(own.get, media)).content[:4] == b"RIFF"
        assert not await asyncio.to_thread(Program(server, FIRST, TOKEN).may_enter, FIRST)
        assert kept("media")
        words = ("accounts", "delete", FIRST, "--yes")
        ran = await asyncio.to_thread(callreel, *words, data=server.data)
        assert ran.status == 2
        assert "1 calls and 1 recordings" in ran.err
        ran = await asyncio.to_thread(callreel, *words, "--with-recordings", data=server.data)
        assert ran.status == 0, ran.err
        assert "with 1 calls and 1 recordings" in ran.out
        assert kept("media") == []
        assert [one for one in kept("journals") if one.name != ".callreel"] == []
        assert not await asyncio.to_thread(own.may_enter, FIRST)
        left = Program(server, made["sid"], made["auth_token"])
        assert await asyncio.to_thread(left.may_enter, made["sid"])
    assert "Traceback" not in server.log
