"""The rows of calls that we place, and what a successor needs of those that documents steer."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from callreel.calls.model import Call, CallCallback, CallDirection, CallEvent, CallStatus
from callreel.calls.states import is_ended
from callreel.calls.story import StoryLine
from callreel.service.call_callbacks import owe
from callreel.service.calls import NewCall
from callreel.service.context import Context
from callreel.store import call_callbacks, call_events, calls, steerings

log = logging.getLogger(__name__)


class Rows:
    """Each change and the webhook that announces it are one transaction."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def queued(self, new: NewCall) -> Call:
        """A call that is about to be placed."""
        context = self._context
        now = context.clock.now()
        call = Call(
            id=context.ids.new_id(),
            account_id=new.account_id,
            status=CallStatus.QUEUED,
            direction=new.direction,
            from_=new.from_,
            to=new.to,
            created_at=now,
            updated_at=now,
            caller_name=new.caller_name,
            parent_call_id=new.parent_call_id,
            participants=new.participants,
        )
        owed = False
        async with context.database.begin() as connection:
            await calls.add(connection, call)
            if new.callback is not None:
                seal = context.database.seal
                await call_callbacks.put(connection, seal, call.id, new.callback)
                owed = await owe(context, connection, call, CallEvent.INITIATED, now=now)
        if owed:
            context.delivery_owed()
        return call

    async def rings(self, call_id: str) -> None:
        """The other end rings. Nothing if it did before, has answered, or is gone."""
        context = self._context
        now = context.clock.now()
        async with context.database.begin() as connection:
            call = await calls.get(connection, call_id)
            if call is None or call.status is not CallStatus.QUEUED:
                return
            ringing = replace(call, status=CallStatus.RINGING, updated_at=now)
            await calls.save(connection, ringing, expected=CallStatus.QUEUED)
            owed = await owe(context, connection, ringing, CallEvent.RINGING, now=now)
        if owed:
            context.delivery_owed()

    async def set_callback(self, call_id: str, callback: CallCallback) -> None:
        """Who is told from now on; of the events that were asked for before, if any were."""
        database = self._context.database
        async with database.begin() as connection:
            before = await call_callbacks.get(connection, database.seal, call_id)
            if before is not None:
                callback = replace(callback, events=before.callback.events)
            await call_callbacks.put(connection, database.seal, call_id, callback)

    async def get(self, call_id: str) -> Call | None:
        """A call as its row says it is; None if it was deleted."""
        async with self._context.database.read() as connection:
            return await calls.get(connection, call_id)

    async def keep(
        self, call_id: str, state: Mapping[str, Any] | None, story: Sequence[StoryLine] = ()
    ) -> None:
        """What a successor needs to go on with a call, and what happened since it was kept last:
        one transaction. No state is kept once the call is over.
        """
        database = self._context.database
        async with database.begin() as connection:
            await call_events.add(connection, call_id, *story)
            call = None if state is None else await calls.get(connection, call_id)
            if call is not None and not is_ended(call.status):
                await steerings.put(connection, database.seal, call_id, json.dumps(state))

    async def forget(self, call_id: str) -> None:
        """It is over, or nothing steers it any more."""
        async with self._context.database.begin() as connection:
            await steerings.remove(connection, call_id)

    async def kept(self) -> Mapping[str, Mapping[str, Any]]:
        """What an earlier control process left, by call."""
        database = self._context.database
        async with database.read() as connection:
            found = await steerings.every(connection, database.seal)
        return {call_id: json.loads(state) for call_id, state in found.items()}


def child(parent: Call, *, from_: str, to: str) -> NewCall:
    """A call that a ``Dial`` places beside another."""
    return NewCall(
        account_id=parent.account_id,
        direction=CallDirection.OUTBOUND_DIAL,
        from_=from_,
        to=to,
        parent_call_id=parent.id,
    )
