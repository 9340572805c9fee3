"""What must be known of a call that documents steer, to go on with it after a crash: opaque here.

Sealed, for documents hold what nobody else is to read.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.store.schema import steerings
from callreel.store.seal import Seal

_ADD = insert(steerings)
_SAVE = update(steerings).where(steerings.c.call_id == bindparam("of_call"))
_REMOVE = delete(steerings).where(steerings.c.call_id == bindparam("of_call"))


async def put(connection: AsyncConnection, seal: Seal, call_id: str, state: str) -> None:
    """Keep a call's state, in place of what was kept before."""
    sealed = seal.seal(state)
    done = await connection.execute(_SAVE, {"of_call": call_id, "state": sealed})
    if not done.rowcount:
        await connection.execute(_ADD, {"call_id": call_id, "state": sealed})


async def remove(connection: AsyncConnection, call_id: str) -> None:
    """Nothing steers it any more."""
    await connection.execute(_REMOVE, {"of_call": call_id})


async def every(connection: AsyncConnection, seal: Seal) -> Mapping[str, str]:
    """The state of each call, by call."""
    found = await connection.execute(select(steerings.c.call_id, steerings.c.state))
    return {row.call_id: seal.open(row.state) for row in found}
