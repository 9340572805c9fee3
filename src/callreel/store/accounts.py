"""Accounts, their secrets sealed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import Account, Dialect
from callreel.store.schema import accounts
from callreel.store.seal import Seal


async def add(connection: AsyncConnection, seal: Seal, account: Account) -> None:
    """Store a new account."""
    own_key = account.signing_key != account.auth_token
    await connection.execute(
        insert(accounts).values(
            id=account.id,
            dialect=account.dialect.value,
            auth_token=seal.seal(account.auth_token),
            signing_key=seal.seal(account.signing_key) if own_key else None,
            created_at=account.created_at,
        )
    )


async def get(connection: AsyncConnection, seal: Seal, account_id: str) -> Account | None:
    """One account, or None."""
    found = await connection.execute(select(accounts).where(accounts.c.id == account_id))
    row = found.first()
    return None if row is None else _account(row, seal)


async def first(connection: AsyncConnection, seal: Seal) -> Account | None:
    """The oldest account: the one that loopback SIP belongs to. None before a first run."""
    found = await connection.execute(
        select(accounts).order_by(accounts.c.created_at, accounts.c.id).limit(1)
    )
    row = found.first()
    return None if row is None else _account(row, seal)


def _account(row: Row[Any], seal: Seal) -> Account:
    token = seal.open(row.auth_token)
    return Account(
        id=row.id,
        dialect=Dialect(row.dialect),
        auth_token=token,
        signing_key=token if row.signing_key is None else seal.open(row.signing_key),
        created_at=row.created_at,
    )
