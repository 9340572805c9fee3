"""JSON Schemas of what the API answers: every resource and list in both dialects, the errors.

Exact keys and types (contract §§5.2, 6, 10.1, 11): what ``resources`` makes is tested against them.
Enumerations come from ``calls``, so that a new state cannot be forgotten here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from callreel.api.codes import Code
from callreel.calls.model import (
    CallDirection,
    CallStatus,
    Dialect,
    RecordingSource,
    RecordingStatus,
    RecordingTrack,
    Trim,
)
from callreel.calls.spelling import API_VERSION, Kind, source_name

Schema = dict[str, Any]

HEX = "[0-9a-f]{32}"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
WEEKDAYS = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
MONTHS = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_PREFIX = rf"(?:/api/laml)?/{API_VERSION}/Accounts/[^/]+"

TIME: Schema = {
    "type": "string",
    "pattern": rf"^{WEEKDAYS}, [0-9]{{2}} {MONTHS} [0-9]{{4}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} "
    r"\+0000$",
    "description": "RFC 2822, always UTC.",
    "examples": ["Tue, 25 Sep 2018 23:00:00 +0000"],
}


def reference(name: str) -> Schema:
    """A link to one of :func:`schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def enumeration(values: Iterable[Enum]) -> Schema:
    """One of the values of an enum."""
    return {"type": "string", "enum": [value.value for value in values]}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def closed(properties: Mapping[str, Schema], description: str) -> Schema:
    """An object with exactly these keys."""
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def sid(kind: Kind, dialect: Dialect) -> Schema:
    """A SID as answers spell it."""
    if dialect is Dialect.TWILIO:
        return {"type": "string", "pattern": f"^{kind.value}{HEX}$"}
    return {"type": "string", "format": "uuid", "pattern": f"^{UUID}$"}


def schemas() -> dict[str, Schema]:
    """Every schema by its name in the document."""
    both = (Dialect.SIGNALWIRE, Dialect.TWILIO)
    made = {
        "SignalWireRecording": closed(
            _recording(Dialect.SIGNALWIRE) | _signalwire_recording(),
            "A recording, in the SignalWire dialect.",
        ),
        "TwilioRecording": closed(
            _recording(Dialect.TWILIO) | _twilio_recording(),
            "A recording of the account, in the Twilio dialect.",
        ),
        "TwilioCallRecording": closed(
            _recording(Dialect.TWILIO) | _twilio_call_recording(),
            "A recording under its call, in the Twilio dialect.",
        ),
        "SignalWireCall": closed(
            _call(Dialect.SIGNALWIRE) | _signalwire_call(), "A call, in the SignalWire dialect."
        ),
        "TwilioCall": closed(
            _call(Dialect.TWILIO) | _twilio_call(), "A call, in the Twilio dialect."
        ),
    }
    for dialect, vendor in zip(both, ("SignalWire", "Twilio"), strict=True):
        for kind, key in (("Recording", "recordings"), ("Call", "calls")):
            made[f"{vendor}{kind}List"] = _list(dialect, key, f"{vendor}{kind}")
    made["TwilioCallRecordingList"] = _list(Dialect.TWILIO, "recordings", "TwilioCallRecording")
    return made | {
        "Recording": _either("SignalWireRecording", "TwilioRecording"),
        "CallRecording": _either("SignalWireRecording", "TwilioCallRecording"),
        "RecordingList": _either("SignalWireRecordingList", "TwilioRecordingList"),
        "CallRecordingList": _either("SignalWireRecordingList", "TwilioCallRecordingList"),
        "Call": _either("SignalWireCall", "TwilioCall"),
        "CallList": _either("SignalWireCallList", "TwilioCallList"),
        "Error": error(),
        "Health": _health(),
        "IntegrityReport": _report(),
    }


def error(codes: Iterable[Code] = tuple(Code), statuses: Iterable[int] = ()) -> Schema:
    """The four keys, of these codes; of any status unless some are named."""
    status: Schema = {"type": "integer", "description": "The HTTP status again."}
    named = list(statuses)
    return closed(
        {
            "code": {"type": "integer", "enum": [code.value for code in codes]},
            "message": {"type": "string", "description": "What was wrong, for people."},
            "more_info": {
                "type": "string",
                "description": "Absolute URL of a page that says what to do.",
                "pattern": "^https?://[^/]+.*/errors/[0-9]+$",
            },
            "status": status | ({"enum": named} if named else {}),
        },
        "Every refusal and failure.",
    )


def _either(signalwire: str, twilio: str) -> Schema:
    return {
        "oneOf": [reference(signalwire), reference(twilio)],
        "description": "In the dialect of the account.",
    }


def _one_of(*values: object) -> Schema:
    return {"enum": list(values)}


def _uri(path: str) -> Schema:
    return {
        "type": "string",
        "pattern": f"^{_PREFIX}{path}$",
        "description": "Relative to the host; begins with the prefix that the request came by.",
    }


def _always(value: object, description: str = "") -> Schema:
    said = {"description": description} if description else {}
    return {"const": value, **said}


_NOTHING = {"type": "null"}
_CHANNELS = "1, or 2 for one party a channel."
_ERROR_CODE = "16101: no media arrived; 16102: nothing left after trimming; else null."
_SECONDS: Schema = {"type": "string", "pattern": "^[0-9]+$"}


def _recording(dialect: Dialect) -> dict[str, Schema]:
    """What the dialects have in common but for spelling."""
    sources = dict.fromkeys(source_name(source, dialect) for source in RecordingSource)
    return {
        "sid": sid(Kind.RECORDING, dialect),
        "account_sid": sid(Kind.ACCOUNT, dialect),
        "api_version": _always(API_VERSION),
        "call_sid": nullable(sid(Kind.CALL, dialect)),
        "conference_sid": nullable(sid(Kind.CONFERENCE, dialect)),
        "date_created": TIME,
        "date_updated": TIME,
        "start_time": nullable(TIME),
        "price": _NOTHING | {"description": "Nothing is billed."},
        "price_unit": _always("USD"),
        "source": {"type": "string", "enum": list(sources), "description": "What started it."},
        "status": enumeration(RecordingStatus)
        | {"description": "`completed` means that the file can be fetched now."},
        "encryption_details": _NOTHING,
    }


def _signalwire_recording() -> dict[str, Schema]:
    channels: Schema = {"type": "string", "enum": ["1", "2"], "description": _CHANNELS}
    return {
        "channel": channels,
        "channels": channels,
        "end_time": nullable(TIME),
        "duration": {
            "type": "integer",
            "minimum": 0,
            "description": "Seconds of the file; 0 before it is finished.",
        },
        "error_code": {"enum": ["16101", "16102", None], "description": _ERROR_CODE},
        "uri": _uri(rf"(?:/Conferences/[^/]+)?/Recordings/{UUID}\.json"),
        "subresource_uris": closed(
            {"transcriptions": _uri(rf"/Recordings/{UUID}/Transcriptions\.json")},
            "Resources below this one; not there yet.",
        ),
        "trim": enumeration(Trim) | {"description": "The effective value."},
    }


def _twilio_common() -> dict[str, Schema]:
    return {
        "channels": {"type": "integer", "enum": [1, 2], "description": _CHANNELS},
        "duration": nullable(_SECONDS) | {"description": "Seconds of the file; null before."},
        "error_code": {"enum": [16101, 16102, None], "description": _ERROR_CODE},
    }


def _twilio_recording() -> dict[str, Schema]:
    return _twilio_common() | {
        "uri": _uri(rf"/Recordings/RE{HEX}\.json"),
        "subresource_uris": closed(
            {
                "add_on_results": _uri(rf"/Recordings/RE{HEX}/AddOnResults\.json"),
                "transcriptions": _uri(rf"/Recordings/RE{HEX}/Transcriptions\.json"),
            },
            "Resources below this one; not there yet.",
        ),
        "media_url": {
            "type": "string",
            "pattern": rf"^https?://[^/]+.*{_PREFIX}/Recordings/RE{HEX}$",
            "description": "Absolute URL of the audio, without an extension.",
        },
    }


def _twilio_call_recording() -> dict[str, Schema]:
    return _twilio_common() | {
        "uri": _uri(rf"/Calls/CA{HEX}/Recordings/RE{HEX}\.json"),
        "track": enumeration(RecordingTrack),
    }


def _call(dialect: Dialect) -> dict[str, Schema]:
    """What the dialects have in common but for spelling."""
    shown = HEX if dialect is Dialect.TWILIO else UUID
    prefix = Kind.CALL.value if dialect is Dialect.TWILIO else ""
    party: Schema = {"type": "string", "description": "A number or a SIP URI."}
    return {
        "sid": sid(Kind.CALL, dialect),
        "account_sid": sid(Kind.ACCOUNT, dialect),
        "api_version": _always(API_VERSION),
        "date_created": TIME,
        "date_updated": TIME,
        "parent_call_sid": nullable(sid(Kind.CALL, dialect)),
        "to": party,
        "to_formatted": party,
        "from": party,
        "from_formatted": party,
        "phone_number_sid": _NOTHING,
        "status": enumeration(CallStatus),
        "start_time": nullable(TIME) | {"description": "When it was answered."},
        "end_time": nullable(TIME),
        "price": _NOTHING | {"description": "Nothing is billed."},
        "price_unit": _always("USD"),
        "answered_by": _NOTHING,
        "forwarded_from": _NOTHING,
        "caller_name": {"type": ["string", "null"]},
        "group_sid": _NOTHING,
        "uri": _uri(rf"/Calls/{prefix}{shown}\.json"),
    }


def _signalwire_call() -> dict[str, Schema]:
    measured = {
        name: _NOTHING
        for name in (
            "audio_in_mos", "audio_rtt_avg", "audio_rtt_min", "audio_rtt_max",
            "audio_out_jitter_min", "audio_out_jitter_max", "audio_out_jitter_avg",
            "audio_out_lost",
        )
    }  # fmt: skip
    party: Schema = {"type": "string"}
    return {
        "formatted_to": party,
        "formatted_from": party,
        "duration": {
            "type": "integer",
            "minimum": 0,
            "description": "Seconds from answer to end; 0 before the end.",
        },
        "direction": _one_of("inbound", "outbound"),
        "subresource_uris": closed(
            {"notifications": _NOTHING, "recordings": _uri(rf"/Calls/{UUID}/Recordings\.json")},
            "Resources below this one.",
        ),
        "annotation": _NOTHING,
        "sip_result_code": nullable({"type": "string", "pattern": "^[1-6][0-9]{2}$"}),
        **measured,
    }


def _twilio_call() -> dict[str, Schema]:
    return {
        "duration": nullable(_SECONDS) | {"description": "Seconds; null before the end."},
        "direction": enumeration(CallDirection),
        "queue_time": _SECONDS,
        "trunk_sid": _NOTHING,
        "subresource_uris": closed(
            {"recordings": _uri(rf"/Calls/CA{HEX}/Recordings\.json")}, "Resources below this one."
        ),
    }


def _list(dialect: Dialect, key: str, item: str) -> Schema:
    link: Schema = {
        "type": "string",
        "pattern": rf"^{_PREFIX}/.*\.json\?",
        "description": "Relative to the host; keeps the filters and the page's size.",
    }
    number: Schema = {"type": "integer", "minimum": 0}
    properties: dict[str, Schema] = {
        "uri": link,
        "first_page_uri": link,
        "next_page_uri": nullable(link) | {"description": "Null on the last page."},
        "previous_page_uri": nullable(link) | {"description": "Null on the first page."},
        "page": number | {"description": "From 0."},
        "page_size": {"type": "integer", "minimum": 1, "maximum": 1000},
        key: {"type": "array", "items": reference(item)},
    }
    if dialect is Dialect.TWILIO:
        properties |= {"start": number, "end": number}
    return closed(properties, "One page of a list, newest first.")


def _health() -> Schema:
    return {
        "type": "object",
        "description": "The state of every part: `ok`, `warning: …` where somebody should see to "
        "it, or what is wrong with it.",
        "properties": {"status": _one_of("ok", "degraded", "unavailable")},
        "required": ["status"],
        "additionalProperties": {"type": "string"},
    }


def _report() -> Schema:
    """The keys that programs rely on; ``docs/report.md`` describes all of them."""
    return {
        "type": "object",
        "description": "What came, what did not, and what was done about it; docs/report.md "
        "describes every key. Keys may be added.",
        "properties": {
            "version": {"type": "integer"},
            "recording": {"type": "string", "pattern": f"^{HEX}$"},
            "clean": {"type": "boolean", "description": "Whether there is no problem."},
            "problems": {"type": "array", "items": {"type": "string"}},
            "duration_ms": {"type": "integer", "minimum": 0},
            "rate_hz": {"type": "integer", "minimum": 1},
            "channels": {"type": "integer", "minimum": 1},
            "size_bytes": {"type": "integer", "minimum": 0},
            "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
            "track": enumeration(RecordingTrack),
            "streams": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["version", "recording", "clean", "problems", "duration_ms", "streams"],
    }
