"""Those who write to SQLite at the same time share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from callreel.store.writer import Writer

ADD = text("INSERT INTO t VALUES (:n)")


class Oops(Exception):
    pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[Writer]:
    writer = Writer(make_url(f"sqlite:///{path}"))
    async with writer.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
        await connection.execute(
            text("CREATE TABLE child (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)")
        )
    yield writer
    await writer.close()


def kept(path: Path) -> list[int]:
    """What another program finds in the file."""
    connection = sqlite3.connect(path)
    try:
        return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]
    finally:
        connection.close()


def traced(writer: Writer) -> list[str]:
    """The statements that are executed from now on."""
    said: list[str] = []
    assert writer._raw is not None
    writer._raw.set_trace_callback(said.append)
    return said


async def add(writer: Writer, n: int, path: Path | None = None) -> None:
    async with writer.begin() as connection:
        await connection.execute(ADD, {"n": n})
        await asyncio.sleep(0)
    if path is not None:
        assert n in kept(path), "it went on before its row was on the disk"


async def test_many_at_once_share_a_commit_and_none_goes_on_before_it(
    writer: Writer, path: Path
) -> None:
    said = traced(writer)
    await asyncio.gather(*(add(writer, n, path) for n in range(50)))
    assert kept(path) == list(range(50))
    assert said.count("COMMIT") <= 2
    assert said.count("BEGIN IMMEDIATE") == said.count("COMMIT")


async def test_one_that_fails_undoes_its_own_part_alone(writer: Writer, path: Path) -> None:
    async def fail(n: int) -> None:
        async with writer.begin() as connection:
            await connection.execute(ADD, {"n": n})
            raise Oops

    outcomes = await asyncio.gather(
        add(writer, 1), fail(2), add(writer, 3), add(writer, 3), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [type(None), Oops, type(None), IntegrityError]
    assert kept(path) == [1, 3]


async def test_a_commit_that_fails_fails_for_all(writer: Writer, path: Path) -> None:
    async def orphan() -> None:
        async with writer.begin() as connection:
            await connection.execute(text("INSERT INTO child VALUES (99)"))

    outcomes = await asyncio.gather(
        add(writer, 1), orphan(), add(writer, 2), return_exceptions=True
    )
    assert all(isinstance(one, DBAPIError) for one in outcomes)
    assert kept(path) == []
    await add(writer, 3, path)


async def test_what_sqlite_undoes_as_a_whole_is_kept_for_nobody(writer: Writer, path: Path) -> None:
    async def spoil() -> None:
        async with writer.begin() as connection:
            await connection.execute(text("INSERT OR ROLLBACK INTO t VALUES (1)"))

    outcomes = await asyncio.gather(
        add(writer, 1), spoil(), add(writer, 2, path), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [IntegrityError, IntegrityError, type(None)]
    assert kept(path) == [2]


async def test_who_is_cancelled_in_the_middle_is_undone_and_the_others_are_kept(
    writer: Writer, path: Path
) -> None:
    inside = asyncio.Event()

    async def linger() -> None:
        async with writer.begin() as connection:
            await connection.execute(ADD, {"n": 1})
            inside.set()
            await asyncio.Event().wait()

    lingering = asyncio.create_task(linger())
    await inside.wait()
    others = [asyncio.create_task(add(writer, n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    others[1].cancel()
    lingering.cancel()
    outcomes = await asyncio.gather(lingering, *others, return_exceptions=True)
    cancelled = asyncio.CancelledError
    assert [type(one) for one in outcomes] == [cancelled, type(None), cancelled, type(None)]
    assert kept(path) == [2, 4]


async def test_who_is_cancelled_while_the_disk_is_waited_for_disturbs_nobody(
    writer: Writer, path: Path
) -> None:
    tasks = [asyncio.create_task(add(writer, n)) for n in (1, 2)]
    while writer._group is None:
        await asyncio.sleep(0)
    group = writer._group
    while writer._group is group:
        await asyncio.sleep(0)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1] is None
    assert kept(path) == [1, 2]
    await add(writer, 3, path)
