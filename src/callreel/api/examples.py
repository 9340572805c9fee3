"""Examples of answers, made by the same code as the answers themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from callreel.api.pages import DEFAULT_SIZE, PageRequest, page_object
from callreel.api.resources import View, call_object, recording_object
from callreel.calls.model import (
    Account,
    Call,
    CallDirection,
    CallStatus,
    Dialect,
    Recording,
    RecordingChannels,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
)
from callreel.store.pages import Page

_NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
_ACCOUNT_ID = "b3877c40da60499890adb792e98472af"
_CALL = Call(
    id="3fa85f6457174562b3fc2c963f66afa6",
    account_id=_ACCOUNT_ID,
    status=CallStatus.COMPLETED,
    direction=CallDirection.INBOUND,
    from_="+15550100",
    to="+15550199",
    created_at=_NOW,
    updated_at=_NOW + timedelta(seconds=120),
    start_time=_NOW,
    end_time=_NOW + timedelta(seconds=120),
    caller_name="Ann",
    sip_result_code=200,
)
_RECORDING = Recording(
    id="d411976dd3194fbd923c57c62b6f677a",
    account_id=_ACCOUNT_ID,
    call_id=_CALL.id,
    status=RecordingStatus.COMPLETED,
    source=RecordingSource.START_CALL_RECORDING_API,
    request=RecordingRequest(channels=RecordingChannels.DUAL),
    created_at=_NOW + timedelta(seconds=20),
    updated_at=_NOW + timedelta(seconds=121),
    start_time=_NOW + timedelta(seconds=20),
    end_time=_NOW + timedelta(seconds=114),
    duration_ms=94_000,
)
_LIVE = replace(_RECORDING, status=RecordingStatus.IN_PROGRESS, end_time=None, duration_ms=None)


def _view(dialect: Dialect) -> View:
    account = Account(_ACCOUNT_ID, dialect, "", "", _NOW)
    prefix = "" if dialect is Dialect.TWILIO else "/api/laml"
    return View(account, prefix, "https://callreel.example.com")


def _list(view: View, key: str, item: dict[str, Any], path: str) -> dict[str, Any]:
    asked = PageRequest(DEFAULT_SIZE, 0, None)
    return page_object(
        key,
        [item],
        Page((item,), None, None),
        asked,
        path=f"{view.account_path}{path}",
        filters=[],
        twilio=view.twilio,
    )


def _example(name: str, view: View) -> dict[str, Any] | None:
    match name:
        case "Call":
            return call_object(view, _CALL)
        case "CallList":
            return _list(view, "calls", call_object(view, _CALL), "/Calls.json")
        case "CallRecording" | "TwilioCallRecording":
            return recording_object(view, _LIVE, under_call=True)
        case "CallRecordingList":
            item = recording_object(view, _RECORDING, under_call=True)
            path = item["uri"].removeprefix(view.account_path).rpartition("/")[0]
            return _list(view, "recordings", item, f"{path}.json")
        case "Recording":
            return recording_object(view, _RECORDING, under_call=False)
        case "RecordingList":
            item = recording_object(view, _RECORDING, under_call=False)
            return _list(view, "recordings", item, "/Recordings.json")
    return None


def answer_examples(name: str) -> dict[str, Any]:
    """Examples of the schema of that name, by dialect; none for those that are the server's."""
    return {
        dialect.value: {"value": value}
        for dialect in Dialect
        if not (name.startswith("Twilio") and dialect is Dialect.SIGNALWIRE)
        and (value := _example(name, _view(dialect))) is not None
    }
