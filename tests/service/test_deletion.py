"""Recordings deleted for good, whatever goes wrong meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from callreel.calls.model import Account, CallStatus, Dialect, RecordingRequest
from callreel.service import deletion as deletion_module
from callreel.service.errors import NotFound, Unavailable, Unfinished
from callreel.service.media import MediaFormat
from callreel.store import accounts
from tests.service.conftest import House, restarted


def kept(tmp_path: Path) -> list[str]:
    return sorted(one.name for one in (tmp_path / "media").rglob("*") if one.is_file())


async def a_stranger(house: House) -> Account:
    database = house.context.database
    stranger = Account("f" * 32, Dialect.TWILIO, "token", "token", house.account.created_at)
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, stranger)
    return stranger


async def test_row_audio_in_every_format_report_and_journal_go(
    house: House, tmp_path: Path
) -> None:
    recording = await house.a_finished_recording()
    for format_ in MediaFormat:
        for mixed in (False, True):
            assert await house.audio.open(recording, format_, mixed=mixed) is not None
    assert len(kept(tmp_path)) == 9
    house.renderer.discarded.clear()
    await house.deletion.delete(house.account, recording.id)
    assert kept(tmp_path) == []
    assert house.renderer.discarded == [recording.id]
    with pytest.raises(NotFound):
        await house.recordings.get(house.account, recording.id)
    with pytest.raises(NotFound):
        await house.deletion.delete(house.account, recording.id)


async def test_what_is_not_over_stays(house: House) -> None:
    call = await house.a_call()
    started, _ = await house.recordings.start(house.account, call.id, RecordingRequest())
    with pytest.raises(Unfinished):
        await house.deletion.delete(house.account, started.id)
    house.renderer.failures = 1
    await house.recordings.stop(started)
    with pytest.raises(Unfinished):
        await house.deletion.delete(house.account, started.id)
    assert await house.finishing.drain(5)
    await house.deletion.delete(house.account, started.id)


async def test_what_is_somebody_elses_or_of_another_call_stays(house: House) -> None:
    recording, other = await house.a_finished_recording(), await house.a_call()
    with pytest.raises(NotFound):
        await house.deletion.delete(await a_stranger(house), recording.id)
    with pytest.raises(NotFound):
        await house.deletion.delete(house.account, recording.id, call_id=other.id)
    with pytest.raises(NotFound):
        await house.deletion.delete(house.account, "0" * 32)
    assert (await house.recordings.get(house.account, recording.id)) == recording
    await house.deletion.delete(house.account, recording.id, call_id=recording.call_id)


async def test_a_journal_that_stays_is_deleted_later_and_nothing_says_so_before(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion_module, "_FIRST_PAUSE_S", 0.01)
    recording = await house.a_finished_recording()
    house.renderer.discard_failures = 3
    for _ in range(2):  # asked again, it is tried again
        with pytest.raises(Unavailable):
            await house.deletion.delete(house.account, recording.id)
    with pytest.raises(NotFound):
        await house.recordings.get(house.account, recording.id)
    stranger = await a_stranger(house)
    with pytest.raises(NotFound):
        await house.deletion.delete(stranger, recording.id)
    async with asyncio.timeout(5):
        while house.renderer.discarded.count(recording.id) < 2:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while True:
            try:
                await house.deletion.delete(house.account, recording.id)
            except NotFound:
                break
    assert kept(tmp_path) == []


async def test_a_crash_in_between_leaves_nothing_behind(house: House, tmp_path: Path) -> None:
    recording = await house.a_finished_recording()
    house.renderer.discard_failures = 1
    with pytest.raises(Unavailable):
        await house.deletion.delete(house.account, recording.id)
    await house.deletion.close()  # before it is tried again
    house.renderer.discarded.clear()
    after = restarted(house)
    await after.deletion.recover()
    async with asyncio.timeout(5):
        while house.renderer.discarded != [recording.id]:
            await asyncio.sleep(0.01)
    await after.deletion.close()
    assert kept(tmp_path) == []


async def test_an_mp3_that_is_being_made_does_not_come_back(house: House, tmp_path: Path) -> None:
    recording = await house.a_finished_recording()
    house.renderer.may_encode.clear()
    fetch = asyncio.create_task(house.audio.open(recording, MediaFormat.MP3))
    while not list((tmp_path / "scratch").glob("tmp*/")):
        await asyncio.sleep(0.01)
    delete = asyncio.create_task(house.deletion.delete(house.account, recording.id))
    await asyncio.wait({delete}, timeout=0.1)
    late = asyncio.create_task(house.audio.open(recording, MediaFormat.WAV, mixed=True))
    assert await late is None
    house.renderer.may_encode.set()
    await asyncio.gather(fetch, delete)
    assert kept(tmp_path) == []


async def test_a_call_goes_once_it_is_over_and_its_recordings_stay(house: House) -> None:
    recording = await house.a_finished_recording()
    with pytest.raises(Unfinished):
        await house.calls.delete(house.account, recording.call_id)
    stranger = await a_stranger(house)
    with pytest.raises(NotFound):
        await house.calls.delete(stranger, recording.call_id)
    await house.calls.ended(recording.call_id, CallStatus.COMPLETED, reason="BYE")
    await house.calls.delete(house.account, recording.call_id)
    with pytest.raises(NotFound):
        await house.calls.get(house.account, recording.call_id)
    assert await house.recordings.get(house.account, recording.id) == recording
