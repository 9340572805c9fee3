"""``callreel deliveries`` over a data folder that a server has made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callreel.calls.model import CallbackMethod, DeliveryState
from callreel.server.datadir import DataDir
from callreel.server.system import RandomIds, SystemClock
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.context import Context
from callreel.store import deliveries
from callreel.store.database import Database
from callreel.store.deliveries import Attempt, OwedDelivery
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia
from tests.cli.commands import callreel

FIRST = "AC" + "cd" * 16
ONE, TWO = "1" * 32, "2" * 32
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two webhooks: one given up after a try, one that is to be tried yet."""
    for name in ("CALLREEL_DATA", "CALLREEL_CONFIG", "CALLREEL_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = DataDir(tmp_path / "data")
    key = folder.prepare()

    async def fill() -> None:
        database = Database(f"sqlite:///{folder.database}", Seal(key))
        await asyncio.to_thread(database.migrate)
        clock = SystemClock()
        context = Context(database, ScriptedMedia(clock), clock, RandomIds(), "", lambda: None)
        account = await AccountService(context).ensure_first(Bootstrap(FIRST, "a-token-of-tests"))
        owed = OwedDelivery(
            id=ONE,
            account_id=account.id,
            event="completed",
            url="https://me:pass-word@h.example/cb?key=query-secret",
            method=CallbackMethod.POST,
            fields={"RecordingStatus": "completed"},
            created_at=NOON,
            recording_id="a" * 32,
            call_id="b" * 32,
        )
        async with database.begin() as connection:
            for each in (owed, replace(owed, id=TWO, event="in-progress")):
                await deliveries.add(connection, database.seal, each)
            attempt = Attempt(NOON, "answered", 12, status=410, answer=b"gone\x1b[31m")
            await deliveries.record_attempt(
                connection, ONE, attempt, state=DeliveryState.FAILED, next_at=None
            )
        await database.close()

    asyncio.run(fill())
    return folder.root


def test_what_is_owed_is_listed_and_no_secret_is_shown(data: Path) -> None:
    said = callreel("deliveries", "list", "--json", data=data).said
    assert {one["sid"]: one["state"] for one in said} == {ONE: "failed", TWO: "pending"}
    assert said[0]["recording_sid"] == "RE" + "a" * 32
    (failed,) = callreel("deliveries", "list", "--state", "failed", "--json", data=data).said
    assert failed["sid"] == ONE
    for arguments in (("list",), ("show", ONE)):
        shown = callreel("deliveries", *arguments, data=data)
        assert shown.status == 0, shown.err
        assert "h.example/cb" in shown.out
        assert "pass-word" not in shown.out
        assert "query-secret" not in shown.out
        assert "\x1b" not in shown.out


def test_a_delivery_is_shown_with_its_tries(data: Path) -> None:
    shown = callreel("deliveries", "show", ONE, "--json", data=data).said
    assert shown["fields"] == {"RecordingStatus": "completed"}
    (attempt,) = shown["tries"]
    assert (attempt["status"], attempt["answer"]) == (410, "gone\x1b[31m")
    assert "410" in callreel("deliveries", "show", ONE, data=data).out


def test_one_and_all_that_failed_are_sent_again(data: Path) -> None:
    assert callreel("deliveries", "replay", ONE, "--json", data=data).said["state"] == "pending"
    assert callreel("deliveries", "replay", "--failed", "--json", data=data).said == {"replayed": 0}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("replay",), "--failed"),
        (("replay", ONE, "--failed"), "--failed"),
        (("replay", ONE, "--event", "completed"), "--event"),
        (("show", "0" * 32), "no delivery"),
        (("show", "../accounts"), "no such"),
        (("list", "--state", "lost"), "pending"),
        (("list", "--recording", "x"), "SID"),
        (("list", "--account", "AC" + "0" * 32), "account"),
    ],
)
def test_what_makes_no_sense_is_refused(data: Path, arguments: tuple[str, ...], word: str) -> None:
    ran = callreel("deliveries", *arguments, data=data)
    assert ran.status == 2
    assert word in ran.err
