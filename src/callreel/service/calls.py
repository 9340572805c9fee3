"""Calls: begun by signalling, read by the API, ended by either."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.base.errors import CallreelError
from callreel.base.ids import parse_id
from callreel.calls.media import CallControl
from callreel.calls.model import (
    Account,
    Call,
    CallCallback,
    CallDirection,
    CallEvent,
    CallStatus,
    Participant,
)
from callreel.calls.states import is_ended
from callreel.calls.story import StoryKind, StoryLine
from callreel.service.call_callbacks import owe
from callreel.service.context import Context
from callreel.service.errors import Answered, Ended, NotFound, Unfinished
from callreel.service.recordings import RecordingService
from callreel.service.story import tell
from callreel.store import (
    accounts,
    call_callbacks,
    call_events,
    calls,
    deliveries,
    recordings as recording_rows,
    sessions,
)
from callreel.store.calls import CallFilter, WrongState
from callreel.store.pages import Page, Position

log = logging.getLogger(__name__)

_HANG_UPS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class NewCall:
    """What signalling knows of a call when it rings."""

    account_id: str
    """Whose it is."""
    direction: CallDirection
    """Who placed it."""
    from_: str
    """Caller."""
    to: str
    """Callee."""
    caller_name: str | None = None
    """Display name of the caller."""
    peer: str | None = None
    """Name of the configured peer."""
    sip_call_id: str | None = None
    """Call-ID of the dialog."""
    parent_call_id: str | None = None
    """The call whose leg this is."""
    participants: tuple[Participant, ...] = ()
    """The parties."""
    metadata: tuple[str, bytes] | None = None
    """SIPREC metadata that came with it: content type and body, as received."""
    callback: CallCallback | None = None
    """Whom to tell what becomes of it."""


class CallService:
    """Use cases about calls. ``control`` is signalling, set by ``server`` once it exists."""

    def __init__(self, context: Context, recordings: RecordingService) -> None:
        self._context = context
        self._recordings = recordings
        self.control: CallControl | None = None

    async def ringing(self, new: NewCall) -> Call:
        """A call has come in; it is not answered yet."""
        call = self._new(self._context.ids.new_id(), new)
        async with self._context.database.begin() as connection:
            await self._add(connection, call, new)
        return call

    async def connected(self, call_id: str, new: NewCall, session: str) -> Call:
        """A call has come in and is being answered at once: :meth:`ringing` and :meth:`answered`
        in one."""
        ringing = self._new(call_id, new)
        call = _answered(ringing, now=ringing.created_at)
        async with self._context.database.begin() as connection:
            await self._add(connection, call, new)
            await sessions.add(connection, self._context.database.seal, call.id, session)
            owed = new.callback is not None and await owe(
                self._context, connection, call, CallEvent.ANSWERED, now=call.created_at
            )
        if owed:
            self._context.delivery_owed()
        return call

    async def missed(self, call_id: str, new: NewCall) -> None:
        """A call that came in is not going to be answered: it is noted, if it was not before, and
        is to be ended."""
        async with self._context.database.begin() as connection:
            if await calls.get(connection, call_id) is None:
                await self._add(connection, self._new(call_id, new), new)

    def _new(self, call_id: str, new: NewCall) -> Call:
        now = self._context.clock.now()
        return Call(
            id=call_id,
            account_id=new.account_id,
            status=CallStatus.RINGING,
            direction=new.direction,
            from_=new.from_,
            to=new.to,
            created_at=now,
            updated_at=now,
            caller_name=new.caller_name,
            peer=new.peer,
            sip_call_id=new.sip_call_id,
            parent_call_id=new.parent_call_id,
            participants=new.participants,
        )

    async def _add(self, connection: AsyncConnection, call: Call, new: NewCall) -> None:
        await calls.add(connection, call)
        if new.callback is not None:
            seal = self._context.database.seal
            await call_callbacks.put(connection, seal, call.id, new.callback)
        if new.metadata is not None:
            content_type, body = new.metadata
            await calls.add_metadata(
                connection,
                call.id,
                received_at=call.created_at,
                content_type=content_type,
                body=body,
            )

    async def answered(self, call: Call, session: str) -> Call:
        """It is being answered: from now on it can be recorded.

        ``session`` is what signalling needs to go on with the call after a crash, kept with it.
        """
        now = self._context.clock.now()
        answered = _answered(call, now=now)
        async with self._context.database.begin() as connection:
            await calls.save(connection, answered, expected=call.status)
            await sessions.add(connection, self._context.database.seal, call.id, session)
            owed = await owe(self._context, connection, answered, CallEvent.ANSWERED, now=now)
        if owed:
            self._context.delivery_owed()
        return answered

    async def set_callback(self, call_id: str, callback: CallCallback | None) -> None:
        """Whom to tell what becomes of a call from now on. Nothing if there is no such call."""
        async with self._context.database.begin() as connection:
            if await calls.get(connection, call_id) is not None:
                seal = self._context.database.seal
                await call_callbacks.put(connection, seal, call_id, callback)

    async def progress(self, call_id: str, event: CallEvent) -> None:
        """Tell whoever asked that a call is being placed, or that it rings.

        What is answered and what is over is told by :meth:`answered` and :meth:`ended`. Nothing if
        the call is over.
        """
        now = self._context.clock.now()
        async with self._context.database.begin() as connection:
            call = await calls.get(connection, call_id)
            if call is None or is_ended(call.status):
                return
            owed = await owe(self._context, connection, call, event, now=now)
        if owed:
            self._context.delivery_owed()

    async def note(
        self,
        call_id: str,
        kind: StoryKind,
        text: str,
        details: Mapping[str, str | int | None] | None = None,
    ) -> None:
        """Add a line to a call's story. Nothing if there is no such call, or its story is full.

        ``text`` is for people, a short sentence; it and ``details`` hold no secrets.
        """
        line = StoryLine(self._context.clock.now(), kind, text, details or {})
        async with self._context.database.begin() as connection:
            await call_events.add(connection, call_id, line)

    async def story(self, account: Account, call_id: str) -> Sequence[StoryLine]:
        """What happened to a call of this account, oldest first: the call itself, what was noted,
        its recordings, and the webhooks about both. Raises :class:`NotFound`.
        """
        call = await self.get(account, call_id)
        seal = self._context.database.seal
        async with self._context.database.read() as connection:
            noted = await call_events.of_call(connection, call_id)
            kept = await recording_rows.of_call(connection, seal, call_id)
            owed = [
                (one, await deliveries.attempts_of(connection, one.id))
                for one in await deliveries.of_call(connection, seal, call_id)
            ]
        return tell(account, call, noted, kept, owed)

    async def picked_up(
        self, call_id: str, session: str, *, peer: str = "", sip_call_id: str = ""
    ) -> Call:
        """A call that a document steers is answered, whatever was told of it meanwhile.

        ``peer`` and ``sip_call_id`` are where it went, for one that we placed. Raises
        ``WrongState`` for one that is over.
        """
        for tries_left in (2, 1, 0):
            async with self._context.database.read() as connection:
                call = await calls.get(connection, call_id)
            if call is None:
                raise WrongState(f"there is no call {call_id}")
            placed = replace(
                call,
                peer=call.peer or peer[:64] or None,
                sip_call_id=call.sip_call_id or sip_call_id[:256] or None,
            )
            try:
                return await self.answered(placed, session)
            except WrongState:  # its row was changed just now, by whoever heard it ring
                if not tries_left:
                    raise
        raise AssertionError("the last try ends the loop")

    async def transferred(self, call_id: str, to: str) -> None:
        """Somebody else is talked to from now on. Nothing if the call is over."""
        async with self._context.database.begin() as connection:
            call = await calls.get(connection, call_id)
            if call is not None and not is_ended(call.status):
                moved = replace(call, to=to, updated_at=self._context.clock.now())
                await calls.save(connection, moved, expected=call.status)

    async def session_changed(self, call_id: str, session: str) -> None:
        """Signalling has agreed on something new with the peer. Nothing if the call is over."""
        async with self._context.database.begin() as connection:
            call = await calls.get(connection, call_id)
            if call is not None and not is_ended(call.status):
                await sessions.save(connection, self._context.database.seal, call_id, session)

    async def sessions(self) -> Mapping[str, str]:
        """What an earlier control process left of its live calls, by call."""
        async with self._context.database.read() as connection:
            return await sessions.every(connection, self._context.database.seal)

    async def ended(
        self, call_id: str, status: CallStatus, *, reason: str, sip_result_code: int | None = None
    ) -> Call | None:
        """It is over: its recordings are stopped first. Ending it again changes nothing."""
        async with (
            self._recordings.call_ending(call_id),
            self._context.database.begin() as connection,
        ):
            call = await calls.get(connection, call_id)
            if call is None or is_ended(call.status):
                return call
            now = self._context.clock.now()
            over = replace(
                call,
                status=status,
                end_time=now,
                updated_at=now,
                end_reason=reason,
                sip_result_code=sip_result_code or call.sip_result_code,
            )
            await calls.save(connection, over, expected=call.status)
            await sessions.remove(connection, call_id)
            owed = await owe(self._context, connection, over, CallEvent.COMPLETED, now=now)
        if owed:
            self._context.delivery_owed()
        log.info("call %s ended: %s (%s)", call_id, status.value, reason)
        return over

    async def end(self, account: Account, call_id: str, *, cancel: bool = False) -> Call:
        """Hang up, as a program asks: the call as it stands then, its recordings stopped.

        ``cancel``: only if nobody has answered yet. Raises :class:`NotFound`, :class:`Ended`,
        :class:`Answered`.
        """
        call = await self.get(account, call_id)
        if is_ended(call.status):
            raise Ended(f"the call is {call.status.value}")
        if cancel and call.status is CallStatus.IN_PROGRESS:
            raise Answered("the call was answered; complete it instead")
        await self._hang_up(call, "ended by the API")
        return await self.get(account, call_id)

    async def delete(self, account: Account, call_id: str) -> None:
        """Forget a call that is over; its recordings stay. Raises NotFound, Unfinished."""
        async with self._context.database.begin() as connection:
            call = await calls.get(connection, call_id, account_id=account.id)
            if call is None:
                raise NotFound(f"no call {call_id}")
            if not is_ended(call.status):
                raise Unfinished(f"the call is {call.status.value}; end it first")
            await calls.remove(connection, call_id)

    async def metadata_received(
        self,
        call_id: str,
        content_type: str,
        body: bytes,
        *,
        from_: str | None = None,
        to: str | None = None,
        participants: tuple[Participant, ...] = (),
    ) -> None:
        """Keep one more version of a call's metadata, and what it says of the parties."""
        now = self._context.clock.now()
        async with self._context.database.begin() as connection:
            await calls.add_metadata(
                connection, call_id, received_at=now, content_type=content_type, body=body
            )
            if not participants:
                return
            call = await calls.get(connection, call_id)
            if call is None:
                return
            changed = replace(
                call,
                from_=from_ or call.from_,
                to=to or call.to,
                participants=participants,
                updated_at=now,
            )
            await calls.save(connection, changed, expected=call.status)

    async def get(self, account: Account, call_id: str) -> Call:
        """One call of this account. Raises :class:`NotFound`."""
        async with self._context.database.look() as connection:
            call = await calls.get(connection, call_id, account_id=account.id)
        if call is None:
            raise NotFound(f"no call {call_id}")
        return call

    async def named(self, sid: str) -> tuple[Account, Call]:
        """A call of any account, and that account, for administration. Raises NotFound."""
        call_id = parse_id(sid)
        seal = self._context.database.seal
        async with self._context.database.read() as connection:
            call = None if call_id is None else await calls.get(connection, call_id)
            if call is not None:
                account = await accounts.get(connection, seal, call.account_id)
                if account is not None:
                    return account, call
        raise NotFound(f"no call {sid}")

    async def recent(
        self, of: Sequence[Account], chosen: CallFilter, *, limit: int
    ) -> Sequence[tuple[Account, Call]]:
        """The newest calls of these accounts, the newest first."""
        found: list[tuple[Account, Call]] = []
        for account in of:
            page = await self.page(account, chosen, size=limit, position=None)
            found += [(account, call) for call in page.items]
        return sorted(found, key=lambda one: one[1].created_at, reverse=True)[:limit]

    async def page(
        self, account: Account, chosen: CallFilter, *, size: int, position: Position | None
    ) -> Page[Call]:
        """This account's calls, newest first."""
        async with self._context.database.read() as connection:
            return await calls.page(connection, account.id, chosen, size=size, position=position)

    async def some(self, account: Account, call_ids: Sequence[str]) -> Mapping[str, Call]:
        """Those of these calls that are of this account and known still, by id."""
        async with self._context.database.read() as connection:
            found = await calls.some(connection, account.id, call_ids)
        return {call.id: call for call in found}

    async def live(self) -> Sequence[Call]:
        """Every account's calls that have not ended."""
        async with self._context.database.read() as connection:
            return await calls.live(connection)

    async def hang_up_all(self, *, reason: str) -> None:
        """End every live call properly: for a shutdown. Peers that do not answer cost their time
        once, not a time for each; what goes wrong with one call is logged and holds up no other.
        """
        gate = asyncio.Semaphore(_HANG_UPS_AT_ONCE)

        async def end(call: Call) -> None:
            async with gate:
                try:
                    await self._hang_up(call, reason)
                except CallreelError as error:
                    log.error("call %s was not ended in order: %s", call.id, error)
                except Exception:
                    log.exception("call %s was not ended in order", call.id)

        await asyncio.gather(*(end(call) for call in await self.live()))

    async def _hang_up(self, call: Call, reason: str) -> None:
        known = self.control is not None and await self.control.hang_up(call.id, reason=reason)
        if not known:
            answered = call.status is CallStatus.IN_PROGRESS
            status = CallStatus.COMPLETED if answered else CallStatus.CANCELED
            await self.ended(call.id, status, reason=reason)


def _answered(call: Call, *, now: datetime) -> Call:
    return replace(
        call,
        status=CallStatus.IN_PROGRESS,
        start_time=now,
        updated_at=now,
        sip_result_code=200,
    )
