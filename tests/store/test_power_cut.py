"""What a power cut leaves of the database: whole transactions, up to some point, and no half one.

The write-ahead log as a disk may have it that lost what was not synced: torn at any byte, its last
blocks missing or zeroed or another's, empty, or gone.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from callreel.store import calls, recordings
from callreel.store.accounts import add
from callreel.store.database import Database
from callreel.store.seal import Seal
from tests.store.samples import ACCOUNT, a_call, a_recording, an_id

SEAL = Seal(b"k" * 32)
TRANSACTIONS = 12
BLOCK = 4096


def torn(log: bytes, chance: random.Random) -> bytes:
    """Only the first so many bytes."""
    return log[: chance.randrange(len(log))]


def zeroed(log: bytes, chance: random.Random) -> bytes:
    """Its last blocks were made long, and never written."""
    keep = chance.randrange(len(log)) // BLOCK * BLOCK
    return log[:keep] + bytes(len(log) - keep)


def with_a_hole(log: bytes, chance: random.Random) -> bytes:
    """A block in the middle was not written, those behind it were."""
    at = chance.randrange(len(log)) // BLOCK * BLOCK
    return log[:at] + bytes(min(BLOCK, len(log) - at)) + log[at + BLOCK :]


def with_old_blocks(log: bytes, chance: random.Random) -> bytes:
    """Its last blocks hold what lay on the disk before."""
    keep = chance.randrange(len(log)) // BLOCK * BLOCK
    return log[:keep] + random.Random(1).randbytes(len(log) - keep)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A database and its log, as they are while the server runs and nothing was moved over."""
    path = tmp_path_factory.mktemp("written") / "callreel.db"

    async def write() -> tuple[bytes, bytes]:
        database = Database(f"sqlite:///{path}", SEAL)
        database.migrate()
        async with database.begin() as connection:
            await add(connection, SEAL, ACCOUNT)
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        for number in range(TRANSACTIONS):
            # A call and its recording are one thing: there must never be one without the other.
            async with database.begin() as connection:
                await calls.add(connection, a_call(100 + number))
                await recordings.add(connection, SEAL, a_recording(200 + number, 100 + number))
        both = path.read_bytes(), path.with_name("callreel.db-wal").read_bytes()
        await database.close()
        return both

    return asyncio.run(write())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("damage", [torn, zeroed, with_a_hole, with_old_blocks])
async def test_whole_transactions_up_to_some_point(
    written: tuple[bytes, bytes],
    tmp_path: Path,
    damage: Callable[[bytes, random.Random], bytes],
    seed: int,
) -> None:
    data, log = written
    found = await after(tmp_path, data, damage(log, random.Random(seed)))
    assert found <= TRANSACTIONS


async def test_with_the_whole_log_nothing_is_lost(
    written: tuple[bytes, bytes], tmp_path: Path
) -> None:
    assert await after(tmp_path, *written) == TRANSACTIONS


@pytest.mark.parametrize("log", [b"", None], ids=["empty", "gone"])
async def test_without_its_log_there_is_what_was_moved_over(
    written: tuple[bytes, bytes], tmp_path: Path, log: bytes | None
) -> None:
    assert await after(tmp_path, written[0], log) == 0


async def after(folder: Path, data: bytes, log: bytes | None) -> int:
    """How many transactions a server finds there when it starts: the first so many, whole."""
    path = folder / "callreel.db"
    path.write_bytes(data)
    if log is not None:
        path.with_name("callreel.db-wal").write_bytes(log)
    database = Database(f"sqlite:///{path}", SEAL)
    database.migrate()
    async with database.read() as connection:
        there = [
            await calls.get(connection, an_id(100 + number)) is not None
            for number in range(TRANSACTIONS)
        ]
        kept = [
            await recordings.get(connection, SEAL, an_id(200 + number)) is not None
            for number in range(TRANSACTIONS)
        ]
    # And it can be written to.
    async with database.begin() as connection:
        await calls.add(connection, a_call(999))
    await database.close()
    shutil.copy(path, folder / "looked-at.db")
    with sqlite3.connect(folder / "looked-at.db") as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    other.close()
    assert kept == there
    assert there == sorted(there, reverse=True), "one is there, and an earlier one is not"
    return sum(there)
