"""Rows to store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from callreel.calls.model import (
    Account,
    Call,
    CallDirection,
    CallStatus,
    Dialect,
    Participant,
    Recording,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
    Track,
)

NOW = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)


def an_id(number: int) -> str:
    return f"{number:032x}"


ACCOUNT = Account(an_id(1), Dialect.SIGNALWIRE, "a-token", "a-token", NOW)
OTHER = Account(an_id(2), Dialect.TWILIO, "b-token", "b-key", NOW + timedelta(seconds=1))


def a_call(number: int = 10, account: Account = ACCOUNT, at: datetime = NOW) -> Call:
    return Call(
        id=an_id(number),
        account_id=account.id,
        status=CallStatus.RINGING,
        direction=CallDirection.INBOUND,
        from_="+15550100",
        to="+15550199",
        created_at=at,
        updated_at=at,
        participants=(
            Participant("sip:+15550100@pbx.example.com", "Ann", Track.INBOUND),
            Participant("sip:+15550199@pbx.example.com"),
        ),
    )


def a_recording(
    number: int = 20,
    call: int = 10,
    *,
    request: RecordingRequest | None = None,
    at: datetime = NOW,
) -> Recording:
    return Recording(
        id=an_id(number),
        account_id=ACCOUNT.id,
        call_id=an_id(call),
        status=RecordingStatus.IN_PROGRESS,
        source=RecordingSource.START_CALL_RECORDING_API,
        request=request or RecordingRequest(),
        created_at=at,
        updated_at=at,
    )
