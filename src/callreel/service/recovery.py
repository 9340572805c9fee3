"""What an earlier run left: taken up at every start, after a crash or not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection

from callreel.base.errors import MachineError
from callreel.calls.media import NoAnswer
from callreel.calls.model import CallStatus, RecordingStatus
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.finishing import FinishingService
from callreel.service.recordings import RecordingService
from callreel.store import recordings

log = logging.getLogger(__name__)

REASON = "the server was restarted"


async def recover(
    context: Context,
    calls: CallService,
    live_recordings: RecordingService,
    finishing: FinishingService,
    *,
    taken_up: Collection[str] = (),
) -> None:
    """Bring rows, workers and journals together.

    ``taken_up`` are the calls that signalling goes on with: their recordings that a worker keeps
    go on too. Every other call is over; its recordings are stopped with what there is. What was
    stopped is finished.
    """
    database = context.database
    for call in await calls.live():
        if call.id in taken_up:
            continue
        answered = call.status is CallStatus.IN_PROGRESS
        status = CallStatus.COMPLETED if answered else CallStatus.FAILED
        await calls.ended(call.id, status, reason=REASON)
    # Also those that were over in the database, and not yet closed.
    for call_id in set(context.media.calls).difference(taken_up):
        with contextlib.suppress(MachineError):
            await context.media.close(call_id)
    kept = {capture.recording_id: capture for capture in await context.media.captures()}
    async with database.read() as connection:
        live = await recordings.with_status(
            connection, database.seal, RecordingStatus.IN_PROGRESS, RecordingStatus.PAUSED
        )
    for recording in live:
        if kept.pop(recording.id, None) is not None:
            await live_recordings.taken_up(recording)
        else:
            await live_recordings.lost(recording)
    stopping: set[str] = set()
    for capture in kept.values():
        log.error("recording %s is being kept, but no row knows it: stopped", capture.recording_id)
        try:
            await context.media.stop(capture.recording_id)
        except NoAnswer:
            stopping.add(capture.recording_id)
        except MachineError as error:
            log.error("recording %s was not stopped in order: %s", capture.recording_id, error)
    async with database.read() as connection:
        stopped = await recordings.with_status(connection, database.seal, RecordingStatus.STOPPED)
    for recording in stopped:
        if recording.id in stopping:
            live_recordings.stop_again(recording)
        else:
            finishing.enqueue(recording)
    await finishing.discard_left()
    if stopped:
        log.info("taking up %d recordings that an earlier run left", len(stopped))
