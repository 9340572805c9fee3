"""What signalling must know of a live call to go on with it after a crash: opaque here.

Sealed, for session descriptions hold the keys of SRTP.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.store.schema import sessions
from callreel.store.seal import Seal

# Made once, with the values handed in: to make a statement anew each time costs more than to
# execute it.
_ADD = insert(sessions)
_SAVE = update(sessions).where(sessions.c.call_id == bindparam("of_call"))
_REMOVE = delete(sessions).where(sessions.c.call_id == bindparam("of_call"))


async def add(connection: AsyncConnection, seal: Seal, call_id: str, state: str) -> None:
    """Keep the state of a session that is new."""
    await connection.execute(_ADD, {"call_id": call_id, "state": _sealed(seal, state)})


async def save(connection: AsyncConnection, seal: Seal, call_id: str, state: str) -> None:
    """Keep a session's state, in place of what was kept before."""
    done = await connection.execute(_SAVE, {"of_call": call_id, "state": _sealed(seal, state)})
    if not done.rowcount:
        await add(connection, seal, call_id, state)


async def remove(connection: AsyncConnection, call_id: str) -> None:
    """The call is over."""
    await connection.execute(_REMOVE, {"of_call": call_id})


async def every(connection: AsyncConnection, seal: Seal) -> Mapping[str, str]:
    """The state of each session, by call."""
    found = await connection.execute(select(sessions.c.call_id, sessions.c.state))
    return {row.call_id: _opened(seal, row.state) for row in found}


def _sealed(seal: Seal, state: str) -> str:
    return base64.b64encode(seal.seal(state)).decode()


def _opened(seal: Seal, text: str) -> str:
    # Versions before this one left JSON behind.
    return text if text.startswith("{") else seal.open(base64.b64decode(text))
