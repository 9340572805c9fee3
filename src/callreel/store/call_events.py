"""The story of a call, line by line. It goes with the call's row."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.story import StoryKind, StoryLine
from callreel.store.schema import call_events, calls

MAX_LINES = 1000
"""Of one call: a document that loops for ever must not fill the database."""
MAX_TEXT_CHARACTERS = 2000
_NO_MORE = "the story ends here: too much happened"


# Made once: to make a statement anew each time costs more than to execute it.
_KNOWN = select(calls.c.id).where(calls.c.id == bindparam("of_call")).with_for_update()
_LAST = select(func.max(call_events.c.number)).where(call_events.c.call_id == bindparam("of_call"))
_ADD = insert(call_events)


async def add(connection: AsyncConnection, call_id: str, *lines: StoryLine) -> bool:
    """Add lines; False where there is no such call, or where its story is full."""
    # Two that add to one call take turns: each line has a number of its own.
    of_call = {"of_call": call_id}
    if not lines or await connection.scalar(_KNOWN, of_call) is None:
        return False
    last = await connection.scalar(_LAST, of_call) or 0
    rows = [
        {
            "call_id": call_id,
            "number": number,
            "at": line.at,
            "kind": line.kind.value,
            "text": (_NO_MORE if number == MAX_LINES else line.text).replace("\0", "")[
                :MAX_TEXT_CHARACTERS
            ],
            "details": json.dumps({} if number == MAX_LINES else dict(line.details)),
        }
        for number, line in enumerate(lines, last + 1)
        if number <= MAX_LINES
    ]
    if rows:
        await connection.execute(_ADD, rows)
    return len(rows) == len(lines)


async def of_call(connection: AsyncConnection, call_id: str) -> Sequence[StoryLine]:
    """A call's lines, in the order in which they were added."""
    found = await connection.execute(
        select(call_events).where(call_events.c.call_id == call_id).order_by(call_events.c.number)
    )
    return [
        StoryLine(row.at, StoryKind(row.kind), row.text, json.loads(row.details)) for row in found
    ]
