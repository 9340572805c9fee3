"""Calls that are over: noted, whatever the database is doing, and their sockets given back."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from callreel.base.errors import MachineError
from callreel.calls.media import MediaPlane
from callreel.calls.model import CallStatus
from callreel.service.calls import CallService

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
"""Before the end of a call is noted again where the database failed."""
LONGEST_PAUSE_S = 60.0
"""The pauses grow up to this."""


class EndedCalls:
    """Brings calls to their end: recordings stopped first, then the row, then the sockets."""

    def __init__(self, calls: CallService, media: MediaPlane) -> None:
        self._calls = calls
        self._media = media
        self._tasks: set[asyncio.Task[None]] = set()

    async def drop(
        self, call_id: str, status: CallStatus, reason: str, code: int | None = None
    ) -> None:
        """Stop the recordings, then give the sockets back.

        Where the database cannot take it now, nothing more is kept, and it is told until it can.
        """
        try:
            await self._calls.ended(call_id, status, reason=reason, sip_result_code=code)
        except Exception:
            log.exception("call %s is over, which cannot be noted yet", call_id)
            task = asyncio.create_task(self._note(call_id, status, reason, code))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        finally:
            with contextlib.suppress(MachineError):
                await self._media.close(call_id)

    async def _note(self, call_id: str, status: CallStatus, reason: str, code: int | None) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                await self._calls.ended(call_id, status, reason=reason, sip_result_code=code)
                return
            except Exception as error:
                log.error("the end of call %s cannot be noted yet: %s", call_id, type(error))
