"""Accounts and keys on both engines, and what the migration makes of older rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

import callreel.store
from callreel.calls.model import ApiKey, CallStatus, RecordingStatus
from callreel.store import accounts, calls, deliveries, keys, recordings
from callreel.store.database import Database
from callreel.store.seal import Seal
from tests.store.samples import ACCOUNT, NOW, OTHER, a_call, a_recording, an_id
from tests.store.test_store import _owed

KEY = ApiKey(an_id(50), ACCOUNT.id, "ci", "0f" * 32, NOW)
LATER = ApiKey(an_id(49), OTHER.id, "", "f0" * 32, NOW + timedelta(seconds=1))


@pytest.fixture(autouse=True)
async def _accounts(database: Database) -> None:
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, OTHER)
        await accounts.add(connection, database.seal, ACCOUNT)


async def test_accounts_change_and_come_back_oldest_first(database: Database) -> None:
    changed = replace(
        ACCOUNT,
        name="Größe",
        auth_token="new-token",
        signing_key="own-key",
        token_rotated_at=NOW + timedelta(hours=1),
    )
    async with database.begin() as connection:
        assert await accounts.every(connection, database.seal) == [ACCOUNT, OTHER]
        await accounts.save(connection, database.seal, changed)
    async with database.read() as connection:
        assert await accounts.every(connection, database.seal) == [changed, OTHER]
        secrets = text("SELECT auth_token, signing_key FROM accounts")
        sealed = (await connection.execute(secrets)).all()
    assert all(b"token" not in bytes(one) for row in sealed for one in row if one is not None)


async def test_keys_come_back_oldest_first_and_go(database: Database) -> None:
    async with database.begin() as connection:
        await keys.add(connection, LATER)
        await keys.add(connection, KEY)
    async with database.begin() as connection:
        assert await keys.every(connection) == [KEY, LATER]
        await keys.remove(connection, KEY.id)
    async with database.read() as connection:
        assert await keys.every(connection) == [LATER]


async def test_a_key_needs_an_account(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await keys.add(connection, replace(KEY, account_id=an_id(99)))


async def _fill(database: Database) -> None:
    seal = database.seal
    async with database.begin() as connection:
        for number, status in enumerate(
            (CallStatus.RINGING, CallStatus.COMPLETED, CallStatus.BUSY, CallStatus.COMPLETED)
        ):
            await calls.add(connection, replace(a_call(number), status=status))
        await calls.add(connection, a_call(9, OTHER))
        for number, now in enumerate((RecordingStatus.STOPPED, RecordingStatus.COMPLETED)):
            await recordings.add(connection, seal, replace(a_recording(20 + number), status=now))
        await keys.add(connection, KEY)
        await keys.add(connection, LATER)
        await deliveries.add(connection, seal, _owed(30))


async def test_what_an_account_has_is_counted(database: Database) -> None:
    await _fill(database)
    async with database.read() as connection:
        held = await accounts.holdings(connection, ACCOUNT.id)
        assert (held.calls, held.live_calls) == (4, 1)
        assert (held.recordings, held.unfinished_recordings) == (2, 1)
        nothing = await accounts.holdings(connection, an_id(99))
        assert nothing == accounts.Holdings(0, 0, 0, 0)
        finished = await accounts.some_recordings(connection, ACCOUNT.id, limit=9)
        assert list(finished) == [an_id(21)]


async def test_what_is_over_is_forgotten_bit_by_bit(database: Database) -> None:
    await _fill(database)
    more = []
    for _ in range(4):
        async with database.begin() as connection:
            more.append(await accounts.forget_some(connection, ACCOUNT.id, limit=2))
    assert more == [True, False, False, False]
    async with database.read() as connection:
        held = await accounts.holdings(connection, ACCOUNT.id)
        assert (held.calls, held.live_calls) == (1, 1), "what is live stays"
        assert (await accounts.holdings(connection, OTHER.id)).calls == 1
        left = await connection.scalar(text("SELECT count(*) FROM deliveries"))
        assert left == 0


async def test_an_account_goes_with_its_keys_and_not_before_its_calls(database: Database) -> None:
    await _fill(database)
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await accounts.remove(connection, ACCOUNT.id)
    async with database.begin() as connection:
        for table in ("deliveries", "recordings", "calls"):
            await connection.execute(
                text(f"DELETE FROM {table} WHERE account_id = :id"), {"id": ACCOUNT.id}
            )
        await accounts.remove(connection, ACCOUNT.id)
    async with database.read() as connection:
        assert await accounts.every(connection, database.seal) == [OTHER]
        assert await keys.every(connection) == [LATER]


async def test_an_account_of_before_keys_comes_along(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    config = Config()
    folder = Path(callreel.store.__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder))
    config.attributes["url"] = url
    await asyncio.to_thread(command.upgrade, config, "0002")
    seal = Seal(b"k" * 32)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO accounts VALUES (:id, 'twilio', :token, NULL, 1)"),
            {"id": an_id(1), "token": seal.seal("a-token")},
        )
    engine.dispose()
    database = Database(url, seal)
    database.migrate()
    async with database.read() as fresh:
        (found,) = await accounts.every(fresh, seal)
    await database.close()
    assert (found.name, found.auth_token, found.signs_with_token) == ("", "a-token", True)
