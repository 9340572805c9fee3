"""A call that a program wants made, until it is answered or over."""

from __future__ import annotations

import asyncio
import contextlib

from callreel.base.errors import CallreelError
from callreel.calls.model import Call, CallStatus
from callreel.calls.steering import CallRequest
from callreel.calls.voice import NotConnected, Target
from callreel.service.voice.means import Means


class Placing:
    """:meth:`run` it once; :meth:`take_back` may come at any time meanwhile."""

    def __init__(self, means: Means, call: Call, target: Target, wanted: CallRequest) -> None:
        self._means = means
        self._call_id = call.id
        self._target = target
        self._wanted = wanted
        self._account_id = call.account_id
        self._dialling: asyncio.Task[None] | None = None
        self._reason: str | None = None
        self._settled = asyncio.Event()

    async def settled(self) -> None:
        """Wait until it was answered or is over, and whoever runs it knows."""
        await self._settled.wait()

    async def run(self) -> bool:
        """Ring; whether it was answered. If not, its row says why by then."""
        try:
            return await self._run()
        finally:
            self._settled.set()

    async def _run(self) -> bool:
        if self._reason is not None:
            return False  # before it was begun
        self._dialling = asyncio.create_task(self._dial(), name=f"dial {self._call_id}")
        try:
            await self._dialling
        except asyncio.CancelledError:
            if self._reason is None:  # not the dialling: we ourselves
                self._dialling.cancel()
                raise
            return False
        except CallreelError as error:
            status, code = CallStatus.FAILED, None
            if isinstance(error, NotConnected):
                status, code = error.status, error.sip_code
            await self._means.calls.ended(
                self._call_id, status, reason=str(error), sip_result_code=code
            )
            return False
        return True

    async def take_back(self, reason: str) -> bool:
        """Ring no more; False if it has been answered, or is over."""
        if self._dialling is not None and self._dialling.done():
            return False
        self._reason = reason
        if self._dialling is not None:
            self._dialling.cancel()
            with contextlib.suppress(CallreelError, asyncio.CancelledError):
                await asyncio.wait({self._dialling})
            if not self._dialling.cancelled():
                return False
        await self._means.calls.ended(self._call_id, CallStatus.CANCELED, reason=reason)
        return True

    async def _dial(self) -> None:
        wanted, means = self._wanted, self._means

        def rings() -> None:
            means.spawn(means.rows.rings(self._call_id), f"{self._call_id} rings")

        await means.telephone.dial(
            self._call_id,
            self._target,
            account_id=self._account_id,
            caller=wanted.caller_id or wanted.from_,
            ring_seconds=wanted.ring_seconds,
            ringing=rings,
        )
