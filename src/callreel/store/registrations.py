"""Where registered users are: opaque here, signalling's own."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.store.schema import registrations

_ADD = insert(registrations)
_SAVE = update(registrations).where(registrations.c.user_name == bindparam("of_user"))
_REMOVE = delete(registrations).where(registrations.c.user_name == bindparam("of_user"))


async def save(connection: AsyncConnection, user: str, state: str) -> None:
    """Keep a user's bindings, in place of what was kept before."""
    done = await connection.execute(_SAVE, {"of_user": user, "state": state})
    if not done.rowcount:
        await connection.execute(_ADD, {"user_name": user, "state": state})


async def remove(connection: AsyncConnection, user: str) -> None:
    """The user is not registered any more."""
    await connection.execute(_REMOVE, {"of_user": user})


async def every(connection: AsyncConnection) -> Mapping[str, str]:
    """The bindings of each user."""
    found = await connection.execute(select(registrations.c.user_name, registrations.c.state))
    return {row.user_name: row.state for row in found}
