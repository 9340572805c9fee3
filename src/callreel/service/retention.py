"""Recordings deleted because they are old: by themselves, or because somebody asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from callreel.base.errors import CallreelError
from callreel.calls.model import Account
from callreel.service.context import Context
from callreel.service.deletion import DeletionService
from callreel.service.errors import NotFound
from callreel.store import accounts, recordings
from callreel.store.recordings import Expired

log = logging.getLogger(__name__)

AT_ONCE = 200
SWEEP_EVERY_S = 900.0
"""How often it is looked for what has become old."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What went, or would go."""

    recordings: int
    """How many."""
    size_bytes: int
    """Of their WAVs."""
    left: int = 0
    """How many could not be deleted; the log says why."""


class RetentionService:
    """Deletes recordings whose time is over, as ``DELETE`` would: row, audio, report, journal."""

    def __init__(self, context: Context, deletion: DeletionService, days: int | None) -> None:
        self._context = context
        self._deletion = deletion
        self.days = days
        """Of accounts that have none of their own; None: for ever. May be changed at any time."""

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                gone = await self.sweep()
                if gone.recordings:
                    log.info("%d recordings were deleted: their time was over", gone.recordings)
            except Exception as error:
                log.error("what is old cannot be deleted now: %s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self, *, dry_run: bool = False) -> Purged:
        """Delete what has reached its retention."""
        return await self._delete(None, None, dry_run=dry_run)

    async def purge(
        self, older_than: timedelta, *, account: Account | None = None, dry_run: bool = False
    ) -> Purged:
        """Delete what ended so long ago, whatever its retention; of one account, or of all."""
        return await self._delete(older_than, account, dry_run=dry_run)

    async def any_set(self) -> bool:
        """Whether anything becomes old by itself, by whatever retention."""
        database = self._context.database
        async with database.read() as connection:
            for each in await accounts.every(connection, database.seal):
                if self.days if each.retention_days is None else each.retention_days:
                    return True
            return any(await recordings.retentions(connection))

    async def _delete(
        self, older_than: timedelta | None, account: Account | None, *, dry_run: bool
    ) -> Purged:
        count = size = 0
        tried: set[str] = set()
        limit = AT_ONCE
        left = 0
        while True:
            # What could not be deleted is still there, and comes first again.
            found = await self._old(older_than, account, limit if not dry_run else 1_000_000)
            some = [one for one in found if one.id not in tried]
            if not some:
                break
            for one in some:
                tried.add(one.id)
                if dry_run or await self._gone(one):
                    count += 1
                    size += one.size_bytes
                else:
                    left += 1
            if dry_run:
                break
            limit = AT_ONCE + left
        return Purged(count, size, left)

    async def _old(
        self, older_than: timedelta | None, account: Account | None, limit: int
    ) -> Sequence[Expired]:
        database, now = self._context.database, self._context.clock.now()
        async with database.read() as connection:
            if older_than is not None:
                return await recordings.ended_before(
                    connection,
                    now - older_than,
                    account_id=None if account is None else account.id,
                    limit=limit,
                )
            cutoffs = {}
            for each in await accounts.every(connection, database.seal):
                days = self.days if each.retention_days is None else each.retention_days
                cutoffs[each.id] = now - timedelta(days=days) if days else None
            own = [days for days in await recordings.retentions(connection) if days]
            by_days = {days: now - timedelta(days=days) for days in own}
            return await recordings.expired(connection, cutoffs, by_days, limit=limit)

    async def _gone(self, one: Expired) -> bool:
        database = self._context.database
        try:
            async with database.read() as connection:
                account = await accounts.get(connection, database.seal, one.account_id)
            assert account is not None, "a recording's account outlives it"
            await self._deletion.delete(account, one.id)
        except NotFound:
            return True  # somebody else was faster
        except CallreelError as error:
            log.error("recording %s cannot be deleted: %s", one.id, error)
            return False
        return True
