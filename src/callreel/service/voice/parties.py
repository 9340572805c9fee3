"""The other parties of a call: rung, connected, let go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from callreel.base.errors import CallreelError
from callreel.calls.model import Account, Call, CallStatus
from callreel.calls.spelling import Kind, spell
from callreel.calls.states import is_ended
from callreel.calls.voice import Digits, NotConnected
from callreel.cxml.actions import Ring, RingTarget
from callreel.cxml.events import (
    Event,
    OtherEnded,
    TargetAnswered,
    TargetFailed,
    TargetRinging,
)
from callreel.service.voice.means import Means
from callreel.service.voice.rows import child

KEY_S = 0.6
"""Longer than a key or a ``w`` takes."""
TAKEN_BACK = "taken back"


@dataclass(slots=True)
class Party:
    """One that is, or was, called beside a call."""

    target_id: str
    """The interpreter's name for it."""
    call_id: str
    """Its own call."""
    send_digits: str = ""
    """Keys to press before it is connected."""
    task: asyncio.Task[None] | None = None
    """While it rings."""
    answered_at: float | None = None
    """Monotonic seconds."""
    connected: bool = False
    """Whether it and the call hear each other."""
    pressed: asyncio.Future[None] | None = None
    """Done once the keys are pressed, or it is gone."""


class Parties:
    """Of one call."""

    def __init__(
        self, means: Means, account: Account, call: Call, tell: Callable[[Event], None]
    ) -> None:
        self._means = means
        self._account = account
        self._call = call
        self._tell = tell
        self._by_target: dict[str, Party] = {}
        self._by_call: dict[str, Party] = {}

    def __contains__(self, call_id: object) -> bool:
        """Whether a call is one of theirs."""
        return call_id in self._by_call

    async def ring(self, wanted: Ring) -> None:
        """Ring all of them at once."""
        caller = wanted.caller_id or self._call.from_
        for one in wanted.targets:
            new = child(self._call, from_=caller, to=one.target.to)
            row = await self._means.rows.queued(
                replace(new, callback=one.status_callback, caller_name=wanted.caller_name)
            )
            party = Party(one.target_id, row.id, one.send_digits)
            self._by_target[party.target_id] = self._by_call[party.call_id] = party
            party.task = self._means.spawn(
                self._ring(party, one, caller=caller, seconds=wanted.ring_seconds),
                f"ring {row.id}",
            )

    async def _ring(self, party: Party, wanted: RingTarget, *, caller: str, seconds: int) -> None:
        means = self._means
        try:
            await means.telephone.dial(
                party.call_id,
                wanted.target,
                account_id=self._account.id,
                caller=caller,
                ring_seconds=seconds,
                ringing=lambda: self._rings(party),
                beside=self._call.id,
            )
        except asyncio.CancelledError:
            await means.calls.ended(party.call_id, CallStatus.CANCELED, reason=TAKEN_BACK)
            raise
        except CallreelError as error:
            status, code = CallStatus.FAILED, None
            if isinstance(error, NotConnected):
                status, code = error.status, error.sip_code
            await means.calls.ended(party.call_id, status, reason=str(error), sip_result_code=code)
            self._forget(party)
            self._tell(TargetFailed(party.target_id, status, str(error), code, self._sid(party)))
        else:
            party.task = None
            party.answered_at = means.context.clock.monotonic()
            self._tell(TargetAnswered(party.target_id, self._sid(party)))

    def _rings(self, party: Party) -> None:
        self._means.spawn(self._means.rows.rings(party.call_id), f"{party.call_id} rings")
        self._tell(TargetRinging(party.target_id, self._sid(party)))

    async def connect(self, target_id: str) -> None:
        """The party and the call hear each other from now on."""
        party = self._by_target.get(target_id)
        if party is None or party.answered_at is None:
            self._tell(OtherEnded(target_id, 0))
            return
        await self._press(party)
        if target_id not in self._by_target:
            return  # it hung up meanwhile, which was told
        try:
            await self._means.telephone.connect(self._call.id, party.call_id)
            party.connected = True
        except CallreelError as error:
            await self._hang_up(party, str(error))
            self._tell(OtherEnded(target_id, self._lasted_s(party)))

    async def hang_up(self, target_id: str) -> None:
        """Take its call back, or end it."""
        party = self._by_target.get(target_id)
        if party is None:
            return
        await self._hang_up(party, "hung up by the document")

    async def ended(self, call_id: str) -> None:
        """One of them is gone."""
        party = self._by_call[call_id]
        self._forget(party)
        if party.pressed is not None and not party.pressed.done():
            party.pressed.set_result(None)
        if party.answered_at is not None:
            self._tell(OtherEnded(party.target_id, self._lasted_s(party)))

    async def close(self) -> None:
        """The call is over: nobody is left alone with us."""
        for party in list(self._by_target.values()):
            await self._hang_up(party, "the other party is gone")

    async def let_go(self, call_id: str) -> bool:
        """It goes a way of its own: parted from the call, and not hung up. False if it is not
        connected.
        """
        party = self._by_call[call_id]
        if not party.connected:
            return False
        self._forget(party)
        with contextlib.suppress(CallreelError):
            await self._means.telephone.part(self._call.id)
        self._tell(OtherEnded(party.target_id, self._lasted_s(party)))
        return True

    def played(self, call_id: str) -> None:
        """All keys are pressed."""
        pressed = self._by_call[call_id].pressed
        if pressed is not None and not pressed.done():
            pressed.set_result(None)

    # After a crash

    def to_dict(self, *, now: float) -> list[dict[str, Any]]:
        """What a successor needs: those that have answered."""
        return [
            {
                "target": one.target_id,
                "call": one.call_id,
                "seconds": now - one.answered_at,
                "connected": one.connected,
            }
            for one in self._by_target.values()
            if one.answered_at is not None
        ]

    async def restore(self, told: list[Mapping[str, Any]], *, now: float) -> None:
        """Take up those that are still there; of the others it is told that they are gone."""
        for one in told:
            party = Party(str(one["target"]), str(one["call"]))
            party.answered_at = now - float(one["seconds"])
            party.connected = bool(one["connected"])
            row = await self._means.rows.get(party.call_id)
            self._by_target[party.target_id] = self._by_call[party.call_id] = party
            if row is None or is_ended(row.status):
                await self.ended(party.call_id)

    # Parts of it

    async def _press(self, party: Party) -> None:
        """Press the keys that it wants, and wait until they are."""
        keys = party.send_digits
        if not keys:
            return
        party.pressed = asyncio.get_running_loop().create_future()
        with contextlib.suppress(CallreelError, TimeoutError):
            await self._means.media.play(party.call_id, "keys", [Digits(keys)])
            async with asyncio.timeout(2 + KEY_S * len(keys)):
                await party.pressed

    async def _hang_up(self, party: Party, reason: str) -> None:
        self._forget(party)
        if party.task is not None:
            party.task.cancel()
        else:
            await self._means.telephone.hang_up(party.call_id, reason=reason)

    def _forget(self, party: Party) -> None:
        self._by_target.pop(party.target_id, None)
        self._by_call.pop(party.call_id, None)

    def _lasted_s(self, party: Party) -> int:
        if party.answered_at is None:
            return 0
        return max(0, round(self._means.context.clock.monotonic() - party.answered_at))

    def _sid(self, party: Party) -> str:
        return spell(Kind.CALL, party.call_id, self._account.dialect)
