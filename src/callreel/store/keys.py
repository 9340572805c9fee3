"""API keys. Their secrets are not here, only hashes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import ApiKey
from callreel.store.schema import api_keys


async def add(connection: AsyncConnection, key: ApiKey) -> None:
    """Store a new key."""
    await connection.execute(
        insert(api_keys).values(
            id=key.id,
            account_id=key.account_id,
            name=key.name,
            secret_hash=key.secret_hash,
            created_at=key.created_at,
        )
    )


async def every(connection: AsyncConnection) -> Sequence[ApiKey]:
    """Every account's keys, oldest first."""
    found = await connection.execute(
        select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
    )
    return [_key(row) for row in found]


async def remove(connection: AsyncConnection, key_id: str) -> None:
    """Forget a key."""
    await connection.execute(delete(api_keys).where(api_keys.c.id == key_id))


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        secret_hash=row.secret_hash,
        created_at=row.created_at,
    )
