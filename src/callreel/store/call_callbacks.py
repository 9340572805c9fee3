"""Who wants to be told what becomes of a call. It goes with the call's row."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import CallbackMethod, CallCallback, CallEvent
from callreel.store.schema import call_callbacks
from callreel.store.seal import Seal


@dataclass(frozen=True, slots=True)
class KeptCallback:
    """A call's callback, and how far it has come."""

    callback: CallCallback
    """Where, how, about what."""
    owed: int
    """Events told of so far: the SequenceNumber of the next one."""
    last_delivery_id: str | None
    """The delivery that the next one follows."""


async def put(
    connection: AsyncConnection, seal: Seal, call_id: str, callback: CallCallback | None
) -> None:
    """Keep a call's callback in place of the one before, whose count goes on; None: keep none."""
    if callback is None:
        await connection.execute(delete(call_callbacks).where(call_callbacks.c.call_id == call_id))
        return
    values = {
        "url": seal.seal(callback.url),
        "method": callback.method.value,
        "events": " ".join(sorted(event.value for event in callback.events)),
    }
    done = await connection.execute(
        update(call_callbacks).where(call_callbacks.c.call_id == call_id).values(**values)
    )
    if not done.rowcount:
        await connection.execute(insert(call_callbacks).values(call_id=call_id, owed=0, **values))


async def get(connection: AsyncConnection, seal: Seal, call_id: str) -> KeptCallback | None:
    """A call's callback, or None. Who writes in this transaction has it for himself."""
    found = await connection.execute(
        select(call_callbacks).where(call_callbacks.c.call_id == call_id).with_for_update()
    )
    row = found.first()
    if row is None:
        return None
    return KeptCallback(
        CallCallback(
            seal.open(row.url),
            CallbackMethod(row.method),
            frozenset(CallEvent(event) for event in row.events.split()),
        ),
        row.owed,
        row.last_delivery_id,
    )


async def count(connection: AsyncConnection, call_id: str, delivery_id: str) -> None:
    """One more event is owed, by this delivery."""
    await connection.execute(
        update(call_callbacks)
        .where(call_callbacks.c.call_id == call_id)
        .values(owed=call_callbacks.c.owed + 1, last_delivery_id=delivery_id)
    )
