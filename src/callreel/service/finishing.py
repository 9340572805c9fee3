"""From stopped to completed or absent: render, keep the file, then say so (design steps 5-7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from callreel.base.errors import CallreelError
from callreel.calls.model import CallbackEvent, Recording, RecordingStatus
from callreel.calls.rendering import Renderer
from callreel.mediastore import MediaStore
from callreel.service.callbacks import owed
from callreel.service.context import Context
from callreel.store import accounts, deliveries, recordings

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0


def media_key(recording: Recording) -> str:
    """Where a recording's files lie in the media store, without extension. Made of ids alone."""
    return f"{recording.account_id}/{recording.id[:2]}/{recording.id}"


class FinishingService:
    """Finishes stopped recordings, each until it is done.

    Whatever fails (disk, store, database, render pool) is tried again with growing pauses; the
    journal stays until the transaction that makes the recording completed has been committed.
    """

    def __init__(self, context: Context, renderer: Renderer, media_store: MediaStore) -> None:
        self._context = context
        self._renderer = renderer
        self._media_store = media_store
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again = asyncio.Event()
        self.renders = 0
        """Recordings finished since the start."""
        self.render_seconds = 0.0
        """Rendering took in all."""
        self.failing: dict[str, str] = {}
        """Recordings that could not be finished when it was last tried, and why."""

    def try_again(self) -> None:
        """Try everything that failed again now: what was in the way is said to be gone."""
        self._again.set()
        self._again = asyncio.Event()

    def enqueue(self, recording: Recording) -> None:
        """Finish this recording in the background."""
        if recording.id not in self._tasks:
            task = asyncio.create_task(self._until_done(recording), name=f"finish {recording.id}")
            self._tasks[recording.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(recording.id, None))

    async def discard_left(self) -> None:
        """Delete the journals of recordings that were finished just before a crash.

        One that no row knows is left alone: it may be all there is of a recording, and the
        database one that was restored from before it.
        """
        database = self._context.database
        for recording_id in await self._renderer.journals():
            async with database.read() as connection:
                found = await recordings.get(connection, database.seal, recording_id)
            if found is None:
                log.warning("there is a journal, but no recording %s", recording_id)
            elif found.status in (RecordingStatus.COMPLETED, RecordingStatus.ABSENT):
                try:
                    await self._release(found)
                except CallreelError as error:  # no reason not to start
                    log.error("recording %s: %s", recording_id, error)

    @property
    def waiting(self) -> int:
        """Recordings being finished or waiting for it."""
        return len(self._tasks)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is left to finish; False if the time ran out first."""
        tasks = list(self._tasks.values())
        if not tasks:
            return True
        _, pending = await asyncio.wait(tasks, timeout=timeout_s)
        return not pending

    async def close(self) -> None:
        """Stop working; what is unfinished is taken up at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_done(self, recording: Recording) -> None:
        await self._until(self._finish, recording, "is not finished yet")
        # Apart from the step before: what is committed must never be rendered again, least of all
        # from a journal that is half deleted.
        await self._until(self._release, recording, "is finished, its journal is not deleted yet")

    async def _until(
        self, step: Callable[[Recording], Awaitable[None]], recording: Recording, trouble: str
    ) -> None:
        """Take a step, again with growing pauses until it succeeds."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await step(recording)
                self.failing.pop(recording.id, None)
                return
            except CallreelError as error:
                self.failing[recording.id] = str(error)
                log.error("recording %s %s: %s", recording.id, trouble, error)
            except Exception as error:
                self.failing[recording.id] = type(error).__name__
                log.exception("recording %s %s", recording.id, trouble)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._again.wait()
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _finish(self, recording: Recording) -> None:
        if not await self._is_stopped(recording):
            return  # committed although we were told that it failed, or by an earlier task
        begun = self._context.clock.monotonic()
        rendered = await self._renderer.render(recording)
        self.render_seconds += self._context.clock.monotonic() - begun
        self.renders += 1
        key = media_key(recording)
        await self._put(f"{key}.json", rendered.report)
        if rendered.wav is not None:
            await self._put(f"{key}.wav", rendered.wav)
        absent = rendered.wav is None
        now = self._context.clock.now()
        finished = replace(
            recording,
            status=RecordingStatus.ABSENT if absent else RecordingStatus.COMPLETED,
            updated_at=now,
            duration_ms=rendered.duration_ms,
            size_bytes=rendered.size_bytes,
            error_code=rendered.absent_code,
            media_key=key,
            sha256=rendered.sha256,
            gap_count=rendered.gap_count,
        )
        await self._commit(finished)
        log.info(
            "recording %s %s: %.1f s",
            recording.id,
            finished.status.value,
            rendered.duration_ms / 1000,
        )

    async def _is_stopped(self, recording: Recording) -> bool:
        database = self._context.database
        async with database.read() as connection:
            found = await recordings.get(connection, database.seal, recording.id)
        assert found is None or not found.is_live, "only what has stopped is finished"
        return found is not None and found.status is RecordingStatus.STOPPED

    async def _release(self, recording: Recording) -> None:
        await self._renderer.release(recording.id)

    async def _put(self, key: str, path: Path) -> None:
        await self._media_store.put_file(key, path)

    async def _commit(self, finished: Recording) -> None:
        """The status and the webhook that is owed for it, in one transaction."""
        context = self._context
        seal = context.database.seal
        event = CallbackEvent(finished.status.value)
        async with context.database.begin() as connection:
            await recordings.save(connection, seal, finished, expected=RecordingStatus.STOPPED)
            account = await accounts.get(connection, seal, finished.account_id)
            assert account is not None, "a recording's account outlives it"
            before = [
                other.id
                for other in await deliveries.of_recording(connection, seal, finished.id)
                if other.event == CallbackEvent.IN_PROGRESS.value
            ]
            delivery = owed(
                account,
                finished,
                event,
                delivery_id=context.ids.new_id(),
                public_url=context.public_url,
                now=finished.updated_at,
                after=before[0] if before else None,
            )
            if delivery is not None:
                await deliveries.add(connection, seal, delivery)
        if delivery is not None:
            context.delivery_owed()
