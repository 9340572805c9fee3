"""What signalling must know of a live call to go on with it after a crash: opaque here."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.store.schema import sessions


async def save(connection: AsyncConnection, call_id: str, state: str) -> None:
    """Keep a session's state, in place of what was kept before."""
    done = await connection.execute(
        update(sessions).where(sessions.c.call_id == call_id).values(state=state)
    )
    if not done.rowcount:
        await connection.execute(insert(sessions).values(call_id=call_id, state=state))


async def remove(connection: AsyncConnection, call_id: str) -> None:
    """The call is over."""
    await connection.execute(delete(sessions).where(sessions.c.call_id == call_id))


async def every(connection: AsyncConnection) -> Mapping[str, str]:
    """The state of each session, by call."""
    found = await connection.execute(select(sessions.c.call_id, sessions.c.state))
    return {row.call_id: row.state for row in found}
