"""``callreel calls`` over a data folder that a server has left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from callreel.calls.model import CallCallback, CallDirection, CallStatus
from callreel.calls.story import StoryKind
from callreel.server.datadir import DataDir
from callreel.server.system import RandomIds, SystemClock
from callreel.service.accounts import AccountService, Bootstrap
from callreel.service.calls import CallService, NewCall
from callreel.service.context import Context
from callreel.service.recordings import RecordingService
from callreel.store.database import Database
from callreel.store.seal import Seal
from callreel.testing.media import ScriptedMedia
from tests.cli.commands import callreel

FIRST = "AC" + "cd" * 16
OTHER = "b3877c40-da60-4998-90ad-b792e98472af"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALLREEL_DATA", "CALLREEL_CONFIG", "CALLREEL_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two accounts; of the first, a call that is over and one that rings."""
    folder = DataDir(tmp_path / "data")
    key = folder.prepare()

    async def fill() -> None:
        database = Database(f"sqlite:///{folder.database}", Seal(key))
        await asyncio.to_thread(database.migrate)
        clock = SystemClock()
        context = Context(database, ScriptedMedia(clock), clock, RandomIds(), "", lambda: None)
        accounts = AccountService(context)
        first = await accounts.ensure_first(Bootstrap(FIRST, "a-token-of-tests"))
        await accounts.create(account_sid=OTHER)
        calls = CallService(context, RecordingService(context, lambda _: None))
        placed = NewCall(
            first.id,
            CallDirection.OUTBOUND_API,
            "+15550100",
            "sip:bob@example.com",
            callback=CallCallback("https://me:secret@example.com/cb?token=secret"),
        )
        call = await calls.ringing(placed)
        await calls.note(call.id, StoryKind.DOCUMENT, "POST https://example.com/voice: 404")
        place = {"code": 12100, "line": 1, "column": 7}
        await calls.note(call.id, StoryKind.ERROR, "this is no XML", place)
        await calls.note(call.id, StoryKind.ERROR, "no answer in time", {"code": 11205})
        await calls.note(call.id, StoryKind.SIP, "486 Busy \x1b[31mHere", {"status": 486})
        await calls.ended(call.id, CallStatus.BUSY, reason="486", sip_result_code=486)
        await calls.ringing(NewCall(first.id, CallDirection.INBOUND, "+1\x1b[2J", "+15550199"))
        await database.close()

    asyncio.run(fill())
    return folder.root


def test_calls_are_listed_the_newest_first(data: Path) -> None:
    ringing, busy = callreel("calls", "list", "--json", data=data).said
    assert (ringing["status"], busy["status"]) == ("ringing", "busy")
    assert (busy["account_sid"], busy["to"]) == (FIRST, "sip:bob@example.com")
    assert callreel("calls", "list", "--json", "--limit", "1", data=data).said == [ringing]
    assert callreel("calls", "list", "--json", "--status", "busy", data=data).said == [busy]
    assert callreel("calls", "list", "--json", "--account", OTHER, data=data).said == []
    table = callreel("calls", "list", data=data).out.splitlines()
    assert len(table) == 3
    assert busy["sid"] in table[2]
    assert "\x1b" not in table[1]


def test_a_call_tells_its_story(data: Path) -> None:
    (busy,) = callreel("calls", "list", "--json", "--status", "busy", data=data).said
    shown = callreel("calls", "show", busy["sid"], "--json", data=data).said
    assert {name: shown[name] for name in busy} == busy
    assert [line["kind"] for line in shown["story"]] == [
        "call", "document", "error", "error", "sip", "webhook", "call",
    ]  # fmt: skip
    assert shown["story"][4]["details"] == {"status": 486}
    told = callreel("calls", "show", busy["sid"], data=data).out
    lines = told.splitlines()
    assert lines[0].split() == ["Call", busy["sid"]]
    assert lines[-7].endswith("was made: +15550100 to sip:bob@example.com")
    assert "document   POST https://example.com/voice: 404" in told
    assert "error      this is no XML (12100, line 1, column 7)\n" in told
    assert "error      no answer in time (11205)\n" in told
    assert "completed of the call is owed to https://example.com/cb" in told
    assert lines[-1].endswith("busy after 0 s, SIP 486: 486")
    assert "secret" not in told
    assert "\x1b" not in told


def test_a_call_that_is_not_there_is_told(data: Path) -> None:
    for sid in ("CA" + "0" * 32, "nonsense"):
        ran = callreel("calls", "show", sid, data=data)
        assert (ran.status, ran.out) == (2, "")
        assert sid in ran.err
    assert callreel("calls", "list", "--limit", "0", data=data).status == 2
