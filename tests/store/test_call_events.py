"""The story of a call and its callback, on both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from callreel.calls.model import CallbackMethod, CallCallback, CallEvent
from callreel.calls.story import StoryKind, StoryLine
from callreel.store import accounts, call_callbacks, call_events, calls
from callreel.store.database import Database
from tests.store.samples import ACCOUNT, NOW, a_call, an_id


@pytest.fixture(autouse=True)
async def _two_calls(database: Database) -> None:
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await calls.add(connection, a_call(10))
        await calls.add(connection, a_call(11))


def a_line(number: int) -> StoryLine:
    at = NOW + timedelta(seconds=number)
    return StoryLine(at, StoryKind.VERB, f"<Say> {number}", {"verb": "Say", "n": number})


async def test_lines_come_back_in_order_each_with_its_call(database: Database) -> None:
    lines = [a_line(number) for number in (3, 1, 2)]  # what was added first stays first
    async with database.begin() as connection:
        for line in lines:
            assert await call_events.add(connection, an_id(10), line)
        assert await call_events.add(connection, an_id(11), a_line(7))
    async with database.read() as connection:
        assert await call_events.of_call(connection, an_id(10)) == lines
        assert await call_events.of_call(connection, an_id(11)) == [a_line(7)]
        assert await call_events.of_call(connection, an_id(99)) == []


async def test_lines_added_at_once_are_all_kept(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.begin() as connection:
            await call_events.add(connection, an_id(10), a_line(number))

    await asyncio.gather(*(add(number) for number in range(20)))
    async with database.read() as connection:
        kept = await call_events.of_call(connection, an_id(10))
    assert sorted(line.text for line in kept) == sorted(a_line(n).text for n in range(20))


async def test_a_call_that_is_not_there_has_no_story(database: Database) -> None:
    async with database.begin() as connection:
        assert not await call_events.add(connection, an_id(99), a_line(1))


async def test_a_story_that_never_ends_is_cut_off(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_events, "MAX_LINES", 5)
    long = replace(a_line(0), text="x\0y" * 3000)
    async with database.begin() as connection:
        assert await call_events.add(connection, an_id(10), long)
        told = [await call_events.add(connection, an_id(10), a_line(n)) for n in range(1, 9)]
        kept = await call_events.of_call(connection, an_id(10))
    assert told == [True] * 4 + [False] * 4
    assert len(kept[0].text) == call_events.MAX_TEXT_CHARACTERS
    assert "\0" not in kept[0].text
    assert [line.text for line in kept[1:4]] == [a_line(n).text for n in (1, 2, 3)]
    assert "too much" in kept[4].text


async def test_a_callback_is_sealed_changed_counted_and_taken_back(database: Database) -> None:
    seal = database.seal
    first = CallCallback("https://u:secret@example.com/cb")
    async with database.begin() as connection:
        await call_callbacks.put(connection, seal, an_id(10), first)
        stored = await connection.scalar(text("SELECT url FROM call_callbacks"))
        assert b"secret" not in bytes(stored)
        await call_callbacks.count(connection, an_id(10), an_id(70))
        kept = await call_callbacks.get(connection, seal, an_id(10))
        assert kept == call_callbacks.KeptCallback(first, 1, an_id(70))
        second = CallCallback("http://b.example", CallbackMethod.GET, frozenset(CallEvent))
        await call_callbacks.put(connection, seal, an_id(10), second)
        kept = await call_callbacks.get(connection, seal, an_id(10))
        assert kept == call_callbacks.KeptCallback(second, 1, an_id(70))
        assert await call_callbacks.get(connection, seal, an_id(11)) is None
        await call_callbacks.put(connection, seal, an_id(10), None)
        assert await call_callbacks.get(connection, seal, an_id(10)) is None


async def test_both_go_with_the_call(database: Database) -> None:
    async with database.begin() as connection:
        for number in (10, 11):
            await call_events.add(connection, an_id(number), a_line(1))
            callback = CallCallback("https://example.com/cb")
            await call_callbacks.put(connection, database.seal, an_id(number), callback)
        await calls.remove(connection, an_id(10))
    async with database.read() as connection:
        for table in ("call_events", "call_callbacks"):
            left = await connection.execute(text(f"SELECT call_id FROM {table}"))
            assert [row.call_id for row in left] == [an_id(11)]
