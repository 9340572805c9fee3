from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.base.errors import CallreelError, UsageError
from callreel.calls.model import (
    CallStatus,
    Dialect,
    PauseBehavior,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
)
from callreel.service import finishing as finishing_module, recordings as recordings_module
from callreel.service.accounts import AccountService, Bootstrap, dialect_of
from callreel.service.errors import NotFound, NotInProgress, Unavailable
from callreel.service.recovery import recover
from callreel.store import recordings
from callreel.store.database import DatabaseUnavailable
from callreel.store.recordings import RecordingFilter
from callreel.store.schema import deliveries
from tests.service.conftest import ALL_EVENTS, House, restarted

PLAIN = RecordingRequest()


async def test_from_start_to_completed_with_both_webhooks_in_order(house: House) -> None:
    call = await house.a_call()
    started, made = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    assert made
    assert started.start_time is not None
    stopped = await house.recordings.stop(started)
    assert stopped.status is RecordingStatus.STOPPED
    assert await house.finishing.drain(5)
    done = await house.recordings.get(house.account, started.id)
    assert (done.status, done.duration_ms) == (RecordingStatus.COMPLETED, 1000)
    assert await house.store.head(f"{done.media_key}.wav") is not None
    assert await house.store.head(f"{done.media_key}.json") is not None
    assert house.renderer.discarded == [started.id]
    first, then = await house.owed(started.id)
    assert (first.event, then.event, then.after) == ("in-progress", "completed", first.id)
    assert then.fields["RecordingDuration"] == "1"
    assert then.fields["RecordingUrl"].startswith("https://rec.example.com/api/laml/2010-04-01/")
    assert len(house.notified) == 2


async def test_a_second_start_gives_the_first_and_other_sources_run_beside_it(
    house: House,
) -> None:
    call = await house.a_call()
    results = await asyncio.gather(
        *(house.recordings.start(house.account, call.id, PLAIN) for _ in range(5))
    )
    assert [made for _, made in results].count(True) == 1
    assert len({recording.id for recording, _ in results}) == 1
    beside, made = await house.recordings.start(
        house.account, call.id, PLAIN, source=RecordingSource.TRUNKING
    )
    assert made
    assert beside.id != results[0][0].id
    newest = await house.recordings.current(house.account, call.id)
    assert newest.id == beside.id


async def test_a_worker_that_cannot_leaves_nothing_behind(house: House) -> None:
    call = await house.a_call()
    house.media.fail.add("start")
    with pytest.raises(Unavailable):
        await house.recordings.start(house.account, call.id, ALL_EVENTS)
    page = await house.recordings.page(house.account, RecordingFilter(), size=9, position=None)
    assert page.items == ()
    assert house.notified == []
    house.media.fail.clear()
    _, made = await house.recordings.start(house.account, call.id, PLAIN)
    assert made


async def test_only_a_call_in_progress_of_ones_own_can_be_recorded(house: House) -> None:
    call = await house.a_call()
    with pytest.raises(NotFound):
        await house.recordings.start(house.account, "f" * 32, PLAIN)
    await house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
    with pytest.raises(NotInProgress):
        await house.recordings.start(house.account, call.id, PLAIN)


async def test_pause_and_resume_are_idempotent_and_stop_is_final(house: House) -> None:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
    paused = await house.recordings.pause(recording, PauseBehavior.SKIP)
    again = await house.recordings.pause(paused, PauseBehavior.SILENCE)
    assert again.pause_behavior is PauseBehavior.SKIP
    assert (await house.recordings.resume(paused)).status is RecordingStatus.IN_PROGRESS
    await house.recordings.resume(paused)
    await house.recordings.pause(recording, PauseBehavior.SILENCE)
    await house.recordings.stop(recording)
    for step in (
        house.recordings.stop(recording),
        house.recordings.resume(recording),
        house.recordings.pause(recording, PauseBehavior.SKIP),
    ):
        with pytest.raises(NotInProgress):
            await step
    steps = [name for name, _ in house.media.log]
    assert steps == ["start", "pause", "resume", "pause", "stop"]


async def test_a_stop_that_races_the_hang_up_stops_once(house: House) -> None:
    for _ in range(20):
        call = await house.a_call()
        recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
        steps = [
            house.recordings.stop(recording),
            house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE"),
        ]
        random.shuffle(steps)
        await asyncio.gather(*steps, return_exceptions=True)
        stops = [about for name, about in house.media.log if name == "stop"]
        assert stops.count(recording.id) == 1
    assert await house.finishing.drain(5)


async def test_what_fails_is_tried_again_and_the_journal_stays_until_it_is_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing_module, "_FIRST_PAUSE_S", 0.01)
    house.renderer.failures = 3
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    await house.recordings.stop(recording)
    await asyncio.sleep(0)
    assert house.renderer.discarded == []
    assert await house.finishing.drain(5)
    done = await house.recordings.get(house.account, recording.id)
    assert done.status is RecordingStatus.COMPLETED
    assert house.renderer.discarded == [recording.id]
    assert [one.event for one in await house.owed(recording.id)] == ["in-progress", "completed"]


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.01)


async def test_nothing_is_finished_before_the_worker_has_stopped(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings_module, "_STOP_AGAIN_S", 0.01)
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    house.media.silent = {"stop"}
    stopped = await house.recordings.stop(recording)
    assert stopped.status is RecordingStatus.STOPPED
    stops = len(house.media.log)
    await _until(lambda: len(house.media.log) > stops)
    assert house.renderer.rendered == []
    house.media.silent = set()
    await _until(lambda: house.renderer.discarded == [recording.id])
    done = await house.recordings.get(house.account, recording.id)
    assert done.status is RecordingStatus.COMPLETED
    assert house.media.live == {}
    # Nothing is kept of what came since we said that it had stopped.
    assert house.media.stopped_until[-1] == stopped.end_time


async def test_a_refused_start_is_undone_once_the_worker_answers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings_module, "_STOP_AGAIN_S", 0.01)
    call = await house.a_call()
    house.media.silent = {"start"}
    with pytest.raises(Unavailable):
        await house.recordings.start(house.account, call.id, ALL_EVENTS)
    (started,) = [about for name, about in house.media.log if name == "start"]
    await _until(lambda: house.renderer.discarded == [started])
    assert ("stop", started) in house.media.log
    assert house.renderer.rendered == []


@pytest.mark.parametrize("refused", [False, True], ids=["not-noted", "not-started"])
async def test_a_start_that_is_being_undone_is_given_to_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """The row is there until the database takes its removal: whoever asks again meanwhile must not
    be told that the recording runs, for it is deleted then."""
    monkeypatch.setattr(recordings_module, "_STOP_AGAIN_S", 0.3)
    call = await house.a_call()
    database, begin = house.context.database, house.context.database.begin
    away = [False, True, True]

    @asynccontextmanager
    async def failing() -> AsyncIterator[AsyncConnection]:
        if away and away.pop(0):
            raise DatabaseUnavailable("it was to be away")
        async with begin() as connection:
            yield connection

    monkeypatch.setattr(database, "begin", failing)
    house.media.silent = {"start"} if refused else set()
    with pytest.raises(Unavailable):
        await house.recordings.start(house.account, call.id, ALL_EVENTS)
    house.media.silent = set()
    await _until(lambda: away == [])
    with pytest.raises(Unavailable, match="undone"):
        await house.recordings.start(house.account, call.id, ALL_EVENTS)
    (doomed,) = [about for name, about in house.media.log if name == "start"]
    await _until(lambda: house.renderer.discarded == [doomed])
    recording, is_new = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    assert is_new
    assert recording.id != doomed
    assert list(house.media.live) == [recording.id]
    assert (await house.recordings.get(house.account, recording.id)).is_live


async def test_what_is_completed_is_not_rendered_again_where_its_journal_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing_module, "_FIRST_PAUSE_S", 0.01)
    house.renderer.discard_failures = 2
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    stopped = await house.recordings.stop(recording)
    assert await house.finishing.drain(5)
    assert house.renderer.discarded == [recording.id]
    house.finishing.enqueue(stopped)  # as if taken for unfinished still
    assert await house.finishing.drain(5)
    assert house.renderer.rendered == [recording.id]
    assert [one.event for one in await house.owed(recording.id)] == ["in-progress", "completed"]


async def test_absent_says_why(house: House) -> None:
    house.renderer.absent_code = 16102
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    await house.recordings.stop(recording)
    assert await house.finishing.drain(5)
    done = await house.recordings.get(house.account, recording.id)
    assert (done.status, done.error_code) == (RecordingStatus.ABSENT, 16102)
    assert (await house.owed(recording.id))[-1].fields["ErrorCode"] == "16102"


async def test_only_what_was_asked_for_is_owed(house: House) -> None:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
    await house.recordings.stop(recording)
    assert await house.finishing.drain(5)
    assert await house.owed(recording.id) == []


@pytest.mark.parametrize("worker_remembers", [True, False])
async def test_a_restart_ends_what_was_live_and_finishes_it(
    house: House, worker_remembers: bool
) -> None:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    await house.finishing.close()
    if not worker_remembers:
        house.media.live.clear()
        house.media.fail |= {"stop", "close"}
    later = restarted(house)
    await recover(later.context, later.calls, later.recordings, later.finishing)
    assert await later.finishing.drain(5)
    done = await later.recordings.get(house.account, recording.id)
    assert done.status is RecordingStatus.COMPLETED
    ended = await later.calls.get(house.account, call.id)
    assert ended.status is CallStatus.COMPLETED
    assert [one.event for one in await later.owed(recording.id)] == ["in-progress", "completed"]
    await recover(later.context, later.calls, later.recordings, later.finishing)
    assert len(await later.owed(recording.id)) == 2
    await later.finishing.close()


async def test_a_restart_closes_calls_that_were_over_but_not_closed(house: House) -> None:
    call = await house.a_call()
    await house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
    house.media.live["e" * 32] = call.id  # a worker has it still
    later = restarted(house)
    await recover(later.context, later.calls, later.recordings, later.finishing)
    assert ("close", call.id) in house.media.log


async def test_the_first_account_is_made_once(house: House) -> None:
    accounts = AccountService(house.context)
    again = await accounts.ensure_first(Bootstrap())
    assert again == house.account
    with pytest.raises(UsageError, match="another"):
        await accounts.ensure_first(Bootstrap(account_sid="AC" + "9" * 32))
    token = house.account.auth_token
    assert await accounts.ensure_first(Bootstrap(auth_token=token)) == house.account
    with pytest.raises(UsageError, match="token"):
        await accounts.ensure_first(Bootstrap(auth_token=token + "x"))
    with pytest.raises(UsageError, match="UUID"):
        await accounts.ensure_first(Bootstrap(account_sid="me"))


async def test_credentials_are_the_accounts_own_for_its_own_path(house: House) -> None:
    sid, token = house.account.id, house.account.auth_token
    accounts = house.accounts
    assert await accounts.authenticate(sid, token, sid, source="") == house.account
    for user, password, path in (
        (sid, token + "x", sid),
        (sid, "", sid),
        (sid, token, "f" * 32),
        ("f" * 32, token, "f" * 32),
        ("", "", ""),
        ("nobody", token, sid),
        (sid, "pässwörd", sid),
    ):
        assert await accounts.authenticate(user, password, path, source="") is None


def test_a_sids_form_decides_the_dialect() -> None:
    assert dialect_of("b3877c40-da60-4998-90ad-b792e98472af") is Dialect.SIGNALWIRE
    assert dialect_of("AC" + "a" * 32) is Dialect.TWILIO
    assert dialect_of("RE" + "a" * 32) is None
    assert dialect_of("a" * 32) is None


def test_refusals_are_of_our_family() -> None:
    assert all(issubclass(one, CallreelError) for one in (NotFound, NotInProgress, Unavailable))


@pytest.mark.parametrize("worker_remembers", [True, False])
async def test_a_call_that_is_taken_up_goes_on_and_only_what_no_worker_keeps_ends(
    house: House, worker_remembers: bool
) -> None:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
    await house.finishing.close()
    if not worker_remembers:
        house.media.live.clear()
    later = restarted(house)
    assert await later.calls.sessions() == {call.id: "{}"}
    await recover(later.context, later.calls, later.recordings, later.finishing, taken_up=[call.id])
    assert (await later.calls.get(house.account, call.id)).status is CallStatus.IN_PROGRESS
    found = await later.recordings.get(house.account, recording.id)
    if worker_remembers:
        assert found == recording
        await later.recordings.stop(found)
    else:
        assert not found.is_live
    await later.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
    assert await later.calls.sessions() == {}
    assert await later.finishing.drain(5)
    await later.finishing.close()


async def test_a_start_that_was_not_noted_before_the_crash_is_noted_after_it(
    house: House,
) -> None:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    unnoted = replace(recording, start_time=None)
    async with house.context.database.begin() as connection:
        seal = house.context.database.seal
        await recordings.save(connection, seal, unnoted, expected=recording.status)
        await connection.execute(delete(deliveries))
    later = restarted(house)
    await recover(later.context, later.calls, later.recordings, later.finishing, taken_up=[call.id])
    found = await later.recordings.get(house.account, recording.id)
    assert found.start_time is not None
    assert [one.event for one in await later.owed(recording.id)] == ["in-progress"]
    assert len(house.notified) == 2
    await later.recordings.stop(found)
    assert await later.finishing.drain(5)
    await later.finishing.close()


@pytest.mark.parametrize("call_is_there", [True, False])
async def test_what_a_worker_keeps_no_more_goes_on_or_ends(
    house: House, call_is_there: bool
) -> None:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
    house.media.live.clear()
    house.media.fail = set() if call_is_there else {"start"}
    await house.recordings.not_kept(recording.id)
    found = await house.recordings.get(house.account, recording.id)
    assert found.is_live is call_is_there
    assert list(house.media.live) == ([recording.id] if call_is_there else [])
    if call_is_there:
        await house.recordings.stop(found)
    assert await house.finishing.drain(5)
    await house.recordings.not_kept(recording.id)  # it is over: nothing
    await house.recordings.not_kept("0" * 32)
    done = await house.recordings.get(house.account, recording.id)
    assert done.status is RecordingStatus.COMPLETED


async def test_a_paused_one_that_is_not_kept_any_more_ends(house: House) -> None:
    """To begin it anew would keep a moment of what was not to be kept."""
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
    await house.recordings.pause(recording, PauseBehavior.SILENCE)
    house.media.live.clear()
    await house.recordings.not_kept(recording.id)
    assert house.media.live == {}
    assert not (await house.recordings.get(house.account, recording.id)).is_live


@pytest.mark.parametrize("step", ["pause", "resume"])
async def test_a_worker_that_answers_late_is_set_right_by_the_row(house: House, step: str) -> None:
    """It may have paused, or gone on, although we told the caller that it had not."""
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, PLAIN)
    if step == "resume":
        await house.recordings.pause(recording, PauseBehavior.SKIP)
    house.media.silent.add(step)
    house.media.log.clear()
    with pytest.raises(Unavailable):
        if step == "pause":
            await house.recordings.pause(recording, PauseBehavior.SKIP)
        else:
            await house.recordings.resume(recording)
    house.media.silent.clear()
    opposite = "resume" if step == "pause" else "pause"
    async with asyncio.timeout(5):
        while (opposite, recording.id) not in house.media.log:
            await asyncio.sleep(0.01)
    found = await house.recordings.get(house.account, recording.id)
    expected = RecordingStatus.IN_PROGRESS if step == "pause" else RecordingStatus.PAUSED
    assert found.status is expected
    await house.recordings.stop(found)
    assert await house.finishing.drain(5)


async def test_a_journal_left_after_the_end_is_deleted_and_an_unknown_one_is_not(
    house: House,
) -> None:
    call = await house.a_call()
    done, _ = await house.recordings.start(house.account, call.id, PLAIN)
    await house.recordings.stop(done)
    assert await house.finishing.drain(5)
    live, _ = await house.recordings.start(house.account, call.id, PLAIN)
    house.renderer.discarded.clear()
    house.renderer.left = [done.id, live.id, "f" * 32]
    await house.finishing.discard_left()
    assert house.renderer.discarded == [done.id]
    await house.recordings.stop(live)
    assert await house.finishing.drain(5)
