"""The outbox: webhooks that are owed, and every attempt at each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import CallbackMethod, DeliveryState
from callreel.store.schema import deliveries, delivery_attempts
from callreel.store.seal import Seal


@dataclass(frozen=True, slots=True)
class OwedDelivery:
    """A webhook that is owed."""

    id: str
    """32 hex digits; the same in every attempt."""
    account_id: str
    """Whose key signs it."""
    event: str
    """``in-progress``, ``completed``, ``absent`` …"""
    url: str
    """As the program gave it."""
    method: CallbackMethod
    """GET or POST."""
    fields: Mapping[str, str]
    """What it says."""
    created_at: datetime
    """UTC."""
    recording_id: str | None = None
    """What it is about."""
    call_id: str | None = None
    """What it is about."""
    attempts: int = 0
    """Made so far."""
    after: str | None = None
    """The delivery that should arrive first."""
    state: DeliveryState = DeliveryState.PENDING
    """Where it stands."""
    next_at: datetime | None = None
    """When the next attempt is due; None when there is none."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, and what came of it."""

    at: datetime
    """When it began, UTC."""
    outcome: str
    """In a word: ``delivered``, ``refused``, ``timeout`` …"""
    elapsed_ms: int
    """How long it took."""
    status: int | None = None
    """HTTP status, where there was an answer."""
    answer: bytes = b""
    """The first bytes of the answer."""
    error: str = ""
    """What went wrong, for people."""


async def add(connection: AsyncConnection, seal: Seal, delivery: OwedDelivery) -> None:
    """Owe a webhook, from the end of this transaction on."""
    await connection.execute(
        insert(deliveries).values(
            id=delivery.id,
            account_id=delivery.account_id,
            recording_id=delivery.recording_id,
            call_id=delivery.call_id,
            event=delivery.event,
            url=seal.seal(delivery.url),
            method=delivery.method.value,
            fields=json.dumps(dict(delivery.fields)),
            state=delivery.state.value,
            attempts=delivery.attempts,
            created_at=delivery.created_at,
            next_at=delivery.next_at or delivery.created_at,
            after=delivery.after,
        )
    )


def _ready(hold_tries: int) -> Any:
    """Whether the delivery that this one waits for is settled, or has been tried enough."""
    before = deliveries.alias()
    waiting = (
        select(before.c.id)
        .where(
            before.c.id == deliveries.c.after,
            before.c.state == DeliveryState.PENDING.value,
            before.c.attempts < hold_tries,
        )
        .exists()
    )
    return or_(deliveries.c.after.is_(None), ~waiting)


async def due(
    connection: AsyncConnection, seal: Seal, now: datetime, *, limit: int, hold_tries: int
) -> Sequence[OwedDelivery]:
    """Deliveries whose next attempt is due and that wait for no other, the longest due first.

    One waits for the delivery ``after`` until that is settled, or was tried ``hold_tries`` times.
    """
    found = await connection.execute(
        select(deliveries)
        .where(
            deliveries.c.state == DeliveryState.PENDING.value,
            deliveries.c.next_at <= now,
            _ready(hold_tries),
        )
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(limit)
    )
    return [_delivery(row, seal) for row in found]


async def next_due_at(connection: AsyncConnection, *, hold_tries: int) -> datetime | None:
    """When the next attempt of any delivery that waits for no other is due."""
    value: datetime | None = await connection.scalar(
        select(func.min(deliveries.c.next_at)).where(
            deliveries.c.state == DeliveryState.PENDING.value, _ready(hold_tries)
        )
    )
    return value


async def record_attempt(
    connection: AsyncConnection,
    delivery_id: str,
    attempt: Attempt,
    *,
    state: DeliveryState,
    next_at: datetime | None,
) -> None:
    """Keep what came of an attempt, and when the next is due."""
    number = await connection.scalar(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(attempts=deliveries.c.attempts + 1, state=state.value, next_at=next_at)
        .returning(deliveries.c.attempts)
    )
    if number is None:  # deleted meanwhile with its recording
        return
    await connection.execute(
        insert(delivery_attempts).values(
            delivery_id=delivery_id,
            number=number,
            at=attempt.at,
            outcome=attempt.outcome,
            status=attempt.status,
            elapsed_ms=attempt.elapsed_ms,
            answer=attempt.answer,
            error=attempt.error,
        )
    )


async def of_recording(
    connection: AsyncConnection, seal: Seal, recording_id: str
) -> Sequence[OwedDelivery]:
    """What is or was owed about a recording, in order."""
    found = await connection.execute(
        select(deliveries)
        .where(deliveries.c.recording_id == recording_id)
        .order_by(deliveries.c.created_at, deliveries.c.id)
    )
    return [_delivery(row, seal) for row in found]


async def of_call(connection: AsyncConnection, seal: Seal, call_id: str) -> Sequence[OwedDelivery]:
    """What is or was owed about a call and its recordings, in order."""
    found = await connection.execute(
        select(deliveries)
        .where(deliveries.c.call_id == call_id)
        .order_by(deliveries.c.created_at, deliveries.c.id)
    )
    return [_delivery(row, seal) for row in found]


async def attempts_of(connection: AsyncConnection, delivery_id: str) -> Sequence[Attempt]:
    """Every attempt at a delivery, oldest first."""
    found = await connection.execute(
        select(delivery_attempts)
        .where(delivery_attempts.c.delivery_id == delivery_id)
        .order_by(delivery_attempts.c.number)
    )
    return [
        Attempt(
            at=row.at,
            outcome=row.outcome,
            elapsed_ms=row.elapsed_ms,
            status=row.status,
            answer=row.answer or b"",
            error=row.error or "",
        )
        for row in found
    ]


def _delivery(row: Row[Any], seal: Seal) -> OwedDelivery:
    return OwedDelivery(
        id=row.id,
        account_id=row.account_id,
        event=row.event,
        url=seal.open(row.url),
        method=CallbackMethod(row.method),
        fields=json.loads(row.fields),
        created_at=row.created_at,
        recording_id=row.recording_id,
        call_id=row.call_id,
        attempts=row.attempts,
        after=row.after,
        state=DeliveryState(row.state),
        next_at=row.next_at,
    )
