"""Every parameter that the API reads, as it is documented: name, values, default, refusal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from callreel.api.call_params import (
    MAX_CREDENTIAL_CHARS,
    MAX_DIGITS,
    MAX_DOCUMENT_CHARS,
    WantedOfCall,
)
from callreel.api.codes import Code
from callreel.api.recording_params import MAX_URL_CHARS, Wanted
from callreel.api.schemas import MONTHS, WEEKDAYS, Schema, enumeration
from callreel.calls.model import (
    CallbackEvent,
    CallbackMethod,
    CallEvent,
    CallStatus,
    PauseBehavior,
    RecordingChannels,
    RecordingTrack,
    Trim,
)
from callreel.calls.steering import (
    CALL_SECONDS,
    LONGEST_CALL_SECONDS,
    LONGEST_RING_SECONDS,
    RING_SECONDS,
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


def callback_url(
    name: str,
    text: str,
    *,
    refused: Code = Code.BAD_CALLBACK_URL,
    example: str = "https://example.com/recordings",
) -> Parameter:
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
        refused,
        example=example,
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


def callback_events(
    name: str,
    events: type[Enum],
    default: str,
    refused: Code,
    example: str = "in-progress completed",
) -> Parameter:
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
        example=example,
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

_FLAG: Schema = {
    "type": "string",
    "pattern": "^(?:[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$",
}
_NUMBER = "[+]?[0-9*#]{1,32}"
_SIP_URI = (
    "[Ss][Ii][Pp][Ss]?:[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,62}(?::[1-9][0-9]{0,3})?"
)
_NAME = "[A-Za-z0-9_.+-]{1,64}"


def _party(name: str, pattern: str, text: str, values: str, refused: Code, example: str,
           *, required: bool = False) -> Parameter:  # fmt: skip
    schema: Schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
    return Parameter(
        name,
        schema if required else {"anyOf": [schema, EMPTY]},
        text,
        values,
        None,
        refused,
        required=required,
        example=example,
    )


def _seconds(name: str, text: str, default: int, longest: int, refused: Code) -> Parameter:
    schema: Schema = {"type": "integer", "minimum": 1, "maximum": longest}
    return Parameter(
        name,
        {"anyOf": [schema, EMPTY]},
        text,
        f"1 to {longest}",
        str(default),
        refused,
    )


def _bounded(name: str, text: str, values: str, longest: int, example: str) -> Parameter:
    schema: Schema = {"type": "string", "pattern": "^[ -~]+$", "maxLength": longest}
    return Parameter(
        name, {"anyOf": [schema, EMPTY]}, text, values, None, Code.INVALID_ARGUMENT, example=example
    )


_DOCUMENT_EXAMPLE = "<Response><Say>Hello.</Say><Record/></Response>"
_TIME_LIMIT = _seconds(
    "TimeLimit",
    "How long it may last from its answer, seconds; then it is hung up.",
    CALL_SECONDS,
    LONGEST_CALL_SECONDS,
    Code.INVALID_ARGUMENT,
)
_INSTRUCTIONS = (
    callback_url(
        "Url",
        "Whom to ask for the document that steers the call.",
        refused=Code.BAD_URL,
        example="https://example.com/voice",
    ),
    callback_method("Method"),
    callback_url(
        "FallbackUrl",
        "Whom to ask for a document where `Url` gives none.",
        example="https://example.com/sorry",
    ),
    callback_method("FallbackMethod"),
    _bounded(
        "Twiml",
        "The document itself. `Url` wins over it.",
        f"at most {MAX_DOCUMENT_CHARS} characters of XML",
        MAX_DOCUMENT_CHARS,
        _DOCUMENT_EXAMPLE,
    ),
    _bounded(
        "Laml",
        "The same, as SignalWire calls it. `Twiml` wins over it.",
        f"at most {MAX_DOCUMENT_CHARS} characters of XML",
        MAX_DOCUMENT_CHARS,
        _DOCUMENT_EXAMPLE,
    ),
    callback_url(
        "StatusCallback",
        "Where webhooks about the call go.",
        example="https://example.com/calls",
    ),
    callback_method("StatusCallbackMethod"),
)

CREATE_CALL = (
    _party(
        "To",
        f"{_NUMBER}|{_NAME}|{_SIP_URI}",
        "Whom to call. Absent: 21201.",
        "a number, a `sip:` URI, the name of a phone that is registered here",
        Code.BAD_CALLEE,
        "sip:ann@192.0.2.10",
        required=True,
    ),
    _party(
        "From",
        f"{_NUMBER}|{_NAME}|{_SIP_URI}",
        "Who calls. Absent: 21213.",
        "a number, a name, a `sip:` URI",
        Code.BAD_CALLER,
        "+15550100",
        required=True,
    ),
    *_INSTRUCTIONS,
    callback_events(
        "StatusCallbackEvent",
        CallEvent,
        "completed",
        Code.BAD_VOICE_EVENT,
        "initiated ringing answered completed",
    ),
    Parameter(
        "ApplicationSid",
        {"anyOf": [EMPTY]},
        "Always refused: there are no applications. Give a `Url`.",
        "none",
        None,
        Code.NO_APPLICATION,
    ),
    _seconds(
        "Timeout",
        "How long it may ring, seconds; then it is `no-answer`.",
        RING_SECONDS,
        LONGEST_RING_SECONDS,
        Code.BAD_TIMEOUT,
    ),
    _TIME_LIMIT,
    _party(
        "CallerId",
        f"{_NUMBER}|{_NAME}|{_SIP_URI}",
        "Who the callee sees calling, in place of `From`.",
        "as `From`",
        Code.BAD_CALLER,
        "+15550100",
    ),
    _bounded(
        "SipAuthUsername",
        "For whoever asks for credentials.",
        f"at most {MAX_CREDENTIAL_CHARS} characters",
        MAX_CREDENTIAL_CHARS,
        "ann",
    ),
    _bounded(
        "SipAuthPassword",
        "The same; not without `SipAuthUsername`.",
        f"at most {MAX_CREDENTIAL_CHARS} characters",
        MAX_CREDENTIAL_CHARS,
        "secret",
    ),
    Parameter(
        "SendDigits",
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9*#wW]+$", "maxLength": MAX_DIGITS},
                EMPTY,
            ]
        },
        "Keys to press once it is answered; `w` waits half a second.",
        "of `0` to `9`, `*`, `#`, `w`",
        None,
        Code.INVALID_ARGUMENT,
        example="ww1234#",
    ),
    Parameter(
        "Record",
        {"anyOf": [_FLAG, {"type": "boolean"}, EMPTY]},
        "Whether it is recorded, from its answer on: never the ringing.",
        "`true`, `false`",
        "false",
        Code.INVALID_ARGUMENT,
        example="true",
    ),
    *(
        replace(one, default=Trim.TRIM_SILENCE.value) if one.name == "Trim" else one
        for one in START
    ),
)
"""Of a new call."""

CALL_STATUS = Parameter(
    "Status",
    enumeration(WantedOfCall),
    "`completed` hangs up; `canceled` ends only a call that nobody has answered yet. Beside it "
    "nothing else is done. Without it, one of `Url`, `Twiml`, `Laml`, `StatusCallback` and "
    "`TimeLimit` has to be there.",
    _values(WantedOfCall),
    None,
    Code.INVALID_ARGUMENT,
    example="completed",
)
UPDATE_CALL = (
    CALL_STATUS,
    *(
        replace(
            one,
            default=None,
            refused=Code.BAD_CALLBACK_URL if one.name == "Url" else one.refused,
        )
        for one in (*_INSTRUCTIONS, _TIME_LIMIT)
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
