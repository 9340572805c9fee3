"""Pages by position, not by count: a list stays right while rows come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Row, Select, and_, or_
from sqlalchemy.ext.asyncio import AsyncConnection

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list that is sorted newest first."""

    created_at: datetime
    """Of the item at the edge."""
    id: str
    """Of the item at the edge; settles equal times."""
    backward: bool = False
    """False: the page after this item. True: the page before it."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, newest first."""

    items: Sequence[Item]
    """At most as many as were asked for."""
    next: Position | None
    """Where the next page begins; None on the last."""
    previous: Position | None
    """Where the previous page ends; None on the first."""


async def fetch_page(
    connection: AsyncConnection,
    query: Select[Any],
    created_at: Column[Any],
    id_column: Column[Any],
    make: Callable[[Row[Any]], Item],
    *,
    size: int,
    position: Position | None,
) -> Page[Item]:
    """Run ``query``, sorted newest first, from ``position`` on, and one row more to look ahead."""
    backward = position is not None and position.backward
    if position is not None:
        same = created_at == position.created_at
        if backward:
            edge = or_(created_at > position.created_at, and_(same, id_column > position.id))
        else:
            edge = or_(created_at < position.created_at, and_(same, id_column < position.id))
        query = query.where(edge)
    order = (created_at, id_column) if backward else (created_at.desc(), id_column.desc())
    rows = list((await connection.execute(query.order_by(*order).limit(size + 1))).all())
    more = len(rows) > size
    rows = rows[:size]
    if backward:
        rows.reverse()
    if not rows:
        return Page((), None, None)
    has_next = more if not backward else True
    has_previous = more if backward else position is not None
    first, last = rows[0], rows[-1]
    return Page(
        [make(row) for row in rows],
        Position(last.created_at, last.id) if has_next else None,
        Position(first.created_at, first.id, backward=True) if has_previous else None,
    )
