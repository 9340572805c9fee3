"""Calls: how all of them end at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.base.errors import MachineError
from callreel.calls.model import CallDirection, CallStatus
from callreel.service.calls import NewCall
from callreel.service.errors import Answered, Ended, NotFound, NotInProgress
from tests.service.conftest import ALL_EVENTS, House


class SlowPeers:
    """Signalling whose peers answer no BYE until every call has been sent one."""

    def __init__(self, house: House, count: int, broken: str, error: Exception) -> None:
        self._house = house
        self._all_asked = asyncio.Barrier(count)
        self._broken = broken
        self._error = error

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        if call_id == self._broken:
            raise self._error
        await self._house.calls.ended(call_id, CallStatus.COMPLETED, reason=reason)
        await self._all_asked.wait()
        return True


@pytest.mark.parametrize("error", [MachineError("no"), OSError("the database is gone")])
async def test_calls_end_together_and_one_that_fails_holds_up_no_other(
    house: House, error: Exception
) -> None:
    calls = [await house.a_call() for _ in range(9)]
    house.calls.control = SlowPeers(house, 8, broken=calls[4].id, error=error)
    async with asyncio.timeout(10):
        await house.calls.hang_up_all(reason="the end")
    assert [call.id for call in await house.calls.live()] == [calls[4].id]


async def test_calls_that_signalling_does_not_know_end_too(house: House) -> None:
    call = await house.a_call()
    await house.calls.hang_up_all(reason="the end")
    ended = await house.calls.get(house.account, call.id)
    assert (ended.status, ended.end_reason) == (CallStatus.COMPLETED, "the end")


async def test_nothing_can_be_started_between_the_last_stop_and_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await house.a_call()
    database = house.context.database
    begin, reached, go_on = database.begin, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def begin_late() -> AsyncIterator[AsyncConnection]:
        reached.set()
        await go_on.wait()
        async with begin() as connection:
            yield connection

    monkeypatch.setattr(database, "begin", begin_late)
    end = asyncio.create_task(house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE"))
    await reached.wait()
    monkeypatch.setattr(database, "begin", begin)
    start = asyncio.create_task(house.recordings.start(house.account, call.id, ALL_EVENTS))
    await asyncio.wait({start}, timeout=0.1)
    go_on.set()
    await end
    with pytest.raises(NotInProgress):
        await start
    assert house.media.live == {}


async def test_what_is_agreed_on_too_late_is_not_kept(house: House) -> None:
    call = await house.a_call()
    await house.calls.session_changed(call.id, "new")
    assert await house.calls.sessions() == {call.id: "new"}
    await house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
    await house.calls.session_changed(call.id, "newer")
    assert await house.calls.sessions() == {}


async def test_a_program_ends_a_call_and_its_recordings_with_it(house: House) -> None:
    call = await house.a_call()
    started, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    with pytest.raises(Answered):
        await house.calls.end(house.account, call.id, cancel=True)
    assert started.id in house.media.live
    ended = await house.calls.end(house.account, call.id)
    assert (ended.status, ended.end_reason) == (CallStatus.COMPLETED, "ended by the API")
    assert house.media.live == {}
    for cancel in (False, True):
        with pytest.raises(Ended):
            await house.calls.end(house.account, call.id, cancel=cancel)
    with pytest.raises(NotFound):
        await house.calls.end(house.account, "0" * 32)


@pytest.mark.parametrize("cancel", [True, False])
async def test_a_call_that_nobody_answered_is_canceled(house: House, cancel: bool) -> None:
    new = NewCall(house.account.id, CallDirection.INBOUND, "+15550100", "+15550199")
    call = await house.calls.ringing(new)
    ended = await house.calls.end(house.account, call.id, cancel=cancel)
    assert ended.status is CallStatus.CANCELED
