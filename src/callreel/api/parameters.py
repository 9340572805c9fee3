"""Every parameter that the API reads, as it is documented: name, values, default, refusal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from callreel.api.codes import Code
from callreel.api.recording_params import MAX_URL_CHARS, Wanted
from callreel.api.schemas import MONTHS, WEEKDAYS, Schema, enumeration
from callreel.calls.model import (
    CallbackEvent,
    CallbackMethod,
    CallStatus,
    PauseBehavior,
    RecordingChannels,
    RecordingTrack,
    Trim,
)

_HEX = "[0-9a-fA-F]"
_UUID = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_SID = f"(?:(?:[A-Za-z]{{2}})?{_HEX}{{32}}|{_UUID})"

EMPTY: Schema = {"type": "string", "const": "", "description": "Counts as absent."}
_TEXT: Schema = {"type": "string", "pattern": "^[^\\u0000]*$"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path, query, header or body."""

    name: str
    """Case-sensitive."""
    schema: Schema
    """What is accepted, exactly."""
    text: str
    """What it is for."""
    values: str = ""
    """Its values, for people; code spans in backquotes."""
    default: str | None = None
    """What an absent one means; None: nothing."""
    refused: Code | None = None
    """The code of a wrong value; None where every value is taken."""
    required: bool = False
    """Whether absent and empty are refused too."""
    only_with: tuple[str, str] | None = None
    """Name and value of the field beside which it is looked at; None: always."""
    example: str | None = None
    """A value that works."""


def _values(values: Iterable[Enum]) -> str:
    return ", ".join(f"`{value.value}`" for value in values)


def _choice(
    name: str, values: type[Enum], text: str, default: str, refused: Code = Code.INVALID_ARGUMENT
) -> Parameter:
    return Parameter(
        name,
        {"anyOf": [enumeration(values), EMPTY]},
        text,
        _values(values),
        default or None,
        refused,
    )


def _path(name: str, text: str, pattern: str, example: str) -> Parameter:
    schema: Schema = {"type": "string", "pattern": f"^{pattern}$"}
    return Parameter(name, schema, text, "a SID in any spelling", required=True, example=example)


ACCOUNT_SID = _path(
    "AccountSid",
    "The account; it must be the one of the credentials. Any spelling of a SID is read, answers "
    "use the account's.",
    _SID,
    "b3877c40-da60-4998-90ad-b792e98472af",
)
CALL_SID = _path("CallSid", "The call.", _SID, "3fa85f64-5717-4562-b3fc-2c963f66afa6")
CONFERENCE_SID = _path(
    "ConferenceSid", "The conference.", _SID, "5c3d1b5e-8a0b-4c6e-9f53-9d0a1c2b3e4f"
)
RECORDING_SID = _path("Sid", "The recording.", _SID, "d411976d-d319-4fbd-923c-57c62b6f677a")
LIVE_RECORDING_SID = Parameter(
    "Sid",
    {"anyOf": [RECORDING_SID.schema, {"type": "string", "const": "Twilio.CURRENT"}]},
    "The recording; `Twilio.CURRENT` is the newest live one.",
    "a SID in any spelling, `Twilio.CURRENT`",
    required=True,
    example="Twilio.CURRENT",
)


def _url_pattern() -> str:
    """An absolute http or https URL with a host, in the characters that a URL has."""
    user = "(?:[A-Za-z0-9._~%!$&'()*+,;=:-]+@)?"
    group = "[0-9A-Fa-f]{1,4}"
    ipv6 = (
        rf"\[(?:{group}(?::{group}){{7}}"
        rf"|(?:{group}(?::{group}){{0,2}})?::(?:{group}(?::{group}){{0,3}})?)\]"
    )
    host = f"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|{ipv6})"
    port = (
        "(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]"
        "|6553[0-5])?)?"
    )
    return f"^[Hh][Tt][Tt][Pp][Ss]?://{user}{host}{port}(?:[/?#][!-~]*)?$"


def callback_url(name: str, text: str) -> Parameter:
    """An address that webhooks go to."""
    url: Schema = {
        "type": "string",
        "format": "uri",
        "pattern": _url_pattern(),
        "maxLength": MAX_URL_CHARS,
    }
    return Parameter(
        name,
        {"anyOf": [url, EMPTY]},
        text,
        "absolute http or https URL",
        None,
        Code.BAD_CALLBACK_URL,
        example="https://example.com/recordings",
    )


def callback_method(name: str) -> Parameter:
    """How webhooks are sent."""
    schema: Schema = {"type": "string", "pattern": "^(?:[Gg][Ee][Tt]|[Pp][Oo][Ss][Tt])$"}
    return Parameter(
        name,
        {"anyOf": [schema, EMPTY]},
        "How it is sent: as a form, or in the query. Upper or lower case.",
        _values(CallbackMethod),
        "POST",
        Code.BAD_METHOD,
    )


def callback_events(name: str, events: type[Enum], default: str, refused: Code) -> Parameter:
    """What webhooks are about: one value with spaces, the name several times, and mixtures."""
    one = "(?:" + "|".join(event.value for event in events) + ")"
    spaced: Schema = {"type": "string", "pattern": f"^ *(?:{one}(?: +{one})* *)?$"}
    return Parameter(
        name,
        {"anyOf": [spaced, {"type": "array", "items": spaced}]},
        "Which events are sent: separated by spaces, or given several times.",
        _values(events),
        default,
        refused,
        example="in-progress completed",
    )


START = (
    _choice(
        "RecordingChannels",
        RecordingChannels,
        "`mono`: all parties mixed; `dual`: channel 1 is what the party of the call says, "
        "channel 2 what it hears.",
        "mono",
    ),
    _choice(
        "RecordingTrack",
        RecordingTrack,
        "What is kept: what the party of the call says (`inbound`), what it hears (`outbound`), "
        "or both. A single track is always one channel.",
        "both",
    ),
    _choice(
        "Trim",
        Trim,
        "Whether silence is cut off at the start and at the end.",
        "do-not-trim",
        Code.BAD_TRIM,
    ),
    callback_url("RecordingStatusCallback", "Where webhooks about the recording go."),
    callback_method("RecordingStatusCallbackMethod"),
    callback_events(
        "RecordingStatusCallbackEvent", CallbackEvent, "completed", Code.BAD_RECORDING_EVENT
    ),
)
"""Of a new recording."""

RECORDING_STATUS = Parameter(
    "Status",
    enumeration(Wanted),
    "Pause, resume or stop. Stopping is final.",
    _values(Wanted),
    None,
    Code.INVALID_ARGUMENT,
    required=True,
    example="paused",
)
PAUSE_BEHAVIOR = replace(
    _choice(
        "PauseBehavior",
        PauseBehavior,
        "What the paused stretch becomes in the file: left out, or silence of the same length. "
        "Read only with `Status=paused`.",
        "silence",
    ),
    only_with=("Status", Wanted.PAUSED.value),
)
UPDATE = (RECORDING_STATUS, PAUSE_BEHAVIOR)
"""Of a live recording."""

CALL_STATUS = Parameter(
    "Status",
    {"type": "string", "enum": ["canceled", "completed"]},
    "`completed` hangs up; `canceled` ends only a call that nobody has answered yet.",
    "`completed`, `canceled`",
    None,
    Code.INVALID_ARGUMENT,
    required=True,
    example="completed",
)
_REDIRECT = (
    ("Url", Code.BAD_CALLBACK_URL),
    ("Method", Code.BAD_METHOD),
    ("FallbackUrl", Code.BAD_CALLBACK_URL),
    ("FallbackMethod", Code.BAD_METHOD),
    ("StatusCallback", Code.BAD_CALLBACK_URL),
    ("StatusCallbackMethod", Code.BAD_METHOD),
    ("Twiml", None),
    ("Laml", None),
)
UPDATE_CALL = (
    CALL_STATUS,
    *(
        Parameter(
            name,
            {},
            "Of a redirect, which is refused (21220): calls are sent here only to be recorded. "
            "Not looked at beside `Status`.",
            "",
            None,
            refused,
        )
        for name, refused in _REDIRECT
    ),
)
"""Of a live call."""


def _rfc2822() -> str:
    """RFC 2822 dates that exist, of the years 1900 to 2099."""
    long_ = "(?:Jan|Mar|May|Jul|Aug|Oct|Dec)"
    not_february = "(?:Jan|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    year = "(?:19|20)[0-9]{2}"
    leap_year = "(?:19(?:0[48]|[2468][048]|[13579][26])|20(?:[02468][048]|[13579][26]))"
    day = (
        f"(?:(?:0?[1-9]|1[0-9]|2[0-8]) {MONTHS} {year}|(?:29|30) {not_february} {year}"
        f"|31 {long_} {year}|29 Feb {leap_year})"
    )
    clock = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    zone = "[+-](?:0[0-9]|1[0-4])[0-5][0-9]"
    return f"^(?:{WEEKDAYS}, )?{day} {clock} {zone}$"


_DATE: Schema = {
    "anyOf": [
        {"type": "string", "format": "date"},
        {"type": "string", "format": "date-time", "pattern": "^(?:19|20)[0-9]{2}-"},
        {"type": "string", "pattern": _rfc2822()},
        EMPTY,
    ]
}
_DATE_VALUES = "`2026-11-22`, `2026-11-22T09:30:00Z`, `Wed, 26 Sep 2018 00:00:00 +0000`"


def dates(name: str, what: str) -> tuple[Parameter, ...]:
    """The three filters of a date; the inequality is part of the name."""
    return tuple(
        Parameter(
            name + sign,
            _DATE,
            f"{what}: {meaning}",
            _DATE_VALUES,
            None,
            Code.INVALID_ARGUMENT,
            example=example,
        )
        for sign, meaning, example in (
            ("", "on this day, in UTC.", "2026-11-22"),
            (">", "at this instant or later; a date is its midnight, in UTC.", "2026-11-01"),
            ("<", "before this instant.", "2026-12-01"),
        )
    )


def text(name: str, meaning: str, example: str | None = None) -> Parameter:
    """Any text."""
    return Parameter(name, _TEXT, meaning, "text", None, Code.WRONG_FORMAT, example=example)


PAGES = (
    Parameter(
        "PageSize",
        {"anyOf": [{"type": "integer", "minimum": 1}, EMPTY]},
        "Items a page; over 1000 counts as 1000.",
        "1 to 1000",
        "50",
        Code.BAD_PAGE_SIZE,
        example="20",
    ),
    Parameter(
        "Page",
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 999_999_999}, EMPTY]},
        "Which page it is, for the client. In the SignalWire dialect every page after the first "
        "needs its `PageToken` (54453).",
        "from 0 on",
        "0",
        Code.INVALID_ARGUMENT,
    ),
    Parameter(
        "PageToken",
        # 8 bytes of microseconds since 1970, the first ten bits of which are zero until 2112.
        {"anyOf": [{"type": "string", "pattern": "^P[AB]AA[A-Za-z0-9_-]{30}$"}, EMPTY]},
        "Where the page begins; take it from `next_page_uri`.",
        "as given out",
        None,
        Code.BAD_PAGE_TOKEN,
    ),
)
"""Of every list. Links in the answer hold them: follow these rather than counting."""

CREATED = dates("DateCreated", "Created")
SOFT_DELETED = text(
    "IncludeSoftDeleted",
    "Taken for the sake of clients; nothing is kept of what was deleted.",
    "true",
)
RECORDING_FILTERS = (
    text("CallSid", "Of this call; an unknown one gives an empty list.", CALL_SID.example),
    text("ConferenceSid", "Of this conference; an unknown one gives an empty list."),
    *CREATED,
    SOFT_DELETED,
)
"""Of the account's recordings."""
CALL_FILTERS = (
    text("To", "Called party, exactly.", "+15550199"),
    text("From", "Calling party, exactly.", "+15550100"),
    text("ParentCallSid", "Legs of this call; an unknown one gives an empty list."),
    _choice("Status", CallStatus, "In this state.", ""),
    *dates("StartTime", "Answered"),
    *dates("EndTime", "Ended"),
)

MEDIA = (
    Parameter(
        "RequestedChannels",
        {"anyOf": [{"type": "string", "enum": ["1", "2"]}, EMPTY]},
        "1 mixes the parties; 2 keeps them apart, where the recording did. Without it the file "
        "has what the recording asked for.",
        "`1`, `2`",
        None,
        Code.INVALID_ARGUMENT,
        example="1",
    ),
    Parameter(
        "Download",
        {
            "anyOf": [
                {"type": "string", "pattern": "^(?:[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"},
                EMPTY,
            ]
        },
        "`true` has a browser save the file rather than play it.",
        "`true`, `false`",
        "false",
        Code.INVALID_ARGUMENT,
        example="true",
    ),
)
"""How audio is given out."""

MEDIA_HEADERS = (
    Parameter(
        "Range",
        {"type": "string"},
        "A range of bytes (RFC 9110): 206, or 416 if there is no such byte. Anything that is not "
        "one range of bytes is ignored.",
        "`bytes=0-1023`",
        example="bytes=0-1023",
    ),
    Parameter(
        "If-Range",
        {"type": "string"},
        "`Range` counts only while this is still the `ETag`.",
        "an `ETag`",
    ),
    Parameter(
        "If-None-Match",
        {"type": "string"},
        "304 while this is still the `ETag`.",
        "an `ETag`",
    ),
)
