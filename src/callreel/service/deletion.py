"""Recordings deleted for good: the row at once, the files until they are gone."""

from __future__ import annotations

import asyncio
import logging

from callreel.base.errors import MachineError
from callreel.calls.model import Account, RecordingStatus
from callreel.calls.rendering import Renderer
from callreel.service.context import Context
from callreel.service.errors import NotFound, Unavailable, Unfinished
from callreel.service.media import MediaService
from callreel.store import recordings, removals
from callreel.store.removals import Removal

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0


class DeletionService:
    """Deletes recordings: audio in every format, integrity report, journal and row.

    One transaction deletes the row and notes the files that have to go, so that a crash leaves
    neither a recording without audio nor audio that nobody knows of.
    """

    def __init__(self, context: Context, renderer: Renderer, media: MediaService) -> None:
        self._context = context
        self._renderer = renderer
        self._media = media
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def delete(
        self, account: Account, recording_id: str, *, call_id: str | None = None
    ) -> None:
        """Delete a finished recording of this account, and of this call if one is given.

        Returns once its files are gone. Raises :class:`NotFound`; :class:`Unfinished` while it is
        live or being rendered; :class:`Unavailable` where files cannot be deleted now: then it is
        not shown any more, and they go as soon as they can.
        """
        removal = await self._forget(account, recording_id, call_id)
        try:
            await self._remove(removal)
        except MachineError as error:
            self._remove_later(removal)
            log.error("recording %s: files are left to delete: %s", recording_id, error)
            raise Unavailable(f"the files cannot be deleted now: {error}") from None
        log.info("recording %s deleted", recording_id)

    async def recover(self) -> None:
        """Take up what an earlier run left."""
        async with self._context.database.read() as connection:
            left = await removals.every(connection)
        for removal in left:
            self._remove_later(removal)

    async def close(self) -> None:
        """Stop working; what is left is taken up at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forget(self, account: Account, recording_id: str, call_id: str | None) -> Removal:
        """The row goes, the removal comes. Asked again before the files are gone: the same one."""
        database = self._context.database
        async with database.begin() as connection:
            found = await recordings.get(
                connection, database.seal, recording_id, account_id=account.id
            )
            if found is None:
                owed = await removals.get(connection, account.id, recording_id)
                if owed is None:
                    raise NotFound(f"no recording {recording_id}")
                return owed
            if call_id is not None and found.call_id != call_id:
                raise NotFound(f"no recording {recording_id} of this call")
            if found.status not in (RecordingStatus.COMPLETED, RecordingStatus.ABSENT):
                raise Unfinished(f"the recording is {found.status.value}")
            removal = Removal(
                recording_id=found.id,
                account_id=account.id,
                media_key=found.media_key,
                created_at=self._context.clock.now(),
            )
            await recordings.remove(connection, found.id)
            await removals.add(connection, removal)
        return removal

    async def _remove(self, removal: Removal) -> None:
        if removal.media_key is not None:
            await self._media.remove(removal.media_key)
        await self._renderer.discard(removal.recording_id)
        async with self._context.database.begin() as connection:
            await removals.done(connection, removal.recording_id)

    def _remove_later(self, removal: Removal) -> None:
        if removal.recording_id in self._tasks:
            return
        task = asyncio.create_task(self._until_gone(removal), name=f"delete {removal.recording_id}")
        self._tasks[removal.recording_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(removal.recording_id, None))

    async def _until_gone(self, removal: Removal) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._remove(removal)
                log.info("recording %s deleted", removal.recording_id)
                return
            except MachineError as error:
                log.error("recording %s is not deleted yet: %s", removal.recording_id, error)
            except Exception:
                log.exception("recording %s is not deleted yet", removal.recording_id)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
