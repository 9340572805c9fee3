"""Lists narrowed as people ask, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from callreel.calls.model import (
    CallDirection,
    Recording,
    RecordingSource,
    RecordingStatus,
)
from callreel.store import accounts, calls, recordings
from callreel.store.database import Database
from callreel.store.recordings import RecordingFilter
from tests.store.samples import ACCOUNT, NOW, OTHER, a_call, a_recording, an_id


@pytest.fixture(autouse=True)
async def _rows(database: Database) -> None:
    """20: inbound, from Ann; finished with gaps. 21: outbound, live. 22: its call is deleted."""
    inbound = a_call(10)
    outbound = replace(
        a_call(11),
        direction=CallDirection.OUTBOUND_API,
        from_="100%_sure",
        to="+4930123",
        caller_name="Zoë",
        participants=(),
    )
    foreign = replace(a_call(12, OTHER), from_="+15550100")
    done = replace(
        a_recording(20, 10),
        status=RecordingStatus.COMPLETED,
        duration_ms=5000,
        gap_count=2,
        source=RecordingSource.TRUNKING,
    )
    live = a_recording(21, 11, at=NOW + timedelta(seconds=1))
    orphan = replace(
        a_recording(22, 99, at=NOW + timedelta(seconds=2)),
        status=RecordingStatus.COMPLETED,
        duration_ms=60_000,
        gap_count=0,
    )
    async with database.begin() as connection:
        for account in (ACCOUNT, OTHER):
            await accounts.add(connection, database.seal, account)
        for call in (inbound, outbound, foreign):
            await calls.add(connection, call)
        for recording in (done, live, orphan):
            await recordings.add(connection, database.seal, recording)


async def found(database: Database, chosen: RecordingFilter) -> list[int]:
    async with database.read() as connection:
        page = await recordings.page(connection, database.seal, ACCOUNT.id, chosen, size=10)
    return [int(one.id, 16) for one in page.items]


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        (RecordingFilter(), [22, 21, 20]),
        (RecordingFilter(statuses=(RecordingStatus.COMPLETED,)), [22, 20]),
        (RecordingFilter(source=RecordingSource.TRUNKING), [20]),
        (RecordingFilter(shortest_ms=5000), [22, 20]),
        (RecordingFilter(longest_ms=5000), [20]),
        (RecordingFilter(has_gaps=True), [20]),
        (RecordingFilter(has_gaps=False), [22]),
        (RecordingFilter(direction=CallDirection.INBOUND), [20]),
        (RecordingFilter(direction=CallDirection.OUTBOUND_API), [21]),
        (RecordingFilter(party="15550100"), [20]),
        (RecordingFilter(party="ANN"), [20]),
        (RecordingFilter(party="930"), [21]),
        (RecordingFilter(party="zo"), [21]),
        (RecordingFilter(party="%"), [21]),
        (RecordingFilter(party="0_s"), []),
        (RecordingFilter(party="'; drop table calls"), []),
        (RecordingFilter(party="ann", direction=CallDirection.OUTBOUND_API), []),
        (RecordingFilter(call_id=an_id(11)), [21]),
    ],
)
async def test_narrowed(database: Database, chosen: RecordingFilter, numbers: list[int]) -> None:
    assert await found(database, chosen) == numbers


async def test_the_count_of_gaps_comes_back(database: Database) -> None:
    async with database.read() as connection:
        one = await recordings.get(connection, database.seal, an_id(20))
    assert isinstance(one, Recording)
    assert one.gap_count == 2


async def test_live_calls_and_some_calls_are_the_accounts(database: Database) -> None:
    ids = [an_id(10), an_id(12), an_id(77)]
    async with database.read() as connection:
        assert {one.id for one in await calls.live(connection, OTHER.id)} == {an_id(12)}
        assert len(await calls.live(connection)) == 3
        assert [one.id for one in await calls.some(connection, ACCOUNT.id, ids)] == [an_id(10)]
        assert {
            one.id
            for one in await recordings.of_calls(connection, database.seal, [an_id(10), an_id(99)])
        } == {an_id(20), an_id(22)}
