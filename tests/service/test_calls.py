"""Calls: how all of them end at once."""

from __future__ import annotations

import asyncio

from callreel.base.errors import MachineError
from callreel.calls.model import CallStatus
from tests.service.conftest import House


class SlowPeers:
    """Signalling whose peers answer no BYE until every call has been sent one."""

    def __init__(self, house: House, count: int, broken: str) -> None:
        self._house = house
        self._all_asked = asyncio.Barrier(count)
        self._broken = broken

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        if call_id == self._broken:
            raise MachineError("no")
        await self._house.calls.ended(call_id, CallStatus.COMPLETED, reason=reason)
        await self._all_asked.wait()
        return True


async def test_calls_end_together_and_one_that_fails_holds_up_no_other(house: House) -> None:
    calls = [await house.a_call() for _ in range(9)]
    house.calls.control = SlowPeers(house, 8, broken=calls[4].id)
    async with asyncio.timeout(10):
        await house.calls.hang_up_all(reason="the end")
    assert [call.id for call in await house.calls.live()] == [calls[4].id]


async def test_calls_that_signalling_does_not_know_end_too(house: House) -> None:
    call = await house.a_call()
    await house.calls.hang_up_all(reason="the end")
    ended = await house.calls.get(house.account, call.id)
    assert (ended.status, ended.end_reason) == (CallStatus.COMPLETED, "the end")
