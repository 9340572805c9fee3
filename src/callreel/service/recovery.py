"""What an earlier run left: taken up at every start, after a crash or not."""

from __future__ import annotations

import contextlib
import logging

from callreel.base.errors import MachineError
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
) -> None:
    """Bring rows, workers and journals together.

    Calls whose SIP dialog this process does not know are over; their recordings are stopped with
    what there is, and finished. What was stopped is finished.
    """
    database = context.database
    for call in await calls.live():
        answered = call.status is CallStatus.IN_PROGRESS
        status = CallStatus.COMPLETED if answered else CallStatus.FAILED
        await calls.ended(call.id, status, reason=REASON)
        with contextlib.suppress(MachineError):
            await context.media.close(call.id)
    async with database.read() as connection:
        live = await recordings.with_status(
            connection, database.seal, RecordingStatus.IN_PROGRESS, RecordingStatus.PAUSED
        )
    for recording in live:  # a call that ended just before the crash
        await live_recordings.call_ended(recording.call_id)
    for capture in await context.media.captures():
        log.error("recording %s is being kept, but no row knows it: stopped", capture.recording_id)
        with contextlib.suppress(MachineError):
            await context.media.stop(capture.recording_id)
            await context.media.close(capture.call_id)
    found = await finishing.recover()
    if found:
        log.info("taking up %d recordings that an earlier run left", found)
