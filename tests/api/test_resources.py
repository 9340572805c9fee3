"""Every object, in both dialects, against the vendor's schema where it is at hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from callreel.api.resources import View, call_object, recording_object
from callreel.calls.model import (
    CallStatus,
    RecordingChannels,
    RecordingRequest,
    RecordingStatus,
)
from tests.store.samples import ACCOUNT, NOW, OTHER, a_call, a_recording

SCHEMA = Path(__file__).parents[3] / "shared/contract/openapi-recordings-calls.json"
SIGNALWIRE = View(ACCOUNT, "/api/laml", "https://rec.example.com")
TWILIO = View(OTHER, "", "https://rec.example.com")

RUNNING = replace(a_recording(request=RecordingRequest(RecordingChannels.DUAL)), start_time=NOW)
COMPLETED = replace(
    RUNNING,
    status=RecordingStatus.COMPLETED,
    end_time=NOW + timedelta(seconds=94),
    duration_ms=94_020,
)
ABSENT = replace(RUNNING, status=RecordingStatus.ABSENT, error_code=16102, duration_ms=0)
ENDED = replace(
    a_call(),
    status=CallStatus.COMPLETED,
    start_time=NOW,
    end_time=NOW + timedelta(seconds=61),
    sip_result_code=200,
)


def vendor(name: str) -> Draft202012Validator:
    if not SCHEMA.exists():
        pytest.skip("the vendor's schema is not at hand")
    document = json.loads(SCHEMA.read_text())
    root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return Draft202012Validator(root)


@pytest.mark.parametrize("recording", [RUNNING, COMPLETED, ABSENT])
def test_recordings_are_what_the_vendors_schema_says(recording: Any) -> None:
    vendor("Recording").validate(recording_object(SIGNALWIRE, recording, under_call=True))


@pytest.mark.parametrize("call", [a_call(), ENDED])
def test_calls_are_what_the_vendors_schema_says(call: Any) -> None:
    vendor("Call").validate(call_object(SIGNALWIRE, call))


def test_every_field_of_the_page_is_there() -> None:
    shown = recording_object(SIGNALWIRE, COMPLETED, under_call=True)
    assert shown == {
        "sid": "00000000-0000-0000-0000-000000000014",
        "account_sid": "00000000-0000-0000-0000-000000000001",
        "api_version": "2010-04-01",
        "call_sid": "00000000-0000-0000-0000-00000000000a",
        "conference_sid": None,
        "channel": "2",
        "channels": "2",
        "date_created": "Sun, 22 Nov 2026 09:30:00 +0000",
        "date_updated": "Sun, 22 Nov 2026 09:30:00 +0000",
        "start_time": "Sun, 22 Nov 2026 09:30:00 +0000",
        "end_time": "Sun, 22 Nov 2026 09:31:34 +0000",
        "duration": 94,
        "price": None,
        "price_unit": "USD",
        "source": "StartCallRecordingApi",
        "status": "completed",
        "error_code": None,
        "uri": "/api/laml/2010-04-01/Accounts/00000000-0000-0000-0000-000000000001"
        "/Recordings/00000000-0000-0000-0000-000000000014.json",
        "subresource_uris": {
            "transcriptions": "/api/laml/2010-04-01/Accounts/00000000-0000-0000-0000-000000000001"
            "/Recordings/00000000-0000-0000-0000-000000000014/Transcriptions.json"
        },
        "encryption_details": None,
        "trim": "do-not-trim",
    }


def test_twilio_has_its_own_types() -> None:
    shown = recording_object(TWILIO, COMPLETED, under_call=True)
    assert shown["sid"] == "RE" + "0" * 30 + "14"
    assert shown["channels"] == 2
    assert shown["duration"] == "94"
    assert shown["source"] == "StartCallRecordingAPI"
    assert shown["track"] == "both"
    assert shown["uri"].endswith(f"/Calls/CA{'0' * 30}0a/Recordings/RE{'0' * 30}14.json")
    assert not {"channel", "trim", "end_time", "subresource_uris", "media_url"} & shown.keys()
    listed = recording_object(TWILIO, ABSENT, under_call=False)
    assert listed["error_code"] == 16102
    assert listed["media_url"] == "https://rec.example.com" + listed["uri"].removesuffix(".json")
    assert "track" not in listed
    assert recording_object(TWILIO, RUNNING, under_call=True)["duration"] is None


def test_a_call_lasts_whole_seconds_once_it_has_ended() -> None:
    assert call_object(SIGNALWIRE, ENDED)["duration"] == 61
    assert call_object(TWILIO, ENDED)["duration"] == "61"
    assert call_object(TWILIO, a_call())["duration"] is None
