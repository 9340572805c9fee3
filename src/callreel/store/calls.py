"""Calls and the versions of their SIPREC metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.base.errors import CallreelError
from callreel.calls.model import Call, CallDirection, CallStatus, Participant, Track
from callreel.calls.states import CALL_TRANSITIONS
from callreel.store.pages import Page, Position, fetch_page
from callreel.store.schema import call_metadata, calls


class WrongState(CallreelError):
    """The row is not in a state from which this step may be taken; nothing was changed."""


@dataclass(frozen=True, slots=True)
class CallFilter:
    """What a list of calls may be narrowed by (contract §10.2)."""

    to: str | None = None
    """Exactly this callee."""
    from_: str | None = None
    """Exactly this caller."""
    status: CallStatus | None = None
    """Only calls that stand here."""
    parent_call_id: str | None = None
    """Only legs of this call."""
    start_from: datetime | None = None
    """Answered at or after this instant."""
    start_before: datetime | None = None
    """Answered before this instant."""
    end_from: datetime | None = None
    """Ended at or after this instant."""
    end_before: datetime | None = None
    """Ended before this instant."""


# Made once, with the values handed in: to make a statement anew each time costs more than to
# execute it.
_ADD = insert(calls)
_GET = select(calls).where(calls.c.id == bindparam("wanted"))
_SAVE = update(calls).where(
    calls.c.id == bindparam("saved_id"), calls.c.status == bindparam("expected")
)
_OF_CALL = bindparam("of_call", type_=call_metadata.c.call_id.type)
_ADD_METADATA = (
    insert(call_metadata)
    .from_select(
        ["call_id", "version", "received_at", "content_type", "body"],
        select(
            _OF_CALL,
            func.coalesce(func.max(call_metadata.c.version), 0) + 1,
            *(
                bindparam(name, type_=call_metadata.c[name].type)
                for name in ("received_at", "content_type", "body")
            ),
        ).where(call_metadata.c.call_id == _OF_CALL),
    )
    .returning(call_metadata.c.version)
)


async def add(connection: AsyncConnection, call: Call) -> None:
    """Store a new call."""
    await connection.execute(_ADD, _values(call))


async def get(
    connection: AsyncConnection, call_id: str, *, account_id: str | None = None
) -> Call | None:
    """One call, of this account if one is given; or None."""
    row = (await connection.execute(_GET, {"wanted": call_id})).first()
    if row is not None and account_id is not None and row.account_id != account_id:
        return None
    return None if row is None else _call(row)


async def save(connection: AsyncConnection, call: Call, *, expected: CallStatus) -> None:
    """Write a call back. Raises :class:`WrongState` unless its row still is ``expected``."""
    if call.status is not expected and call.status not in CALL_TRANSITIONS[expected]:
        raise WrongState(f"a call cannot go from {expected.value} to {call.status.value}")
    done = await connection.execute(
        _SAVE, {"saved_id": call.id, "expected": expected.value, **_values(call)}
    )
    if done.rowcount != 1:
        raise WrongState(f"call {call.id} is not {expected.value}")


async def remove(connection: AsyncConnection, call_id: str) -> None:
    """Forget a call and its metadata. Its recordings stay."""
    await connection.execute(delete(calls).where(calls.c.id == call_id))


async def page(
    connection: AsyncConnection,
    account_id: str,
    chosen: CallFilter,
    *,
    size: int,
    position: Position | None = None,
) -> Page[Call]:
    """An account's calls, newest first."""
    query = select(calls).where(calls.c.account_id == account_id)
    if chosen.to is not None:
        query = query.where(calls.c.to == chosen.to)
    if chosen.from_ is not None:
        query = query.where(calls.c.from_ == chosen.from_)
    if chosen.status is not None:
        query = query.where(calls.c.status == chosen.status.value)
    if chosen.parent_call_id is not None:
        query = query.where(calls.c.parent_call_id == chosen.parent_call_id)
    if chosen.start_from is not None:
        query = query.where(calls.c.start_time >= chosen.start_from)
    if chosen.start_before is not None:
        query = query.where(calls.c.start_time < chosen.start_before)
    if chosen.end_from is not None:
        query = query.where(calls.c.end_time >= chosen.end_from)
    if chosen.end_before is not None:
        query = query.where(calls.c.end_time < chosen.end_before)
    return await fetch_page(
        connection, query, calls.c.created_at, calls.c.id, _call, size=size, position=position
    )


async def live(connection: AsyncConnection, account_id: str | None = None) -> Sequence[Call]:
    """The calls that have not ended: of this account if one is given, else of all."""
    statuses = [status.value for status, then in CALL_TRANSITIONS.items() if then]
    query = select(calls).where(calls.c.status.in_(statuses))
    if account_id is not None:
        # Live ones are few, whatever the account has besides: they are to be found by status.
        query = query.where(func.coalesce(calls.c.account_id, "") == account_id)
    return [_call(row) for row in await connection.execute(query)]


async def some(
    connection: AsyncConnection, account_id: str, call_ids: Sequence[str]
) -> Sequence[Call]:
    """Those of these calls that are of this account and known still, in no order."""
    found = await connection.execute(
        select(calls).where(calls.c.id.in_(call_ids), calls.c.account_id == account_id)
    )
    return [_call(row) for row in found]


async def add_metadata(
    connection: AsyncConnection,
    call_id: str,
    *,
    received_at: datetime,
    content_type: str,
    body: bytes,
) -> int:
    """Keep one more version of a call's metadata; returns its number, from 1."""
    version: int = await connection.scalar(
        _ADD_METADATA,
        {
            "of_call": call_id,
            "received_at": received_at,
            "content_type": content_type,
            "body": body,
        },
    )
    return version


async def metadata_versions(connection: AsyncConnection, call_id: str) -> Sequence[bytes]:
    """Every version of a call's metadata as it was received, oldest first."""
    found = await connection.execute(
        select(call_metadata.c.body)
        .where(call_metadata.c.call_id == call_id)
        .order_by(call_metadata.c.version)
    )
    return [row.body for row in found]


def _values(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "account_id": call.account_id,
        "status": call.status.value,
        "direction": call.direction.value,
        "from_": call.from_,
        "to": call.to,
        "created_at": call.created_at,
        "updated_at": call.updated_at,
        "start_time": call.start_time,
        "end_time": call.end_time,
        "caller_name": call.caller_name,
        "peer": call.peer,
        "sip_call_id": call.sip_call_id,
        "sip_result_code": call.sip_result_code,
        "parent_call_id": call.parent_call_id,
        "participants": json.dumps(
            [
                {"aor": one.aor, "name": one.name, "track": one.track and one.track.value}
                for one in call.participants
            ]
        ),
        "end_reason": call.end_reason,
    }


def _call(row: Row[Any]) -> Call:
    return Call(
        id=row.id,
        account_id=row.account_id,
        status=CallStatus(row.status),
        direction=CallDirection(row.direction),
        from_=row.from_,
        to=row.to,
        created_at=row.created_at,
        updated_at=row.updated_at,
        start_time=row.start_time,
        end_time=row.end_time,
        caller_name=row.caller_name,
        peer=row.peer,
        sip_call_id=row.sip_call_id,
        sip_result_code=row.sip_result_code,
        parent_call_id=row.parent_call_id,
        participants=tuple(
            Participant(one["aor"], one["name"], one["track"] and Track(one["track"]))
            for one in json.loads(row.participants)
        ),
        end_reason=row.end_reason,
    )
