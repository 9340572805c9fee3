"""The delivery loop's outbox, on the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from callreel.calls.model import Account, DeliveryState
from callreel.delivery.model import Delivery, Outcome
from callreel.delivery.schedule import HOLD_TRIES
from callreel.store import accounts, deliveries
from callreel.store.database import Database
from callreel.store.deliveries import Attempt


class StoreOutbox:
    """Implements ``delivery.worker.Outbox``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
        """What is due and waits for no other, each with its account's signing key."""
        database = self._database
        known: dict[str, Account | None] = {}
        async with database.read() as connection:
            owed = await deliveries.due(
                connection, database.seal, now, limit=limit, hold_tries=HOLD_TRIES
            )
            for one in owed:
                if one.account_id not in known:
                    known[one.account_id] = await accounts.get(
                        connection, database.seal, one.account_id
                    )
        return [
            Delivery(
                id=one.id,
                account_id=one.account_id,
                event=one.event,
                url=one.url,
                fields=one.fields,
                signing_key=account.signing_key,
                created_at=one.created_at,
                method=one.method,
                recording_id=one.recording_id,
                call_id=one.call_id,
                attempts=one.attempts,
                after=one.after,
            )
            for one in owed
            if (account := known[one.account_id]) is not None
        ]

    async def record_attempt(
        self,
        delivery_id: str,
        outcome: Outcome,
        *,
        next_due: datetime | None,
        state: DeliveryState,
    ) -> None:
        """Keep a try and what follows from it."""
        attempt = Attempt(
            at=outcome.at,
            outcome=outcome.result.value,
            elapsed_ms=outcome.elapsed_ms,
            status=outcome.status,
            answer=outcome.answer,
            error=outcome.error,
        )
        async with self._database.begin() as connection:
            await deliveries.record_attempt(
                connection, delivery_id, attempt, state=state, next_at=next_due
            )

    async def next_due_at(self) -> datetime | None:
        """When the next try of any is due."""
        async with self._database.read() as connection:
            return await deliveries.next_due_at(connection, hold_tries=HOLD_TRIES)
