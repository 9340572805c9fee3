"""Accounts, their secrets sealed, and what belongs to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import Account, Dialect, RecordingStatus
from callreel.calls.states import CALL_TRANSITIONS, RECORDING_TRANSITIONS
from callreel.store.schema import accounts, api_keys, calls, deliveries, recordings
from callreel.store.seal import Seal

_OLDEST = (accounts.c.created_at, accounts.c.id)
_LIVE_CALLS = [status.value for status, then in CALL_TRANSITIONS.items() if then]
_UNFINISHED = [status.value for status, then in RECORDING_TRANSITIONS.items() if then]


@dataclass(frozen=True, slots=True)
class Holdings:
    """How much an account has."""

    calls: int
    """Calls, over or not."""
    live_calls: int
    """Those of them that are not over."""
    recordings: int
    """Recordings, finished or not."""
    unfinished_recordings: int
    """Those of them that are neither completed nor absent."""


async def add(connection: AsyncConnection, seal: Seal, account: Account) -> None:
    """Store a new account."""
    await connection.execute(
        insert(accounts).values(
            id=account.id,
            dialect=account.dialect.value,
            created_at=account.created_at,
            **_changeable(account, seal),
        )
    )


async def save(connection: AsyncConnection, seal: Seal, account: Account) -> None:
    """Write an account's name, token and signing key back."""
    await connection.execute(
        update(accounts).where(accounts.c.id == account.id).values(**_changeable(account, seal))
    )


async def get(connection: AsyncConnection, seal: Seal, account_id: str) -> Account | None:
    """One account, or None."""
    found = await connection.execute(select(accounts).where(accounts.c.id == account_id))
    row = found.first()
    return None if row is None else _account(row, seal)


async def first(connection: AsyncConnection, seal: Seal) -> Account | None:
    """The oldest account: the one that loopback SIP belongs to. None before a first run."""
    found = await connection.execute(select(accounts).order_by(*_OLDEST).limit(1))
    row = found.first()
    return None if row is None else _account(row, seal)


async def ids(connection: AsyncConnection) -> Sequence[str]:
    """The ids of all accounts, oldest first. No secret is read, so no key is needed."""
    return list(await connection.scalars(select(accounts.c.id).order_by(*_OLDEST)))


async def every(connection: AsyncConnection, seal: Seal) -> Sequence[Account]:
    """All accounts, oldest first."""
    found = await connection.execute(select(accounts).order_by(*_OLDEST))
    return [_account(row, seal) for row in found]


async def holdings(connection: AsyncConnection, account_id: str) -> Holdings:
    """What an account has, counted."""
    of_calls = await _by_status(connection, calls, account_id)
    of_recordings = await _by_status(connection, recordings, account_id)
    return Holdings(
        calls=sum(of_calls.values()),
        live_calls=sum(of_calls.get(status, 0) for status in _LIVE_CALLS),
        recordings=sum(of_recordings.values()),
        unfinished_recordings=sum(of_recordings.get(status, 0) for status in _UNFINISHED),
    )


async def some_recordings(
    connection: AsyncConnection, account_id: str, *, limit: int
) -> Sequence[str]:
    """Ids of some finished recordings of an account, in no order."""
    finished = [one.value for one in RecordingStatus if one.value not in _UNFINISHED]
    found = await connection.execute(
        select(recordings.c.id)
        .where(recordings.c.account_id == account_id, recordings.c.status.in_(finished))
        .limit(limit)
    )
    return [row.id for row in found]


async def forget_some(connection: AsyncConnection, account_id: str, *, limit: int) -> bool:
    """Delete some of an account's webhooks and ended calls; whether there may be more."""
    more = False
    for table in (deliveries, calls):
        wanted = select(table.c.id).where(table.c.account_id == account_id)
        if table is calls:
            wanted = wanted.where(calls.c.status.not_in(_LIVE_CALLS))
        done = await connection.execute(delete(table).where(table.c.id.in_(wanted.limit(limit))))
        more = more or done.rowcount == limit
    return more


async def remove(connection: AsyncConnection, account_id: str) -> None:
    """Delete an account and its keys. The database refuses if calls or recordings are left."""
    await connection.execute(delete(api_keys).where(api_keys.c.account_id == account_id))
    await connection.execute(delete(accounts).where(accounts.c.id == account_id))


async def _by_status(connection: AsyncConnection, table: Table, account_id: str) -> dict[str, int]:
    found = await connection.execute(
        select(table.c.status, func.count())
        .where(table.c.account_id == account_id)
        .group_by(table.c.status)
    )
    return {status: count for status, count in found}


def _changeable(account: Account, seal: Seal) -> dict[str, Any]:
    own_key = not account.signs_with_token
    return {
        "auth_token": seal.seal(account.auth_token),
        "signing_key": seal.seal(account.signing_key) if own_key else None,
        "name": account.name,
        "token_rotated_at": account.token_rotated_at,
        "retention_days": account.retention_days,
    }


def _account(row: Row[Any], seal: Seal) -> Account:
    token = seal.open(row.auth_token)
    return Account(
        id=row.id,
        dialect=Dialect(row.dialect),
        auth_token=token,
        signing_key=token if row.signing_key is None else seal.open(row.signing_key),
        created_at=row.created_at,
        name=row.name,
        token_rotated_at=row.token_rotated_at,
        retention_days=row.retention_days,
    )
