"""A database that cannot be used for a while: one error of ours, and nothing broken after it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from callreel.store import accounts, writer as writer_module
from callreel.store.database import Database, DatabaseUnavailable
from callreel.store.seal import Seal
from tests.store.samples import ACCOUNT


@asynccontextmanager
async def _away(database: Database) -> AsyncIterator[None]:
    """Nobody can write; on Postgres nobody can do anything at all."""
    url = database._sync_url
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        other = sqlite3.connect(url.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()
        return
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
        yield
        connection.execute(text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true"))
    admin.dispose()


async def test_what_is_asked_meanwhile_fails_and_later_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ACCOUNT
    async with _away(database):
        with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
            async with database.begin() as connection:
                await accounts.add(connection, database.seal, account)
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, account)
    async with database.read() as connection:
        assert await accounts.get(connection, database.seal, account.id) == account


async def test_a_read_only_file_is_said_to_be_so(tmp_path: Path) -> None:
    first = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"k" * 32))
    first.migrate()
    await first.close()
    read_only = Database(f"sqlite:///file:{tmp_path / 'a.db'}?mode=ro&uri=true", Seal(b"k" * 32))
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        async with read_only.begin() as connection:
            await accounts.add(connection, read_only.seal, ACCOUNT)
    await read_only.close()


async def test_nobody_waits_for_ever_behind_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PATIENCE_S", 0.1)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"k" * 32))
    database.migrate()
    inside, done = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with database.begin():
            inside.set()
            await done.wait()

    writing = asyncio.create_task(slow())
    await inside.wait()
    with pytest.raises(DatabaseUnavailable, match="too slow"):
        async with database.begin():
            pass
    done.set()
    await writing
    async with database.begin():
        pass
    await database.close()
