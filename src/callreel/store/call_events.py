"""The story of a call, line by line. It goes with the call's row."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.story import StoryKind, StoryLine
from callreel.store.schema import call_events, calls

MAX_LINES = 1000
"""Of one call: a document that loops for ever must not fill the database."""
MAX_TEXT_CHARACTERS = 2000
_NO_MORE = "the story ends here: too much happened"


async def add(connection: AsyncConnection, call_id: str, line: StoryLine) -> bool:
    """Add a line; False where there is no such call, or where its story is full."""
    # Two lines of one call take turns: each has a number of its own.
    known = select(calls.c.id).where(calls.c.id == call_id).with_for_update()
    if await connection.scalar(known) is None:
        return False
    last = await connection.scalar(
        select(func.max(call_events.c.number)).where(call_events.c.call_id == call_id)
    )
    number = (last or 0) + 1
    if number > MAX_LINES:
        return False
    text = _NO_MORE if number == MAX_LINES else line.text
    await connection.execute(
        insert(call_events).values(
            call_id=call_id,
            number=number,
            at=line.at,
            kind=line.kind.value,
            text=text.replace("\0", "")[:MAX_TEXT_CHARACTERS],
            details=json.dumps({} if number == MAX_LINES else dict(line.details)),
        )
    )
    return True


async def of_call(connection: AsyncConnection, call_id: str) -> Sequence[StoryLine]:
    """A call's lines, in the order in which they were added."""
    found = await connection.execute(
        select(call_events).where(call_events.c.call_id == call_id).order_by(call_events.c.number)
    )
    return [
        StoryLine(row.at, StoryKind(row.kind), row.text, json.loads(row.details)) for row in found
    ]
