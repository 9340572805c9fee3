"""Recordings: what was asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    delete as delete_from,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import (
    Callback,
    CallbackEvent,
    CallbackMethod,
    CallDirection,
    PauseBehavior,
    Recording,
    RecordingChannels,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
    RecordingTrack,
    Trim,
)
from callreel.calls.states import RECORDING_TRANSITIONS
from callreel.store.calls import WrongState
from callreel.store.pages import Page, Position, fetch_page
from callreel.store.schema import calls, recordings
from callreel.store.seal import Seal

_FINISHED = (RecordingStatus.COMPLETED.value, RecordingStatus.ABSENT.value)
LIVE = (RecordingStatus.IN_PROGRESS, RecordingStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class RecordingFilter:
    """What a list of recordings may be narrowed by (contract §5.1)."""

    call_id: str | None = None
    """Only of this call."""
    created_from: datetime | None = None
    """Created at or after this instant."""
    created_before: datetime | None = None
    """Created before this instant."""
    statuses: tuple[RecordingStatus, ...] = ()
    """Only those that stand at one of these; all where there is none."""
    source: RecordingSource | None = None
    """Only what was started so."""
    shortest_ms: int | None = None
    """Only finished ones that are at least so long."""
    longest_ms: int | None = None
    """Only finished ones that are at most so long."""
    has_gaps: bool | None = None
    """Only finished ones with gaps, or without any."""
    direction: CallDirection | None = None
    """Only of calls of this direction that are known still."""
    party: str = ""
    """Only of calls known still in whose numbers, URIs or names this occurs, in any case."""


_NEWEST = (recordings.c.created_at.desc(), recordings.c.id.desc())

# Made once, with the values handed in: to make a statement anew each time costs more than to
# execute it.
_ADD = insert(recordings)
_GET = select(recordings).where(recordings.c.id == bindparam("wanted"))
_OF_CALL = select(recordings).where(recordings.c.call_id == bindparam("wanted")).order_by(*_NEWEST)
_SAVE = update(recordings).where(
    recordings.c.id == bindparam("saved_id"), recordings.c.status == bindparam("expected")
)


async def add(connection: AsyncConnection, seal: Seal, recording: Recording) -> None:
    """Store a new recording."""
    await connection.execute(_ADD, _values(recording, seal))


async def get(
    connection: AsyncConnection, seal: Seal, recording_id: str, *, account_id: str | None = None
) -> Recording | None:
    """One recording, of this account if one is given; or None."""
    row = (await connection.execute(_GET, {"wanted": recording_id})).first()
    if row is None or (account_id is not None and row.account_id != account_id):
        return None
    return _recording(row, seal)


async def save(
    connection: AsyncConnection, seal: Seal, recording: Recording, *, expected: RecordingStatus
) -> None:
    """Write a recording back. Raises ``WrongState`` unless its row still is ``expected``."""
    status = recording.status
    if status is not expected and status not in RECORDING_TRANSITIONS[expected]:
        raise WrongState(f"a recording cannot go from {expected.value} to {status.value}")
    done = await connection.execute(
        _SAVE, {"saved_id": recording.id, "expected": expected.value, **_values(recording, seal)}
    )
    if done.rowcount != 1:
        raise WrongState(f"recording {recording.id} is not {expected.value}")


async def remove(connection: AsyncConnection, recording_id: str) -> None:
    """Forget a recording's row."""
    await connection.execute(delete_from(recordings).where(recordings.c.id == recording_id))


async def of_call(connection: AsyncConnection, seal: Seal, call_id: str) -> Sequence[Recording]:
    """A call's recordings, newest first."""
    found = await connection.execute(_OF_CALL, {"wanted": call_id})
    return [_recording(row, seal) for row in found]


async def of_calls(
    connection: AsyncConnection, seal: Seal, call_ids: Sequence[str]
) -> Sequence[Recording]:
    """The recordings of these calls, newest first."""
    found = await connection.execute(
        select(recordings).where(recordings.c.call_id.in_(call_ids)).order_by(*_NEWEST)
    )
    return [_recording(row, seal) for row in found]


async def with_status(
    connection: AsyncConnection, seal: Seal, *statuses: RecordingStatus
) -> Sequence[Recording]:
    """Every account's recordings that stand at one of these, newest first."""
    wanted = [status.value for status in statuses]
    found = await connection.execute(
        select(recordings).where(recordings.c.status.in_(wanted)).order_by(*_NEWEST)
    )
    return [_recording(row, seal) for row in found]


@dataclass(frozen=True, slots=True)
class Expired:
    """A finished recording that is to go."""

    id: str
    """32 hex digits."""
    account_id: str
    """Whose it is."""
    size_bytes: int
    """Of its WAV."""


async def expired(
    connection: AsyncConnection,
    cutoffs: Mapping[str, datetime | None],
    by_days: Mapping[int, datetime],
    *,
    limit: int,
) -> Sequence[Expired]:
    """Some of the finished recordings that ended before their time, the oldest first.

    ``cutoffs``, by account, are for those that have no retention of their own (None: they stay);
    ``by_days`` for those that have, by its days.
    """
    mine = [
        and_(recordings.c.retention_days == days, recordings.c.end_time < before)
        for days, before in by_days.items()
    ]
    mine += [
        and_(
            recordings.c.account_id == account_id,
            recordings.c.retention_days.is_(None),
            recordings.c.end_time < before,
        )
        for account_id, before in cutoffs.items()
        if before is not None
    ]
    if not mine:
        return []
    found = await connection.execute(
        select(recordings.c.id, recordings.c.account_id, recordings.c.size_bytes)
        .where(recordings.c.status.in_(_FINISHED), or_(*mine))
        .order_by(recordings.c.end_time, recordings.c.id)
        .limit(limit)
    )
    return [Expired(row.id, row.account_id, row.size_bytes or 0) for row in found]


async def retentions(connection: AsyncConnection) -> Sequence[int]:
    """The retentions, in days, that recordings have of their own."""
    wanted = recordings.c.retention_days
    found = await connection.scalars(select(wanted).where(wanted.is_not(None)).distinct())
    return [int(days) for days in found]


async def ended_before(
    connection: AsyncConnection, before: datetime, *, account_id: str | None, limit: int
) -> Sequence[Expired]:
    """Some of the finished recordings that ended before an instant, the oldest first."""
    query = select(recordings.c.id, recordings.c.account_id, recordings.c.size_bytes).where(
        recordings.c.status.in_(_FINISHED), recordings.c.end_time < before
    )
    if account_id is not None:
        query = query.where(recordings.c.account_id == account_id)
    found = await connection.execute(
        query.order_by(recordings.c.end_time, recordings.c.id).limit(limit)
    )
    return [Expired(row.id, row.account_id, row.size_bytes or 0) for row in found]


async def after(
    connection: AsyncConnection, seal: Seal, last_id: str, *, limit: int
) -> Sequence[Recording]:
    """Every account's recordings in the order of their ids, those after ``last_id``."""
    found = await connection.execute(
        select(recordings).where(recordings.c.id > last_id).order_by(recordings.c.id).limit(limit)
    )
    return [_recording(row, seal) for row in found]


async def counts(connection: AsyncConnection) -> Mapping[RecordingStatus, int]:
    """How many stand where."""
    found = await connection.execute(
        select(recordings.c.status, func.count()).group_by(recordings.c.status)
    )
    return {RecordingStatus(status): int(count) for status, count in found}


async def page(
    connection: AsyncConnection,
    seal: Seal,
    account_id: str,
    chosen: RecordingFilter,
    *,
    size: int,
    position: Position | None = None,
) -> Page[Recording]:
    """An account's recordings, newest first."""
    return await fetch_page(
        connection,
        _chosen(account_id, chosen),
        recordings.c.created_at,
        recordings.c.id,
        lambda row: _recording(row, seal),
        size=size,
        position=position,
    )


def _chosen(account_id: str, chosen: RecordingFilter) -> Select[Any]:
    columns = recordings.c
    query = select(recordings).where(columns.account_id == account_id)
    if chosen.call_id is not None:
        query = query.where(columns.call_id == chosen.call_id)
    if chosen.created_from is not None:
        query = query.where(columns.created_at >= chosen.created_from)
    if chosen.created_before is not None:
        query = query.where(columns.created_at < chosen.created_before)
    if chosen.statuses:
        query = query.where(columns.status.in_([one.value for one in chosen.statuses]))
    if chosen.source is not None:
        query = query.where(columns.source == chosen.source.value)
    if chosen.shortest_ms is not None:
        query = query.where(columns.duration_ms >= chosen.shortest_ms)
    if chosen.longest_ms is not None:
        query = query.where(columns.duration_ms <= chosen.longest_ms)
    if chosen.has_gaps is not None:
        # Zero is written out, so that SQLite knows that its index of those with gaps will do.
        zero: ColumnElement[int] = literal_column("0")
        some = columns.gap_count > zero
        query = query.where(some if chosen.has_gaps else columns.gap_count == zero)
    if chosen.direction is not None or chosen.party:
        query = query.where(_of_a_call(account_id, chosen))
    return query


def _of_a_call(account_id: str, chosen: RecordingFilter) -> ColumnElement[bool]:
    """Looked up for each recording from the newest on: a page is full long before all are seen."""
    query = select(calls.c.id).where(
        calls.c.id == recordings.c.call_id, calls.c.account_id == account_id
    )
    if chosen.direction is not None:
        query = query.where(calls.c.direction == chosen.direction.value)
    if chosen.party:
        places = (calls.c.from_, calls.c.to, calls.c.caller_name, calls.c.participants)
        query = query.where(or_(*(_occurs(chosen.party, place) for place in places)))
    return query.exists()


def _occurs(text: str, place: ColumnElement[Any]) -> ColumnElement[bool]:
    return place.icontains(text, autoescape=True)


def _values(recording: Recording, seal: Seal) -> dict[str, Any]:
    callback = recording.request.callback
    return {
        "id": recording.id,
        "account_id": recording.account_id,
        "call_id": recording.call_id,
        "status": recording.status.value,
        "source": recording.source.value,
        "channels": recording.request.channels.value,
        "track": recording.request.track.value,
        "trim": recording.request.trim.value,
        "callback_url": callback and seal.seal(callback.url),
        "callback_method": callback and callback.method.value,
        "callback_events": callback and " ".join(sorted(e.value for e in callback.events)),
        "created_at": recording.created_at,
        "updated_at": recording.updated_at,
        "start_time": recording.start_time,
        "end_time": recording.end_time,
        "pause_behavior": recording.pause_behavior and recording.pause_behavior.value,
        "duration_ms": recording.duration_ms,
        "size_bytes": recording.size_bytes,
        "error_code": recording.error_code,
        "media_key": recording.media_key,
        "sha256": recording.sha256,
        "retention_days": recording.request.retention_days,
        "gap_count": recording.gap_count,
    }


def _recording(row: Row[Any], seal: Seal) -> Recording:
    callback = None
    if row.callback_url is not None:
        callback = Callback(
            url=seal.open(row.callback_url),
            method=CallbackMethod(row.callback_method),
            events=frozenset(CallbackEvent(name) for name in row.callback_events.split()),
        )
    return Recording(
        id=row.id,
        account_id=row.account_id,
        call_id=row.call_id,
        status=RecordingStatus(row.status),
        source=RecordingSource(row.source),
        request=RecordingRequest(
            channels=RecordingChannels(row.channels),
            track=RecordingTrack(row.track),
            trim=Trim(row.trim),
            callback=callback,
            retention_days=row.retention_days,
        ),
        created_at=row.created_at,
        updated_at=row.updated_at,
        start_time=row.start_time,
        end_time=row.end_time,
        pause_behavior=row.pause_behavior and PauseBehavior(row.pause_behavior),
        duration_ms=row.duration_ms,
        size_bytes=row.size_bytes,
        error_code=row.error_code,
        media_key=row.media_key,
        sha256=row.sha256,
        gap_count=row.gap_count,
    )
