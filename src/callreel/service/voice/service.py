"""The use cases about calls that documents steer, and what signalling and the media workers tell
of such calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any

from callreel.base.errors import CallreelError
from callreel.calls.media import CallControl
from callreel.calls.model import (
    Account,
    Call,
    CallDirection,
    CallStatus,
    RecordingRequest,
    RecordingSource,
)
from callreel.calls.states import is_ended
from callreel.calls.steering import CALL_SECONDS, CallChange, CallRequest, Instructions
from callreel.calls.story import StoryKind
from callreel.calls.voice import (
    DigitHeard,
    Ending,
    FellSilent,
    MediaHeard,
    NoRoute,
    Played,
    Target,
)
from callreel.cxml.events import Digit, FellSilent as Silent, HungUp, Instructed, PlayDone
from callreel.cxml.interpreter import Interpreter
from callreel.service.calls import NewCall
from callreel.service.errors import Ended, NotCallable, NotSteered
from callreel.service.voice.doors import Doors
from callreel.service.voice.means import Means
from callreel.service.voice.placing import Placing
from callreel.service.voice.steered_call import SteeredCall

log = logging.getLogger(__name__)

TIME_LIMIT = "its time limit was reached"


class VoiceService:
    """Implements ``calls.voice.VoiceCalls``, and ``CallControl`` for the calls that it places."""

    def __init__(self, means: Means, others: CallControl | None = None) -> None:
        """``others`` is signalling; ``server`` sets it once it exists."""
        self._means = means
        self.others = others
        """Who ends the calls that are not being placed here."""
        self.doors = Doors()
        """What answers calls that come in."""
        self._placing: dict[str, Placing] = {}
        self._steered: dict[str, SteeredCall] = {}
        self._limits: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Calls being placed or steered."""
        return len(self._placing) + len(self._steered)

    # Programs

    async def create(self, account: Account, wanted: CallRequest) -> Call:
        """Call somebody; what it leads to is told to the status callback. Raises
        :class:`NotCallable`.
        """
        target = Target(wanted.to, wanted.username, wanted.password)
        try:
            self._means.telephone.check(account.id, target)
        except NoRoute as error:
            raise NotCallable(str(error)) from None
        call = await self._means.rows.queued(
            NewCall(
                account_id=account.id,
                direction=CallDirection.OUTBOUND_API,
                from_=wanted.from_,
                to=wanted.to,
                callback=wanted.status_callback,
            )
        )
        placing = self._placing[call.id] = Placing(self._means, call, target, wanted)
        self._means.spawn(self._run(account, call, placing, wanted), f"call {call.id}")
        return call

    async def change(self, account: Account, call_id: str, wanted: CallChange) -> Call:
        """Have something else done with a call. Raises :class:`NotFound`, :class:`Ended`,
        :class:`NotSteered`.
        """
        means = self._means
        call = await means.calls.get(account, call_id)
        if is_ended(call.status) and wanted.instructions is None:
            raise Ended(f"the call is {call.status.value}")
        if wanted.instructions is not None:
            if call.status is not CallStatus.IN_PROGRESS:
                raise NotSteered(f"the call is {call.status.value}, not in-progress")
            if call_id in self._placing:  # it has been answered just now
                await self._placing[call_id].settled()
            steered = self._steered.get(call_id) or await self._let_go(account, call)
            if steered is None:
                raise NotSteered("no document steers it")
            steered.tell(instructed(wanted.instructions))
        if wanted.status_callback is not None:
            await means.rows.set_callback(call_id, wanted.status_callback)
        if wanted.call_seconds is not None:
            if call_id not in self._steered:
                raise NotSteered("no document steers it")
            begun = call.start_time or means.context.clock.now()
            lasted_s = (means.context.clock.now() - begun).total_seconds()
            self._limit(call_id, wanted.call_seconds - lasted_s)
        return await means.calls.get(account, call_id)

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End a call, being placed or not; False if it is not known."""
        placing = self._placing.get(call_id)
        if placing is not None and await placing.take_back(reason):
            return True
        return self.others is not None and await self.others.hang_up(call_id, reason=reason)

    # Signalling

    def takes(self, account_id: str, dialled: str, *, exactly: bool = False) -> bool:
        """Whether a document answers what is dialled."""
        return self.doors.find(account_id, dialled, exactly=exactly) is not None

    def offered(self, call_id: str, account_id: str, dialled: str) -> None:
        """A call has come in for a document."""
        self._means.spawn(self._take(call_id, account_id, dialled), f"call {call_id}")

    def hung_up(self, call_id: str, ending: Ending) -> None:
        """A call that was dialled, answered or offered is over."""
        steered = self._steered.get(call_id)
        if steered is not None:
            ours = ending is Ending.OURS
            steered.tell(HungUp("it was ended here") if ours else HungUp())
            return
        for one in self._steered.values():
            if call_id in one.parties:
                self._means.spawn(one.parties.ended(call_id), f"{call_id} is gone")
                return

    def heard(self, what: MediaHeard) -> None:
        """Something was heard of a call, or is played to its end."""
        steered = self._steered.get(what.call_id)
        if steered is not None:
            match what:
                case DigitHeard():
                    steered.tell(Digit(what.key))
                case FellSilent():
                    steered.tell(Silent(what.spoke))
                case Played():
                    steered.tell(PlayDone(what.play_id))
            return
        if isinstance(what, Played):
            for one in self._steered.values():
                if what.call_id in one.parties:
                    one.parties.played(what.call_id)

    # The life of a call

    async def _run(
        self, account: Account, call: Call, placing: Placing, wanted: CallRequest
    ) -> None:
        """Place a call, then have it steered."""
        try:
            answered = await placing.run()
        finally:
            del self._placing[call.id]
        if not answered:
            return
        steered = self._steer(account, call, answered=True)  # before anything is awaited
        self._limit(call.id, wanted.call_seconds)
        if wanted.record is not None:
            await self._record(account, call.id, wanted.record)
        if wanted.send_digits:
            await steered.press(wanted.send_digits)
        steered.tell(instructed(wanted.instructions))
        await self._until_over(call.id, steered)

    async def _take(self, call_id: str, account_id: str, dialled: str) -> None:
        """Have a call steered that came in."""
        means = self._means
        door = self.doors.find(account_id, dialled)
        account, call = await means.accounts.get(account_id), await means.rows.get(call_id)
        if door is None or account is None or call is None:
            await means.telephone.reject(call_id, busy=False)
            return
        steered = self._steer(account, call, answered=False)
        if is_ended(call.status):
            steered.tell(HungUp())
        if door.callback is not None:
            await means.rows.set_callback(call_id, door.callback)
        self._limit(call_id, CALL_SECONDS)
        steered.tell(instructed(door.instructions))
        await self._until_over(call_id, steered)

    def _steer(self, account: Account, call: Call, *, answered: bool) -> SteeredCall:
        interpreter = Interpreter(answered=answered, dialect=account.dialect)
        steered = SteeredCall(self._means, account, call, interpreter)
        self._steered[call.id] = steered
        return steered

    async def _until_over(self, call_id: str, steered: SteeredCall) -> None:
        try:
            await steered.run()
        finally:
            del self._steered[call_id]
            limit = self._limits.pop(call_id, None)
            if limit is not None:
                limit.cancel()

    async def _record(self, account: Account, call_id: str, wanted: RecordingRequest) -> None:
        source = RecordingSource.OUTBOUND_API
        try:
            await self._means.recordings.start(account, call_id, wanted, source=source)
        except CallreelError as error:
            text = f"it could not be recorded from its answer on: {error}"
            await self._means.calls.note(call_id, StoryKind.ERROR, text)

    async def _let_go(self, account: Account, call: Call) -> SteeredCall | None:
        """A party of another call is to be steered by itself: that call goes on without it."""
        for one in self._steered.values():
            if call.id in one.parties and await one.parties.let_go(call.id):
                steered = self._steer(account, call, answered=True)
                self._means.spawn(self._until_over(call.id, steered), f"call {call.id}")
                return steered
        return None

    def _limit(self, call_id: str, seconds: float) -> None:
        """Hang up when the call has lasted so long from now."""
        before = self._limits.pop(call_id, None)
        if before is not None:
            before.cancel()

        def end() -> None:
            work = self._end(call_id, TIME_LIMIT)
            self._means.spawn(work, f"end {call_id}")

        self._limits[call_id] = asyncio.get_running_loop().call_later(max(0.0, seconds), end)

    async def _end(self, call_id: str, reason: str) -> None:
        await self.hang_up(call_id, reason=reason)

    # Start and shutdown

    async def restore(self, taken_up: Collection[str]) -> None:
        """Go on with the calls that signalling has taken up; of the others nothing is known."""
        for call_id, state in (await self._means.rows.kept()).items():
            try:
                if call_id in taken_up and await self._take_up(call_id, state):
                    continue
            except (CallreelError, LookupError, TypeError, ValueError) as error:
                log.error("call %s cannot be steered any more: %s", call_id, error)
                await self.hang_up(call_id, reason="it could not be taken up")
            await self._means.rows.forget(call_id)

    async def _take_up(self, call_id: str, state: Mapping[str, Any]) -> bool:
        means = self._means
        call = await means.rows.get(call_id)
        account = None if call is None else await means.accounts.get(call.account_id)
        if call is None or account is None:
            return False
        now = means.context.clock.monotonic()
        interpreter = Interpreter.from_dict(state["interpreter"], now=now)
        steered = SteeredCall(means, account, call, interpreter, recordings=state["recordings"])
        await steered.parties.restore(state["parties"], now=now)
        self._steered[call_id] = steered
        spent = (means.context.clock.now() - (call.start_time or call.created_at)).total_seconds()
        self._limit(call_id, state.get("seconds", CALL_SECONDS) - spent)
        means.spawn(self._go_on(call_id, steered), f"call {call_id}")
        return True

    async def _go_on(self, call_id: str, steered: SteeredCall) -> None:
        await steered.begin()
        await self._until_over(call_id, steered)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Every call was ended: let what is left to be said be said."""
        await self._means.drain(timeout_s)


def instructed(wanted: Instructions) -> Instructed:
    """The same, as the interpreter is told of it."""
    return Instructed(
        url=wanted.url,
        method=wanted.method,
        fallback_url=wanted.fallback_url,
        fallback_method=wanted.fallback_method,
        document=wanted.document,
    )
