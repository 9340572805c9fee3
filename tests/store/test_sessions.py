"""What is kept of live sessions, on both engines."""

from __future__ import annotations

from callreel.store import accounts, calls, sessions
from callreel.store.database import Database
from tests.store.samples import ACCOUNT, a_call


async def test_a_session_is_kept_changed_and_forgotten(database: Database) -> None:
    call = a_call()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await calls.add(connection, call)
        await sessions.add(connection, call.id, "one")
    async with database.begin() as connection:
        assert await sessions.every(connection) == {call.id: "one"}
        await sessions.save(connection, call.id, "two")
    async with database.begin() as connection:
        assert await sessions.every(connection) == {call.id: "two"}
        await sessions.remove(connection, call.id)
        assert await sessions.every(connection) == {}
        await sessions.save(connection, call.id, "three")  # kept anew
        assert await sessions.every(connection) == {call.id: "three"}
