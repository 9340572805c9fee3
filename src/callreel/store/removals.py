"""Deleted recordings whose files are not known to be gone yet: what a crash must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.store.schema import removals


@dataclass(frozen=True, slots=True)
class Removal:
    """Files that are to be deleted."""

    recording_id: str
    """Whose they are, 32 hex digits."""
    account_id: str
    """Whose the recording was."""
    media_key: str | None
    """Where they lie in the media store, without extension; None where there were none."""
    created_at: datetime
    """When the row was deleted, UTC."""


async def add(connection: AsyncConnection, removal: Removal) -> None:
    """Owe a removal, from the end of this transaction on."""
    await connection.execute(
        insert(removals).values(
            recording_id=removal.recording_id,
            account_id=removal.account_id,
            media_key=removal.media_key,
            created_at=removal.created_at,
        )
    )


async def get(connection: AsyncConnection, account_id: str, recording_id: str) -> Removal | None:
    """What is still owed for a recording of this account, or None."""
    found = await connection.execute(
        select(removals).where(
            removals.c.recording_id == recording_id, removals.c.account_id == account_id
        )
    )
    row = found.first()
    return None if row is None else _removal(row)


async def every(connection: AsyncConnection) -> Sequence[Removal]:
    """All that is still owed, the oldest first."""
    found = await connection.execute(select(removals).order_by(removals.c.created_at))
    return [_removal(row) for row in found]


async def done(connection: AsyncConnection, recording_id: str) -> None:
    """The files are gone."""
    await connection.execute(delete(removals).where(removals.c.recording_id == recording_id))


def _removal(row: Row[Any]) -> Removal:
    return Removal(
        recording_id=row.recording_id,
        account_id=row.account_id,
        media_key=row.media_key,
        created_at=row.created_at,
    )
