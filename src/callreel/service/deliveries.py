"""Owed webhooks, for people: what became of each, and sending one again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from callreel.calls.model import Account, DeliveryState
from callreel.service.context import Context
from callreel.service.errors import NotFound
from callreel.store import deliveries
from callreel.store.deliveries import Attempt, DeliveryFilter, OwedDelivery
from callreel.store.pages import Page, Position

log = logging.getLogger(__name__)


class DeliveryService:
    """Use cases about the outbox. ``account`` narrows each to one account; None: all of them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def page(
        self,
        chosen: DeliveryFilter,
        *,
        size: int,
        position: Position | None = None,
        account: Account | None = None,
    ) -> Page[OwedDelivery]:
        """Deliveries, newest first."""
        database = self._context.database
        async with database.read() as connection:
            return await deliveries.page(
                connection, database.seal, _of(account, chosen), size=size, position=position
            )

    async def get(self, delivery_id: str, *, account: Account | None = None) -> OwedDelivery:
        """One delivery. Raises :class:`NotFound`."""
        database = self._context.database
        async with database.read() as connection:
            found = await deliveries.get(connection, database.seal, delivery_id)
        if found is None or (account is not None and found.account_id != account.id):
            raise NotFound(f"no delivery {delivery_id}")
        return found

    async def attempts(self, delivery: OwedDelivery) -> Sequence[Attempt]:
        """Every try of it, oldest first."""
        async with self._context.database.read() as connection:
            return await deliveries.attempts_of(connection, delivery.id)

    async def replay(self, delivery: OwedDelivery) -> OwedDelivery:
        """Send it again now, whatever became of it, under the id that it has.

        Taken up where its schedule stands: one that is three days old is tried once more. Raises
        :class:`NotFound` if it is gone.
        """
        async with self._context.database.begin() as connection:
            if not await deliveries.owe_one_again(
                connection, delivery.id, self._context.clock.now()
            ):
                raise NotFound(f"no delivery {delivery.id}")
        self._context.delivery_owed()
        log.info("delivery %s is sent again, as asked", delivery.id)
        return await self.get(delivery.id)

    async def replay_failed(
        self, chosen: DeliveryFilter | None = None, *, account: Account | None = None
    ) -> int:
        """Send all again that were given up, of those chosen; how many these are."""
        wanted = replace(_of(account, chosen or DeliveryFilter()), state=DeliveryState.FAILED)
        async with self._context.database.begin() as connection:
            count = await deliveries.owe_again(connection, wanted, self._context.clock.now())
        if count:
            self._context.delivery_owed()
            log.info("%d deliveries that were given up are sent again, as asked", count)
        return count


def shown_url(url: str) -> str:
    """A callback URL without what may be secret in it: no password, no query.

    >>> shown_url("https://me:secret@example.com/cb?token=1#rt=100")
    'https://me@example.com/cb?…'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    userinfo, at, host = parts.netloc.rpartition("@")
    user = userinfo.partition(":")[0]
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{user}{at}{host}{parts.path}{query}"


def _of(account: Account | None, chosen: DeliveryFilter) -> DeliveryFilter:
    return chosen if account is None else replace(chosen, account_id=account.id)
