"""``callreel check-config``: what it finds that only looking can tell, and how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from callreel.server.certificate import Names, self_signed
from callreel.server.datadir import DataDir
from callreel.server.settings import Settings
from callreel.server.system import RandomIds, SystemClock
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.context import Context
from callreel.store.database import Database
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia
from tests.cli.commands import Ran, callreel

FIRST = "AC" + "cd" * 16
PBX = '[[peers]]\nname = "pbx"\naddresses = ["192.0.2.10"]\n'
NO_DEFAULT = 'default_trunk = ""\n'
USELESS = '[[trunks]]\nname = "spare"\nuri = "sip:spare.example"\n'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "config"):
        monkeypatch.delenv(f"CALLREEL_{name.upper()}", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As the first start of a server leaves it, with its one account."""
    folder = DataDir(tmp_path / "data")
    key = folder.prepare()

    async def fill() -> None:
        database = Database(f"sqlite:///{folder.database}", Seal(key))
        await asyncio.to_thread(database.migrate)
        clock = SystemClock()
        context = Context(database, ScriptedMedia(clock), clock, RandomIds(), "", lambda: None)
        await AccountService(context).ensure_first(Bootstrap(FIRST, "a-token-of-tests"))
        await database.close()

    asyncio.run(fill())
    return folder.root


def check(folder: Path, text: str, *options: str, mode: int = 0o600) -> Ran:
    config = folder / "callreel.toml"
    config.write_text(text)
    config.chmod(mode)
    return callreel("check-config", "--config", str(config), *options, data=folder / "data")


def test_what_is_sound_is_put_into_words(tmp_path: Path) -> None:
    ran = check(tmp_path, PBX.replace('"pbx"', '"pbx"\nrecord = "dual"'))
    assert ran == Ran(
        0,
        "Who may call\n"
        "  pbx (peer), from 192.0.2.10\n"
        "  this machine (loopback), from 127.0.0.0/8 and ::1\n"
        "  anybody else gets 403\n"
        "\nWhere calls go that come in: the first that fits\n"
        "  1. nowhere: only recording sessions (SIPREC) are taken\n"
        "\nWhat programs may call: the first that fits\n"
        "  1. SIP URIs: as they stand\n"
        "\nWhat is recorded\n"
        "  every call from peer pbx, dual\n"
        "  any other call when a program asks for it (API)\n",
        "",
    )
    assert not (tmp_path / "data").exists(), "nothing is made"


def test_errors_end_with_2(tmp_path: Path) -> None:
    ran = check(tmp_path, "http = 8080\n" + PBX + "colour = 1\n")
    config = tmp_path / "callreel.toml"
    assert ran.status == 2
    assert ran.out.splitlines() == [
        f"error: {config}, line 1: http: Input should be a valid string",
        f"error: {config}, line 5: peers.0.colour: Extra inputs are not permitted",
    ]
    assert ran.err == ""
    missing = callreel("check-config", "--config", str(tmp_path / "none.toml"))
    assert (missing.status, missing.out) == (2, "")
    assert "cannot read" in missing.err


def test_warnings_end_with_1_if_that_is_asked_for(tmp_path: Path) -> None:
    ran = check(tmp_path, NO_DEFAULT + PBX + USELESS)
    assert ran.status == 0
    assert ran.out.startswith(f"warning: {tmp_path}/callreel.toml, line 5: trunks.0: no route")
    assert check(tmp_path, NO_DEFAULT + PBX + USELESS, "--strict").status == 1
    assert check(tmp_path, PBX, "--strict").status == 0
    assert check(tmp_path, "x = 1\n" + USELESS, "--strict").status == 2


def test_json(tmp_path: Path) -> None:
    said = check(tmp_path, NO_DEFAULT + PBX + USELESS, "--json").said
    assert said["config"] == str(tmp_path / "callreel.toml")
    (problem,) = said["problems"]
    assert problem.pop("message")
    assert problem == {"severity": "warning", "setting": "trunks.0", "line": 5}
    assert said["who_may_call"][0] == "pbx (peer), from 192.0.2.10"
    assert len(said["where_calls_go"]) == 1
    assert len(said["what_programs_may_call"]) == 1
    assert len(said["what_is_recorded"]) == 1


def test_accounts_that_do_not_exist(tmp_path: Path, data: Path) -> None:
    there = PBX + f'account_sid = "{FIRST}"\n'
    other = there.replace(FIRST, "AC" + "0" * 32)
    assert check(tmp_path, there).out.startswith("Who may call")
    before = sorted(path.name for path in data.iterdir())
    ran = check(tmp_path, other)
    assert ran.status == 2
    assert "line 4: peers.0.account_sid: there is no account AC0000" in ran.out
    assert sorted(path.name for path in data.iterdir()) == before
    ran = check(tmp_path, there.replace(FIRST, "anybody"))
    assert "peers.0.account_sid: this is no AccountSid" in ran.out
    elsewhere = f'database_url = "sqlite:///{tmp_path}/none/x.db"\n'
    for unreadable in (elsewhere, 'database_url = "postgresql://nobody@127.0.0.1:1/x"\n'):
        ran = check(tmp_path, unreadable + other)
        assert ran.status == 0, ran
        assert ran.out.startswith("note: the database cannot be read now")
    ran = check(tmp_path, 'database_url = "mysql://x/y"\n' + other)
    assert "line 1: database_url: database URL must be" in ran.out


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    files = self_signed(tmp_path / "tls", Names(), now=SystemClock().now())
    pair = f'tls_cert = "{files.chain}"\ntls_key = "{files.key}"\n'
    authorities = f'sips = "127.0.0.1:0"\nsip_tls_client_ca = "{files.chain}"\n'
    assert check(tmp_path, pair + authorities + f'sip_tls_ca = "{files.chain}"\n').status == 0
    files.key.chmod(0o644)
    assert "line 2: tls_key: everybody on this machine" in check(tmp_path, pair).out
    (tmp_path / "empty.pem").write_text("")
    for text, line, says in (
        (pair.replace("cert.pem", "none.pem"), 1, "tls_cert: cannot read"),
        (pair.replace("key.pem", "cert.pem"), 1, "tls_cert: "),
        (f'sip_tls_ca = "{tmp_path}/none.pem"\n', 1, "sip_tls_ca: cannot read"),
        (f'sip_tls_ca = "{tmp_path}/empty.pem"\n', 1, "sip_tls_ca: "),
        ('workers = 9\nrtp_ports = "20000-20010"\n', 2, "rtp_ports: "),
    ):
        ran = check(tmp_path, text)
        assert ran.status == 2, text
        assert f"line {line}: {says}" in ran.out


def test_secrets_that_everybody_can_read(tmp_path: Path) -> None:
    anna = '[[users]]\nname = "anna"\npassword = "12345678"\n'
    assert "passwords" in check(tmp_path, anna, mode=0o644).out
    assert "passwords" not in check(tmp_path, anna, mode=0o640).out
    assert "passwords" not in check(tmp_path, PBX, mode=0o644).out
    assert "12345678" not in check(tmp_path, anna.replace("anna", "a b"), mode=0o644).out
