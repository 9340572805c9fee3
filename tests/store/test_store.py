from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from callreel.base.errors import MachineError, UsageError
from callreel.calls.model import (
    Call,
    Callback,
    CallbackEvent,
    CallbackMethod,
    CallStatus,
    DeliveryState,
    RecordingRequest,
    RecordingStatus,
    Trim,
)
from callreel.store import accounts, calls, deliveries, recordings
from callreel.store.calls import CallFilter, WrongState
from callreel.store.database import Database
from callreel.store.deliveries import Attempt, OwedDelivery
from callreel.store.pages import Position
from callreel.store.recordings import RecordingFilter
from callreel.store.seal import Seal
from tests.store.samples import ACCOUNT, NOW, OTHER, a_call, a_recording, an_id


@pytest.fixture(autouse=True)
async def _accounts(database: Database) -> None:
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await accounts.add(connection, database.seal, OTHER)


async def test_account_comes_back_with_its_secrets(database: Database) -> None:
    async with database.read() as connection:
        assert await accounts.get(connection, database.seal, ACCOUNT.id) == ACCOUNT
        assert await accounts.get(connection, database.seal, OTHER.id) == OTHER
        assert await accounts.get(connection, database.seal, an_id(3)) is None
        assert await accounts.first(connection, database.seal) == ACCOUNT


async def test_call_comes_back_whole(database: Database) -> None:
    call = a_call()
    async with database.begin() as connection:
        await calls.add(connection, call)
    async with database.read() as connection:
        assert await calls.get(connection, call.id) == call
        assert await calls.get(connection, call.id, account_id=OTHER.id) is None
        assert await calls.live(connection) == [call]


async def test_call_moves_only_along_its_table(database: Database) -> None:
    call = a_call()
    answered = replace(call, status=CallStatus.IN_PROGRESS, start_time=NOW)
    async with database.begin() as connection:
        await calls.add(connection, call)
        await calls.save(connection, answered, expected=CallStatus.RINGING)
    with pytest.raises(WrongState):
        async with database.begin() as connection:
            await calls.save(connection, answered, expected=CallStatus.RINGING)
    with pytest.raises(WrongState):
        async with database.begin() as connection:
            back = replace(answered, status=CallStatus.RINGING)
            await calls.save(connection, back, expected=CallStatus.IN_PROGRESS)
    async with database.read() as connection:
        assert await calls.get(connection, call.id) == answered


async def test_calls_page_newest_first_both_ways(database: Database) -> None:
    made = [a_call(10 + n, at=NOW + timedelta(seconds=n // 2)) for n in range(7)]
    async with database.begin() as connection:
        for call in made:
            await calls.add(connection, call)
        await calls.add(connection, a_call(99, OTHER))
    newest_first = sorted(made, key=lambda call: (call.created_at, call.id), reverse=True)
    seen: list[Call] = []
    position: Position | None = None
    pages = []
    async with database.read() as connection:
        while True:
            page = await calls.page(connection, ACCOUNT.id, CallFilter(), size=3, position=position)
            pages.append(page)
            seen += page.items
            if page.next is None:
                break
            position = page.next
        assert seen == newest_first
        assert pages[0].previous is None
        back = await calls.page(
            connection, ACCOUNT.id, CallFilter(), size=3, position=pages[2].previous
        )
        assert back.items == pages[1].items
        first = await calls.page(
            connection, ACCOUNT.id, CallFilter(), size=3, position=back.previous
        )
        assert first.items == pages[0].items
        assert first.previous is None


async def test_calls_filter(database: Database) -> None:
    one = a_call(10)
    two = replace(
        a_call(11), to="sip:bob@example.com", status=CallStatus.IN_PROGRESS, start_time=NOW
    )
    async with database.begin() as connection:
        await calls.add(connection, one)
        await calls.add(connection, two)

    async def found(chosen: CallFilter) -> list[str]:
        async with database.read() as connection:
            page = await calls.page(connection, ACCOUNT.id, chosen, size=50)
            return [call.id for call in page.items]

    assert await found(CallFilter(to="sip:bob@example.com")) == [two.id]
    assert await found(CallFilter(status=CallStatus.RINGING)) == [one.id]
    assert await found(CallFilter(start_from=NOW)) == [two.id]
    assert await found(CallFilter(start_before=NOW)) == []
    assert await found(CallFilter(from_="' OR 1=1 --")) == []


async def test_every_metadata_version_is_kept(database: Database) -> None:
    async with database.begin() as connection:
        await calls.add(connection, a_call())
        for version, body in enumerate((b"<one/>", b"<two/>\x00\xff"), start=1):
            number = await calls.add_metadata(
                connection, an_id(10), received_at=NOW, content_type="a/b", body=body
            )
            assert number == version
    async with database.read() as connection:
        assert await calls.metadata_versions(connection, an_id(10)) == [
            b"<one/>",
            b"<two/>\x00\xff",
        ]


async def test_recording_comes_back_whole(database: Database) -> None:
    callback = Callback(
        "https://user:secret@example.com/cb?x=1",
        CallbackMethod.GET,
        frozenset({CallbackEvent.ABSENT, CallbackEvent.IN_PROGRESS}),
    )
    recording = a_recording(request=RecordingRequest(trim=Trim.TRIM_SILENCE, callback=callback))
    async with database.begin() as connection:
        await recordings.add(connection, database.seal, recording)
    async with database.read() as connection:
        assert await recordings.get(connection, database.seal, recording.id) == recording
        nobody = await recordings.get(connection, database.seal, recording.id, account_id=OTHER.id)
        assert nobody is None


async def test_recording_moves_only_along_its_table(database: Database) -> None:
    recording = a_recording()
    stopped = replace(recording, status=RecordingStatus.STOPPED, end_time=NOW)
    completed = replace(stopped, status=RecordingStatus.COMPLETED, duration_ms=1500)
    async with database.begin() as connection:
        await recordings.add(connection, database.seal, recording)
    with pytest.raises(WrongState):
        async with database.begin() as connection:
            await recordings.save(
                connection, database.seal, completed, expected=RecordingStatus.IN_PROGRESS
            )
    async with database.begin() as connection:
        await recordings.save(
            connection, database.seal, stopped, expected=RecordingStatus.IN_PROGRESS
        )
        await recordings.save(
            connection, database.seal, completed, expected=RecordingStatus.STOPPED
        )
    async with database.read() as connection:
        assert await recordings.get(connection, database.seal, recording.id) == completed


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.begin() as connection:
            await recordings.add(connection, database.seal, a_recording())
            raise RuntimeError
    async with database.read() as connection:
        assert await recordings.get(connection, database.seal, an_id(20)) is None


async def test_recordings_list_by_call_and_date(database: Database) -> None:
    made = [
        a_recording(20, 10, at=NOW),
        a_recording(21, 11, at=NOW + timedelta(days=1)),
        a_recording(22, 10, at=NOW + timedelta(days=2)),
    ]
    async with database.begin() as connection:
        for one in made:
            await recordings.add(connection, database.seal, one)

    async def found(chosen: RecordingFilter) -> list[int]:
        async with database.read() as connection:
            page = await recordings.page(connection, database.seal, ACCOUNT.id, chosen, size=50)
            return [int(one.id, 16) for one in page.items]

    assert await found(RecordingFilter()) == [22, 21, 20]
    assert await found(RecordingFilter(call_id=an_id(10))) == [22, 20]
    assert await found(RecordingFilter(created_from=NOW + timedelta(days=1))) == [22, 21]
    assert await found(RecordingFilter(created_before=NOW + timedelta(days=1))) == [20]


def _owed(number: int, event: str = "completed", after: str | None = None) -> OwedDelivery:
    return OwedDelivery(
        id=an_id(number),
        account_id=ACCOUNT.id,
        event=event,
        url="https://example.com/cb",
        method=CallbackMethod.POST,
        fields={"RecordingStatus": event},
        created_at=NOW,
        recording_id=an_id(20),
        after=after,
    )


async def test_outbox_holds_a_terminal_event_back_for_three_tries(database: Database) -> None:
    first, then = _owed(30, "in-progress"), _owed(31, after=an_id(30))
    async with database.begin() as connection:
        await deliveries.add(connection, database.seal, first)
        await deliveries.add(connection, database.seal, then)

    async def due() -> list[str]:
        async with database.read() as connection:
            found = await deliveries.due(connection, database.seal, NOW, limit=10, hold_tries=3)
            return [one.event for one in found]

    for _ in range(3):
        assert await due() == ["in-progress"]
        async with database.begin() as connection:
            attempt = Attempt(NOW, "timeout", 5000, error="no answer")
            await deliveries.record_attempt(
                connection, first.id, attempt, state=DeliveryState.PENDING, next_at=NOW
            )
    assert sorted(await due()) == ["completed", "in-progress"]
    async with database.begin() as connection:
        attempt = Attempt(NOW, "delivered", 12, status=204, answer=b"ok")
        await deliveries.record_attempt(
            connection, first.id, attempt, state=DeliveryState.DELIVERED, next_at=None
        )
    assert await due() == ["completed"]
    async with database.read() as connection:
        made = await deliveries.attempts_of(connection, first.id)
        assert [one.outcome for one in made] == ["timeout"] * 3 + ["delivered"]
        assert await deliveries.next_due_at(connection, hold_tries=3) == NOW


async def test_writers_queue_and_none_is_lost(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.begin() as connection:
            await calls.add(connection, a_call(number))

    await asyncio.gather(*(add(100 + n) for n in range(40)))
    async with database.read() as connection:
        assert len(await calls.live(connection)) == 40


async def test_secrets_are_not_readable_in_the_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"k" * 32))
    database.migrate()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, OTHER)
    await database.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"b-token" not in content
    assert b"b-key" not in content
    stranger = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"x" * 32))
    with pytest.raises(MachineError, match=r"server\.key"):
        async with stranger.read() as connection:
            await accounts.get(connection, stranger.seal, OTHER.id)
    await stranger.close()


def test_other_databases_are_refused() -> None:
    with pytest.raises(UsageError, match="postgresql"):
        Database("mysql://host/db", Seal(b"k" * 32))
