"""What media workers report unasked, and who is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from callreel.base.errors import CallreelError
from callreel.capture.protocol import WorkerEvent, WorkerEventKind, media_heard
from callreel.server.voice import Voice
from callreel.service.recordings import RecordingService
from callreel.signalling.front_door import FrontDoor

log = logging.getLogger(__name__)

_QUIET = (WorkerEventKind.LATCHED, WorkerEventKind.WORKER_BACK)


class WorkerEvents:
    """Hands them on, as far as there is somebody by then."""

    def __init__(self) -> None:
        self.signalling: FrontDoor | None = None
        """Whose calls they are about."""
        self.recordings: RecordingService | None = None
        """The same for recordings."""
        self.voice: Voice | None = None
        """Who steers calls that end here."""
        self._unwritable: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def heed(self, event: WorkerEvent) -> None:
        """One of them. Does not block."""
        # What a call hears is for whoever steers it. Not logged: keys may be a secret.
        if media_heard(event) is not None:
            if self.voice is not None:
                self.voice.heard(event)
            return
        about = event.recording_id or event.call_id or f"worker {event.worker}"
        level = logging.INFO if event.kind in _QUIET else logging.WARNING
        log.log(level, "%s: %s %s", about, event.kind.value, dict(event.data) or "")
        self._note_journals(event)
        if self.signalling is not None:
            self._hand_on(event, self.signalling)

    def _note_journals(self, event: WorkerEvent) -> None:
        match event.kind:
            case WorkerEventKind.WRITE_FAILED:
                self._unwritable.add(event.recording_id)
            case WorkerEventKind.WRITE_RECOVERED | WorkerEventKind.ENDED:
                self._unwritable.discard(event.recording_id)
            case WorkerEventKind.WORKER_LOST:
                self._unwritable.clear()  # its successor says so anew

    def _hand_on(self, event: WorkerEvent, signalling: FrontDoor) -> None:
        match event.kind:
            case WorkerEventKind.CALL_LOST:
                reason = "a media worker lost the call"
                self._spawn(signalling.hang_up(event.call_id, reason=reason))
            case WorkerEventKind.ENDED | WorkerEventKind.RECORDING_LOST:
                if self.recordings is not None:
                    self._spawn(self.recordings.not_kept(event.recording_id))
            case WorkerEventKind.SILENT:
                self._spawn(signalling.check_on(event.call_id))

    async def journals_state(self) -> str | None:
        """Whether all journals can be written: a probe of ``Health``."""
        count = len(self._unwritable)
        return f"{count} recordings cannot be written to the disk now" if count else None

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except CallreelError as error:
        log.error("%s", error)
