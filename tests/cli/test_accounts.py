"""The commands while no server runs: over a data folder that a server has made."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from callreel.calls.model import Account
from callreel.cli import accounts, keys
from callreel.server.datadir import DataDir
from callreel.server.system import RandomIds, SystemClock
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.context import Context
from callreel.store.database import Database
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia
from tests.cli.commands import Ran, callreel

FIRST = "AC" + "cd" * 16
UUID = "b3877c40-da60-4998-90ad-b792e98472af"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALLREEL_DATA", "CALLREEL_CONFIG", "CALLREEL_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


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


def opened(data: Path, user: str, password: str, path: str) -> Account | None:
    """What a server that starts now says to these credentials."""

    async def ask() -> Account | None:
        folder = DataDir(data)
        database = Database(f"sqlite:///{folder.database}", Seal(folder.prepare()))
        clock = SystemClock()
        context = Context(database, ScriptedMedia(clock), clock, RandomIds(), "", lambda: None)
        found = await AccountService(context).authenticate(user, password, path, source="")
        await database.close()
        return found

    return asyncio.run(ask())


def refused(ran: Ran, *words: str) -> None:
    assert ran.status == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("callreel: ")
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err


def test_an_account_from_creation_to_deletion(data: Path) -> None:
    made = callreel("accounts", "create", "--name", "Two", "--json", data=data).said
    sid, token = made["sid"], made["auth_token"]
    assert made["api_url"] is None
    assert opened(data, sid, token, sid) is not None
    listed = callreel("accounts", "list", "--json", data=data).said
    assert [(one["sid"], one["name"]) for one in listed] == [(FIRST, ""), (sid, "Two")]
    assert token not in json.dumps(listed)
    rotated = callreel("accounts", "rotate-token", sid, "--json", data=data).said
    assert opened(data, sid, token, sid) is None
    assert opened(data, sid, rotated["auth_token"], sid) is not None
    apart = callreel("accounts", "signing-key", sid, "--new", "--json", data=data).said
    found = opened(data, sid, rotated["auth_token"], sid)
    assert found is not None
    assert found.signing_key == apart["signing_key"] != found.auth_token
    back = callreel("accounts", "signing-key", sid, "--same-as-token", "--json", data=data).said
    assert "signing_key" not in back
    gone = callreel("accounts", "delete", sid, "--yes", "--json", data=data).said
    assert gone == {"sid": sid, "calls": 0, "recordings": 0}
    assert opened(data, sid, rotated["auth_token"], sid) is None


def test_people_are_told_what_to_do(data: Path) -> None:
    made = callreel("accounts", "create", "--dialect", "twilio", "--name", "Two", data=data)
    assert made.status == 0
    assert "AccountSid  AC" in made.out
    assert "not shown again" in made.out
    assert "API" not in made.out
    sid = made.out.split()[1]
    listed = callreel("accounts", "list", data=data).out
    assert listed.splitlines()[0].startswith("ACCOUNT SID")
    assert listed.splitlines()[2].startswith(sid)
    assert listed.splitlines()[2].endswith("Two")
    rotated = callreel("accounts", "rotate-token", sid, data=data).out
    assert "tell their receivers" in rotated
    assert "Signing key" in callreel("accounts", "signing-key", sid, "--new", data=data).out
    rotated = callreel("accounts", "rotate-token", sid, data=data).out
    assert "as before" in rotated
    same = callreel("accounts", "signing-key", sid, "--same-as-token", data=data).out
    assert "Signing key" not in same


def test_a_key_from_creation_to_deletion(data: Path) -> None:
    made = callreel("keys", "create", FIRST, "--name", "ci", "--json", data=data).said
    sid, secret = made["sid"], made["secret"]
    assert opened(data, sid, secret, FIRST) is not None
    listed = callreel("keys", "list", FIRST, data=data)
    assert sid in listed.out
    assert listed.out.rstrip().endswith("ci")
    assert secret not in listed.out
    again = callreel("keys", "create", FIRST, data=data)
    assert "Secret" in again.out
    assert len(callreel("keys", "list", FIRST, "--json", data=data).said) == 2
    assert "is deleted" in callreel("keys", "delete", sid, data=data).out
    assert opened(data, sid, secret, FIRST) is None
    refused(callreel("keys", "delete", sid, data=data), "no key")


def test_a_programs_sid_is_kept(data: Path) -> None:
    assert callreel("accounts", "create", "--sid", UUID, "--json", data=data).said["sid"] == UUID
    refused(callreel("accounts", "create", "--sid", UUID, data=data), "taken")
    dashless = UUID.replace("-", "")
    refused(callreel("accounts", "create", "--sid", dashless, data=data), "AccountSid")
    other = ("--sid", "AC" + "1" * 32, "--dialect", "signalwire")
    refused(callreel("accounts", "create", *other, data=data), "twilio")


@pytest.mark.parametrize("sid", ["AC" + "0" * 32, "me", "", "a/b", "../accounts"])
def test_unknown_accounts_are_refused(data: Path, sid: str) -> None:
    for command in (
        ("accounts", "rotate-token", sid),
        ("accounts", "signing-key", sid, "--new"),
        ("accounts", "delete", sid, "--yes"),
        ("keys", "list", sid),
        ("keys", "create", sid),
        ("keys", "delete", sid),
    ):
        refused(callreel(*command, data=data), "no ")


def test_what_is_needed_is_not_deleted(data: Path) -> None:
    refused(callreel("accounts", "delete", FIRST, "--yes", data=data), "only account")
    callreel("accounts", "create", data=data)
    refused(callreel("accounts", "delete", FIRST, "--yes", data=data), "this machine", "loopback")
    refused(callreel("accounts", "delete", FIRST, data=data), "--yes")


def test_peers_of_the_settings_hold_an_account(data: Path, tmp_path: Path) -> None:
    sid = callreel("accounts", "create", "--json", data=data).said["sid"]
    config = tmp_path / "callreel.toml"
    config.write_text(
        f'data = "{data}"\naccept_loopback = false\n'
        f'[[peers]]\nname = "edge-sbc"\naddresses = ["192.0.2.7"]\naccount_sid = "{sid}"\n'
    )
    told = ("--yes", "--config", str(config))
    refused(callreel("accounts", "delete", sid, *told), "edge-sbc", "account_sid")
    assert callreel("accounts", "delete", FIRST, *told).status == 0


def test_both_or_neither_signing_key_is_refused(data: Path) -> None:
    refused(callreel("accounts", "signing-key", FIRST, data=data), "either")
    both = ("--new", "--same-as-token")
    refused(callreel("accounts", "signing-key", FIRST, *both, data=data), "either")


def test_no_data_folder_is_a_clear_error(tmp_path: Path) -> None:
    refused(callreel("accounts", "list", data=tmp_path / "none"), "no data folder", "--data")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    refused(callreel("accounts", "list", data=tmp_path / "file"), "no data folder")


def test_a_folder_without_an_account_is_a_clear_error(tmp_path: Path) -> None:
    DataDir(tmp_path / "data").prepare()
    refused(callreel("accounts", "list", data=tmp_path / "data"), "no account yet")


def test_a_folder_in_use_by_nobody_who_answers_is_a_clear_error(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callreel.cli.admin.PATIENCE_S", 0.2)
    folder = DataDir(data)
    lock = folder.lock()
    with os.fdopen(lock):  # closed in the end, whatever happens
        refused(callreel("accounts", "list", data=data), "starting or stopping")
        folder.write_state({"admin_socket": str(data / "gone.sock")})
        refused(callreel("accounts", "list", data=data), "does not answer")
        folder.state_file.write_text("not JSON")
        refused(callreel("accounts", "list", data=data), "starting or stopping")


def test_a_database_that_fails_is_a_clear_error(data: Path) -> None:
    for left in data.glob("callreel.db*"):
        left.unlink()
    (data / "callreel.db").write_bytes(b"this is no database at all" * 100)
    refused(callreel("accounts", "list", data=data), "database")


def test_a_stale_server_file_does_not_mislead(data: Path) -> None:
    """As a server that was killed leaves it."""
    DataDir(data).write_state({"admin_socket": str(data / "gone.sock"), "http_url": "http://x"})
    assert len(callreel("accounts", "list", "--json", data=data).said) == 1


def test_what_a_command_writes_is_private(data: Path) -> None:
    before = set(data.iterdir())
    callreel("accounts", "create", data=data)
    made = set(data.iterdir()) - before
    assert made
    for path in made:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(("name", "group"), [("accounts", accounts.app), ("keys", keys.app)])
def test_every_command_is_documented(name: str, group: typer.Typer) -> None:
    docs = (Path(__file__).parents[2] / "docs/accounts.md").read_text()
    for command in get_group(group).commands:
        assert f"`callreel {name} {command}" in docs


def test_help_says_what_there_is() -> None:
    ran = callreel("accounts", "--help")
    assert ran.status == 0
    for command in ("create", "list", "rotate-token", "signing-key", "delete"):
        assert command in ran.out
