"""What is going on now: calls in progress, what they carry, and what is recorded of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from callreel.base.errors import MachineError
from callreel.calls.media import MediaWatch, StreamState
from callreel.calls.model import Account, Call, CallStatus, Recording
from callreel.service.context import Context
from callreel.store import calls, recordings


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that has not ended."""

    call: Call
    """The call."""
    recordings: Sequence[Recording]
    """Its recordings, live or not, newest first."""

    @property
    def recording(self) -> Recording | None:
        """The newest that is live."""
        return next((one for one in self.recordings if one.is_live), None)


class LiveService:
    """Use cases of whoever looks on. Nothing here changes anything."""

    def __init__(self, context: Context, media: MediaWatch) -> None:
        self._context = context
        self._media = media

    async def calls(self, account: Account) -> Sequence[LiveCall]:
        """This account's calls that have not ended, newest first, without their streams."""
        database = self._context.database
        async with database.read() as connection:
            live = await calls.live(connection, account.id)
            ids = [call.id for call in live]
            found = await recordings.of_calls(connection, database.seal, ids) if ids else ()
        of_call: dict[str, list[Recording]] = {}
        for recording in found:
            of_call.setdefault(recording.call_id, []).append(recording)
        newest = sorted(live, key=lambda call: (call.created_at, call.id), reverse=True)
        return [LiveCall(call, of_call.get(call.id, [])) for call in newest]

    async def streams(self, live: Sequence[LiveCall]) -> Sequence[Sequence[StreamState]]:
        """What each of these calls carries now; nothing where that cannot be told."""
        return await asyncio.gather(*(self._streams(one.call) for one in live))

    async def _streams(self, call: Call) -> Sequence[StreamState]:
        if call.status is not CallStatus.IN_PROGRESS:
            return ()
        try:
            return await self._media.observe(call.id)
        except MachineError:  # it has just ended, or its worker is away
            return ()
