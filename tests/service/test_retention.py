"""What is old goes, by itself or when asked, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callreel.calls.model import Account, CallStatus, Dialect, Recording, RecordingRequest
from callreel.mediastore import MediaStore
from callreel.service.errors import NotFound
from callreel.service.retention import Purged, RetentionService
from callreel.store import accounts
from tests.service.conftest import House, StepClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def later(house: House, days: float) -> None:
    clock = house.context.clock
    assert isinstance(clock, StepClock)
    clock.at += timedelta(days=days)


async def a_recording(
    house: House, *, account: Account | None = None, retention_days: int | None = None
) -> Recording:
    mine = replace(house, account=account or house.account)
    call = await mine.a_call()
    request = RecordingRequest(retention_days=retention_days)
    started, _ = await mine.recordings.start(mine.account, call.id, request)
    await mine.recordings.stop(started)
    assert await mine.finishing.drain(5)
    return await mine.recordings.get(mine.account, started.id)


async def kept(house: House, *some: Recording) -> list[bool]:
    found = []
    for one in some:
        account = Account(one.account_id, Dialect.TWILIO, "", "", NOON)
        try:
            await house.recordings.get(account, one.id)
        except NotFound:
            found.append(False)
        else:
            found.append(True)
    return found


async def another(house: House, *, retention_days: int) -> Account:
    account = replace(house.account, id="e" * 32, retention_days=retention_days)
    async with house.context.database.begin() as connection:
        await accounts.add(connection, house.context.database.seal, account)
    return account


async def test_the_narrowest_says_how_long(house: House) -> None:
    forever = await another(house, retention_days=0)
    plain = await a_recording(house)
    by_policy = await a_recording(house, retention_days=2)
    others = await a_recording(house, account=forever)
    others_by_policy = await a_recording(house, account=forever, retention_days=2)
    every = (plain, by_policy, others, others_by_policy)
    service = RetentionService(house.context, house.deletion, 10)
    assert await service.sweep() == Purged(0, 0)
    later(house, 3)
    assert (await service.sweep(dry_run=True)).recordings == 2
    assert await kept(house, *every) == [True] * 4
    assert (await service.sweep()).recordings == 2
    assert await kept(house, *every) == [True, False, True, False]
    await house.accounts.set_retention(house.account, 20)
    later(house, 8)
    assert (await service.sweep()).recordings == 0
    await house.accounts.set_retention(house.account, None)
    assert (await service.sweep()).recordings == 1
    later(house, 10_000)
    assert (await service.sweep()).recordings == 0
    assert await kept(house, *every) == [False, False, True, False]


async def test_without_a_retention_nothing_ever_goes(house: House) -> None:
    plain = await a_recording(house)
    later(house, 10_000)
    service = RetentionService(house.context, house.deletion, None)
    assert (await service.sweep()).recordings == 0
    assert await kept(house, plain) == [True]


async def test_it_is_known_whether_anything_has_a_retention(house: House) -> None:
    service = RetentionService(house.context, house.deletion, None)
    await a_recording(house, retention_days=0)
    assert not await service.any_set()
    assert await RetentionService(house.context, house.deletion, 1).any_set()
    await house.accounts.set_retention(house.account, 20)
    assert await service.any_set()
    await house.accounts.set_retention(house.account, 0)
    assert not await RetentionService(house.context, house.deletion, 1).any_set()
    await a_recording(house, retention_days=2)
    assert await service.any_set()


async def test_what_is_not_finished_stays_however_old(house: House) -> None:
    call = await house.a_call()
    live, _ = await house.recordings.start(house.account, call.id, RecordingRequest())
    later(house, 100)
    service = RetentionService(house.context, house.deletion, 1)
    assert (await service.sweep()).recordings == 0
    assert (await service.purge(timedelta(0))).recordings == 0
    await house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
    assert await house.finishing.drain(5)
    assert (await service.sweep()).recordings == 0  # it ended just now
    assert await kept(house, live) == [True]


async def test_purge_goes_by_age_alone_and_by_account(house: House, tmp_path: Path) -> None:
    other = await another(house, retention_days=0)
    mine, theirs = await a_recording(house), await a_recording(house, account=other)
    later(house, 5)
    fresh = await a_recording(house)
    service = RetentionService(house.context, house.deletion, None)
    gone = await service.purge(timedelta(days=4), account=other)
    assert (gone.recordings, gone.size_bytes) == (1, theirs.size_bytes)
    assert await kept(house, mine, theirs, fresh) == [True, False, True]
    assert (await service.purge(timedelta(days=4))).recordings == 1
    assert await kept(house, mine, theirs, fresh) == [False, False, True]
    names = [one.name for one in (tmp_path / "media").rglob("*.wav")]
    assert names == [f"{fresh.id}.wav"]


async def test_what_cannot_be_deleted_stops_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await a_recording(house), await a_recording(house)
    later(house, 5)
    house.renderer.discard_failures = 1
    service = RetentionService(house.context, house.deletion, 1)
    gone = await service.sweep()
    assert (gone.recordings, gone.left) == (1, 1)
    # Its row is gone, and its files go as soon as they can.
    assert await kept(house, first, second) == [False, False]
    assert isinstance(house.store, MediaStore)
