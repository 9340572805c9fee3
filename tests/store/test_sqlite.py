"""Connections to SQLite: what a failure or a cancelled task leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from callreel.store.database import Database
from callreel.store.seal import Seal


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"k" * 32))
    async with database.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT)"))
    yield database
    await database.close()


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        found = await connection.execute(text("SELECT name FROM t ORDER BY n"))
        return [row.name for row in found]


async def test_many_rows_go_in_and_come_out(database: Database) -> None:
    rows = [{"n": number, "name": f"row {number}"} for number in range(300)]
    async with database.begin() as connection:
        done = await connection.execute(text("INSERT INTO t VALUES (:n, :name)"), rows)
        assert done.rowcount == 300
    assert await names(database) == [row["name"] for row in rows]


async def test_a_failed_statement_undoes_the_rest_and_the_next_goes_on(database: Database) -> None:
    add = text("INSERT INTO t VALUES (1, 'first')")
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(add)
            await connection.execute(add)
    assert await names(database) == []
    async with database.begin() as connection:
        await connection.execute(add)
    assert await names(database) == ["first"]


async def test_who_is_cancelled_while_it_waits_for_the_file_does_not_keep_it(
    database: Database, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write(name: str) -> None:
        async with database.begin() as connection:
            await connection.execute(text("INSERT INTO t (name) VALUES (:name)"), {"name": name})

    task = asyncio.create_task(write("given up"))
    await asyncio.sleep(0.1)  # it is in SQLite's busy wait, in its thread
    task.cancel()
    await asyncio.sleep(0)
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await write("kept")
    assert await names(database) == ["kept"]


async def test_a_writer_that_is_cancelled_while_it_waits_leaves_the_next_a_way(
    tmp_path: Path, database: Database
) -> None:
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write(name: str) -> None:
        async with database.begin() as connection:
            await connection.execute(text("INSERT INTO t (name) VALUES (:name)"), {"name": name})

    task = asyncio.create_task(write("given up"))
    await asyncio.sleep(0.1)  # it waits in its thread
    task.cancel()
    release = asyncio.get_running_loop().call_later(0.2, other.execute, "ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await task
    await write("next")
    release.cancel()
    other.close()
    assert await names(database) == ["next"]
