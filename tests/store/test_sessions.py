"""What is kept of live sessions, on both engines."""

from __future__ import annotations

from sqlalchemy import insert, select

from callreel.store import accounts, calls, schema, sessions
from callreel.store.database import Database
from tests.store.samples import ACCOUNT, a_call


async def test_a_session_is_kept_changed_and_forgotten(database: Database) -> None:
    call = a_call()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await calls.add(connection, call)
        await sessions.add(connection, database.seal, call.id, "one")
    async with database.begin() as connection:
        assert await sessions.every(connection, database.seal) == {call.id: "one"}
        await sessions.save(connection, database.seal, call.id, "two")
    async with database.begin() as connection:
        assert await sessions.every(connection, database.seal) == {call.id: "two"}
        await sessions.remove(connection, call.id)
        assert await sessions.every(connection, database.seal) == {}
        await sessions.save(connection, database.seal, call.id, "three")  # kept anew
        assert await sessions.every(connection, database.seal) == {call.id: "three"}


async def test_no_key_in_it_is_stored_in_clear(database: Database) -> None:
    call, secret = a_call(), '{"offer": "a=crypto:1 … inline:c2VjcmV0"}'
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await calls.add(connection, call)
        await sessions.add(connection, database.seal, call.id, secret)
    async with database.read() as connection:
        stored = str(await connection.scalar(select(schema.sessions.c.state)))
        assert "crypto" not in stored
        assert "c2VjcmV0" not in stored
        assert await sessions.every(connection, database.seal) == {call.id: secret}


async def test_what_an_earlier_version_left_is_read(database: Database) -> None:
    call = a_call()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await calls.add(connection, call)
        await connection.execute(
            insert(schema.sessions), {"call_id": call.id, "state": '{"peer": "x"}'}
        )
        assert await sessions.every(connection, database.seal) == {call.id: '{"peer": "x"}'}
