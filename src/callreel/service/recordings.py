"""Recordings: start, pause, resume, stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any

from callreel.base.errors import CallreelError, MachineError, UsageError
from callreel.calls.media import CaptureStarted, NoAnswer
from callreel.calls.model import (
    Account,
    CallbackEvent,
    CallStatus,
    PauseBehavior,
    Recording,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
)
from callreel.service.callbacks import owed
from callreel.service.context import Context
from callreel.service.errors import NoRoom, NotFound, NotInProgress, Unavailable
from callreel.service.room import Step
from callreel.store import accounts, calls, deliveries, recordings
from callreel.store.database import DatabaseUnavailable
from callreel.store.pages import Page, Position
from callreel.store.recordings import RecordingFilter

log = logging.getLogger(__name__)

_STOP_AGAIN_S = 1.0


class _CallLocks:
    """One lock a call while somebody wants it, so that a stop and the hang-up take turns."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, call_id: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(call_id, (asyncio.Lock(), 0))
        self._locks[call_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[call_id]
            if users == 1:
                del self._locks[call_id]
            else:
                self._locks[call_id] = (lock, users - 1)


class RecordingService:
    """Use cases about recordings that are live. ``stopped`` is told of each that has stopped."""

    def __init__(self, context: Context, stopped: Callable[[Recording], None]) -> None:
        self._context = context
        self._stopped = stopped
        self._locks = _CallLocks()
        self._tasks: set[asyncio.Task[None]] = set()
        # Whoever asked for them was told that they failed, and the rows are still there.
        self._undoing: set[str] = set()
        # Calls with a policy that there was no room for.
        self._unrecorded: dict[str, tuple[Account, RecordingRequest, RecordingSource]] = {}

    async def start(
        self,
        account: Account,
        call_id: str,
        request: RecordingRequest,
        *,
        source: RecordingSource = RecordingSource.START_CALL_RECORDING_API,
    ) -> tuple[Recording, bool]:
        """Keep a call's audio from now on; also whether a recording was made for it.

        Returns once the worker is keeping audio. A second start of the same source gives the live
        recording, unchanged (contract §4.1). Raises :class:`NotFound`, :class:`NotInProgress`,
        :class:`Unavailable`, of these :class:`NoRoom` where the disk is nearly full; then nothing
        has changed, or is being undone.
        """
        context = self._context
        seal = context.database.seal
        async with self._locks.hold(call_id):
            async with context.database.begin() as connection:
                call = await calls.get(connection, call_id, account_id=account.id)
                if call is None:
                    raise NotFound(f"no call {call_id}")
                if call.status is not CallStatus.IN_PROGRESS:
                    raise NotInProgress(f"the call is {call.status.value}, not in-progress")
                for other in await recordings.of_call(connection, seal, call_id):
                    if other.is_live and other.source is source:
                        if other.id in self._undoing:
                            raise Unavailable("an earlier start is still being undone")
                        return other, False
                if context.room.step is Step.OUT:
                    raise NoRoom(f"no new recording is begun: {context.room.text}")
                if request.callback is not None and context.backlog.is_full:
                    raise Unavailable(f"{context.backlog.owed} webhooks are owed already")
                now = context.clock.now()
                recording = Recording(
                    id=context.ids.new_id(),
                    account_id=account.id,
                    call_id=call_id,
                    status=RecordingStatus.IN_PROGRESS,
                    source=source,
                    request=request,
                    created_at=now,
                    updated_at=now,
                )
                await recordings.add(connection, seal, recording)
            try:
                captured = await context.media.start(recording.id, call_id, request.track.tracks)
            except MachineError as error:
                try:
                    async with context.database.begin() as connection:
                        await recordings.remove(connection, recording.id)
                except DatabaseUnavailable:
                    self._undo_later(recording)
                else:
                    if isinstance(error, NoAnswer):
                        self.stop_again(recording)  # no row any more: its journal is deleted then
                log.error("recording %s could not start: %s", recording.id, error)
                raise Unavailable(
                    f"the media worker cannot record this call now: {error}"
                ) from None
            try:
                recording = await self._begun(account, recording, captured)
            except DatabaseUnavailable as error:
                self._undo_later(recording)
                raise Unavailable(f"that it began cannot be noted: {error}") from None
        log.info("recording %s of call %s started (%s)", recording.id, call_id, source.value)
        return recording, True

    async def begin_with_call(
        self,
        account: Account,
        call_id: str,
        request: RecordingRequest,
        *,
        source: RecordingSource = RecordingSource.TRUNKING,
    ) -> None:
        """A recording that a call begins with, by a policy. Where the disk is nearly full the call
        goes on all the same, and is recorded as soon as there is room. Raises as :meth:`start`.
        """
        try:
            await self.start(account, call_id, request, source=source)
        except NoRoom as error:
            log.error("call %s goes on unrecorded for now: %s", call_id, error)
            self._unrecorded[call_id] = (account, request, source)

    async def room_again(self) -> None:
        """There is room again: record the calls that had to go on without, if they still do."""
        waiting, self._unrecorded = self._unrecorded, {}
        for call_id, (account, request, source) in waiting.items():
            try:
                await self.begin_with_call(account, call_id, request, source=source)
            except (NotFound, NotInProgress):
                continue
            except CallreelError as error:
                log.error("call %s goes on unrecorded: %s", call_id, error)

    def _undo_later(self, recording: Recording) -> None:
        """Keep nothing of it, and forget its row: whoever asked for it was told that it failed.
        Until that is done nobody is to be told that it runs."""
        self._undoing.add(recording.id)

        async def undo() -> None:
            database = self._context.database
            while True:
                try:
                    await self._context.media.stop(recording.id)
                except NoAnswer:
                    continue
                except MachineError as error:
                    log.error("recording %s was not stopped in order: %s", recording.id, error)
                try:
                    async with database.begin() as connection:
                        await recordings.remove(connection, recording.id)
                    self._undoing.discard(recording.id)
                    break
                except DatabaseUnavailable:
                    await asyncio.sleep(_STOP_AGAIN_S)
            self._stopped(recording)  # no row any more: its journal is deleted then

        self._in_background(undo(), f"undo {recording.id}")

    async def _begun(
        self, account: Account, recording: Recording, captured: CaptureStarted
    ) -> Recording:
        """Note that it is being kept, and owe the webhook that says so."""
        context = self._context
        seal = context.database.seal
        now = context.clock.now()
        begun = replace(recording, start_time=captured.started_at, updated_at=now)
        async with context.database.begin() as connection:
            await recordings.save(connection, seal, begun, expected=recording.status)
            delivery = owed(
                account,
                begun,
                CallbackEvent.IN_PROGRESS,
                delivery_id=context.ids.new_id(),
                public_url=context.public_url,
                now=now,
            )
            if delivery is not None:
                await deliveries.add(connection, seal, delivery)
        if delivery is not None:
            context.delivery_owed()
        return begun

    async def pause(self, recording: Recording, behavior: PauseBehavior) -> Recording:
        """Keep nothing from now on; returns once that is so. A paused one stays as it is."""
        async with self._live(recording) as live:
            if live.status is RecordingStatus.PAUSED:
                return live
            with self._worker_needed(live):
                await self._context.media.pause(live.id, behavior)
            paused = replace(live, status=RecordingStatus.PAUSED, pause_behavior=behavior)
            return await self._save(paused, expected=live.status)

    async def resume(self, recording: Recording) -> Recording:
        """Keep again from now on. A running one stays as it is."""
        async with self._live(recording) as live:
            if live.status is RecordingStatus.IN_PROGRESS:
                return live
            with self._worker_needed(live):
                await self._context.media.resume(live.id)
            resumed = replace(live, status=RecordingStatus.IN_PROGRESS, pause_behavior=None)
            return await self._save(resumed, expected=live.status)

    async def stop(self, recording: Recording) -> Recording:
        """Keep all that has arrived, then no more. Stop is final. Raises :class:`NotInProgress`."""
        async with self._live(recording) as live:
            return await self._stop(live)

    async def taken_up(self, recording: Recording) -> None:
        """A worker kept it while no control process was there: it goes on."""
        self._set_right_later(recording)  # the worker may not have been told of a pause in time
        if recording.start_time is None:  # nobody had noted yet that it began
            async with self._live(recording) as live:
                tracks = live.request.track.tracks
                captured = await self._context.media.start(live.id, live.call_id, tracks)
                database = self._context.database
                async with database.read() as connection:
                    account = await accounts.get(connection, database.seal, live.account_id)
                assert account is not None, "a recording's account outlives it"
                await self._begun(account, live, captured)
        log.info("recording %s goes on", recording.id)

    async def lost(self, recording: Recording) -> None:
        """No worker keeps it any more: it ends with what its journal holds."""
        async with self._live(recording) as live:
            await self._stop(live)

    async def not_kept(self, recording_id: str) -> None:
        """A worker says that it keeps it no more, although nobody had asked it to end.

        While its call is there it goes on, with a gap; else it ends with what there is. Nothing
        for one that is over.
        """
        database = self._context.database
        async with database.read() as connection:
            found = await recordings.get(connection, database.seal, recording_id)
        if found is None or not found.is_live:
            return
        with suppress(NotFound, NotInProgress):
            async with self._live(found) as live:
                # What is paused cannot begin without a moment that should not be kept.
                if live.status is RecordingStatus.IN_PROGRESS:
                    try:
                        tracks = live.request.track.tracks
                        await self._context.media.start(live.id, live.call_id, tracks)
                    except (MachineError, UsageError) as error:
                        log.error("recording %s cannot go on: %s", live.id, error)
                    else:
                        log.warning("recording %s goes on after a gap", live.id)
                        return
                await self._stop(live)

    @asynccontextmanager
    async def call_ending(self, call_id: str) -> AsyncIterator[None]:
        """Stop whatever of a call is still live; within, nothing can be started.

        Within, the call is to be marked as over: a start that came between the two would be kept
        by nobody and finished by nobody.
        """
        self._unrecorded.pop(call_id, None)
        database = self._context.database
        async with self._locks.hold(call_id):
            async with database.look() as connection:
                found = await recordings.of_call(connection, database.seal, call_id)
            for recording in found:
                if recording.is_live:
                    await self._stop(recording)
            yield

    async def _stop(self, live: Recording) -> Recording:
        silent = False
        try:
            stopped_at = (await self._context.media.stop(live.id)).stopped_at
        except NoAnswer as error:
            log.error("recording %s is not known to have stopped yet: %s", live.id, error)
            silent = True
            stopped_at = self._context.clock.now()
        except MachineError as error:
            # The worker lost it: what its journal holds is rendered, and the report tells.
            log.error("recording %s was not stopped in order: %s", live.id, error)
            stopped_at = self._context.clock.now()
        stopped = replace(
            live, status=RecordingStatus.STOPPED, end_time=stopped_at, pause_behavior=None
        )
        stopped = await self._save(stopped, expected=live.status)
        log.info("recording %s stopped", stopped.id)
        if silent:
            self.stop_again(stopped)
        else:
            self._stopped(stopped)
        return stopped

    def stop_again(self, recording: Recording) -> None:
        """Ask the worker until it has stopped one that the row says has, and finish it then: before
        that its journal is not whole, or not begun."""

        async def stop() -> None:
            while True:
                await asyncio.sleep(_STOP_AGAIN_S)
                try:
                    # Nothing of what came since we said that it had stopped.
                    await self._context.media.stop(recording.id, until=recording.end_time)
                except NoAnswer:
                    continue
                except MachineError as error:
                    log.error("recording %s was not stopped in order: %s", recording.id, error)
                break
            self._stopped(recording)

        self._in_background(stop(), f"stop {recording.id}")

    @contextmanager
    def _worker_needed(self, live: Recording) -> Iterator[None]:
        """What the worker cannot do, the caller may try again later; the row stays as it is."""
        try:
            yield
        except MachineError as error:
            if isinstance(error, NoAnswer):
                self._set_right_later(live)  # it may have done it all the same
            raise Unavailable(f"the media worker cannot do this now: {error}") from None

    def _set_right_later(self, recording: Recording) -> None:
        """Have the worker pause or keep as the row says, however long it takes to answer."""

        async def set_right() -> None:
            while True:
                try:
                    async with self._live(recording) as live:
                        if live.status is RecordingStatus.PAUSED:
                            behavior = live.pause_behavior or PauseBehavior.SILENCE
                            await self._context.media.pause(live.id, behavior)
                        else:
                            await self._context.media.resume(live.id)
                except NoAnswer:
                    continue
                except DatabaseUnavailable:
                    await asyncio.sleep(_STOP_AGAIN_S)
                    continue
                except (MachineError, NotFound, NotInProgress) as error:
                    log.info("recording %s is left as it is: %s", recording.id, error)
                return

        self._in_background(set_right(), f"set right {recording.id}")

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def get(
        self, account: Account, recording_id: str, *, call_id: str | None = None
    ) -> Recording:
        """One recording of this account, and of this call if one is given. Raises NotFound."""
        database = self._context.database
        async with database.read() as connection:
            found = await recordings.get(
                connection, database.seal, recording_id, account_id=account.id
            )
        if found is None or (call_id is not None and found.call_id != call_id):
            raise NotFound(f"no recording {recording_id}")
        return found

    async def current(self, account: Account, call_id: str) -> Recording:
        """The newest live recording of a call: ``Twilio.CURRENT``. Raises :class:`NotFound`."""
        database = self._context.database
        async with database.read() as connection:
            for recording in await recordings.of_call(connection, database.seal, call_id):
                if recording.is_live and recording.account_id == account.id:
                    return recording
        raise NotFound(f"no live recording of call {call_id}")

    async def page(
        self, account: Account, chosen: RecordingFilter, *, size: int, position: Position | None
    ) -> Page[Recording]:
        """This account's recordings, newest first."""
        database = self._context.database
        async with database.read() as connection:
            return await recordings.page(
                connection, database.seal, account.id, chosen, size=size, position=position
            )

    @asynccontextmanager
    async def _live(self, recording: Recording) -> AsyncIterator[Recording]:
        """The recording as it stands once it is our turn. Raises :class:`NotInProgress`."""
        database = self._context.database
        async with self._locks.hold(recording.call_id):
            async with database.read() as connection:
                found = await recordings.get(connection, database.seal, recording.id)
            if found is None:
                raise NotFound(f"no recording {recording.id}")
            if not found.is_live:
                raise NotInProgress(f"the recording is {found.status.value}, not in-progress")
            yield found

    async def _save(self, recording: Recording, *, expected: RecordingStatus) -> Recording:
        database = self._context.database
        saved = replace(recording, updated_at=self._context.clock.now())
        async with database.begin() as connection:
            await recordings.save(connection, database.seal, saved, expected=expected)
        return saved
