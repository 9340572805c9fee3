"""The parameters of a call that is created or changed (contract §10.2)."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import Enum

from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.api.params import Params
from callreel.api.recording_params import callback_method, callback_url, recording_request
from callreel.calls.model import CallCallback, CallEvent, RecordingRequest, Trim
from callreel.calls.steering import (
    CALL_SECONDS,
    LONGEST_CALL_SECONDS,
    LONGEST_RING_SECONDS,
    RING_SECONDS,
    CallChange,
    CallRequest,
    Instructions,
)
from callreel.wire.sip.values import URI

MAX_PARTY_CHARS = 256
MAX_DOCUMENT_CHARS = 64 * 1024
MAX_CREDENTIAL_CHARS = 256
MAX_DIGITS = 64

_SEPARATORS = re.compile(r"[ ().\-]")
_NUMBER = re.compile(r"\+?[0-9*#]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_DIGITS = re.compile(r"[0-9*#wW]+")
_WHOLE = re.compile(r"[0-9]{1,9}")
_FORWARDED = ("ringing_forwarded", "ringing_queued")
"""Events that SignalWire lists besides: they never come about here."""


class WantedOfCall(Enum):
    """What ``Status`` may ask of a call."""

    CANCELED = "canceled"
    COMPLETED = "completed"


def call_request(params: Params) -> CallRequest:
    """The call that is wanted. Raises :class:`ApiError` with the code of the first parameter that
    is missing or wrong, used or not.
    """
    to = callee(params)
    caller = _caller(params, "From")
    if caller is None:
        raise ApiError(Code.NO_CALLER, "From is missing: who calls, a number or a sip: URI")
    if params.get("ApplicationSid") is not None:
        raise ApiError(
            Code.NO_APPLICATION, "ApplicationSid names no application: there are none; give a Url"
        )
    instructions = _instructions(params, Code.BAD_URL)
    if instructions.is_empty:
        raise ApiError(
            Code.BAD_URL, "Url is missing: where the document is; or give it as Twiml or Laml"
        )
    username = _credential(params, "SipAuthUsername")
    password = _credential(params, "SipAuthPassword")
    if password and not username:
        raise ApiError(Code.INVALID_ARGUMENT, "SipAuthPassword needs a SipAuthUsername")
    return CallRequest(
        to=to,
        from_=caller,
        instructions=instructions,
        caller_id=_caller(params, "CallerId"),
        username=username,
        password=password,
        ring_seconds=_seconds(
            params, "Timeout", RING_SECONDS, LONGEST_RING_SECONDS, Code.BAD_TIMEOUT
        ),
        call_seconds=_seconds(params, "TimeLimit", CALL_SECONDS, LONGEST_CALL_SECONDS),
        send_digits=_digits(params),
        status_callback=_status_callback(params),
        record=_recording(params),
    )


def call_change(params: Params) -> CallChange:
    """What is to be changed of a call; nothing where no such parameter is there. Raises
    :class:`ApiError`.
    """
    instructions = _instructions(params, Code.BAD_CALLBACK_URL)
    limit = params.get("TimeLimit")
    return CallChange(
        instructions=None if instructions.is_empty else instructions,
        status_callback=_callback(params),
        call_seconds=None
        if limit is None
        else _seconds(params, "TimeLimit", CALL_SECONDS, LONGEST_CALL_SECONDS),
    )


def callee(params: Params) -> str:
    """Whom to call: a number without separators, a URI or a name. Raises :class:`ApiError`."""
    to = params.get("To")
    if to is None:
        raise ApiError(Code.NO_CALLEE, "To is missing: whom to call, a number or a sip: URI")
    to = to.strip()
    number = _SEPARATORS.sub("", to)
    if _NUMBER.fullmatch(number):
        return number
    if _is_sip_uri(to) or _NAME.fullmatch(to):
        return to
    raise ApiError(
        Code.BAD_CALLEE, f"To must be a number, a sip: URI or a phone here; it is {to[:80]!r}"
    )


def _caller(params: Params, name: str) -> str | None:
    """A number, a URI or a name; None where it is absent."""
    given = params.get(name)
    if given is None:
        return None
    given = given.strip()
    number = _SEPARATORS.sub("", given)
    if _NUMBER.fullmatch(number):
        return number
    if _NAME.fullmatch(given) or _is_sip_uri(given):
        return given
    raise ApiError(
        Code.BAD_CALLER, f"{name} must be a number, a name or a sip: URI; it is {given[:80]!r}"
    )


def _is_sip_uri(text: str) -> bool:
    if len(text) > MAX_PARTY_CHARS or any(ord(char) <= 32 or ord(char) >= 127 for char in text):
        return False
    try:
        uri = URI.parse(text)
    except ValueError:
        return False
    return uri.scheme in ("sip", "sips") and bool(uri.host)


def _instructions(params: Params, bad_url: Code) -> Instructions:
    url, fallback = params.get("Url"), params.get("FallbackUrl")
    return Instructions(
        url=None if url is None else callback_url(url, "Url", code=bad_url),
        method=callback_method(params, "Method"),
        fallback_url=None if fallback is None else callback_url(fallback, "FallbackUrl"),
        fallback_method=callback_method(params, "FallbackMethod"),
        document=_document(params),
    )


def _document(params: Params) -> str | None:
    """``Twiml`` as Twilio calls it, ``Laml`` as SignalWire does."""
    found = None
    for name in ("Laml", "Twiml"):
        given = params.get(name)
        if given is not None and len(given) > MAX_DOCUMENT_CHARS:
            raise ApiError(
                Code.INVALID_ARGUMENT,
                f"{name} is longer than {MAX_DOCUMENT_CHARS} characters: give a Url",
            )
        found = given or found
    return found


def _status_callback(params: Params) -> CallCallback | None:
    callback, events = _callback(params), _events(params)
    return callback and replace(callback, events=events)


def _callback(params: Params) -> CallCallback | None:
    url, method = params.get("StatusCallback"), callback_method(params, "StatusCallbackMethod")
    return None if url is None else CallCallback(callback_url(url, "StatusCallback"), method)


def _events(params: Params) -> frozenset[CallEvent]:
    """Both spellings and mixtures: one value with spaces, and the name given several times."""
    name = "StatusCallbackEvent"
    words = [word for value in params.all(name) for word in value.split()]
    if not words:
        return frozenset({CallEvent.COMPLETED})
    try:
        return frozenset(CallEvent(word) for word in words if word not in _FORWARDED)
    except ValueError:
        allowed = ", ".join(event.value for event in CallEvent)
        raise ApiError(Code.BAD_VOICE_EVENT, f"{name} must be any of {allowed}") from None


def _recording(params: Params) -> RecordingRequest | None:
    """None unless ``Record`` is true; its parameters are looked at all the same."""
    wanted = params.flag("Record")
    request = recording_request(params, default_trim=Trim.TRIM_SILENCE)
    return request if wanted else None


def _seconds(
    params: Params, name: str, default: int, longest: int, code: Code = Code.INVALID_ARGUMENT
) -> int:
    given = params.get(name)
    if given is None:
        return default
    if not _WHOLE.fullmatch(given) or not 1 <= int(given) <= longest:
        raise ApiError(code, f"{name} must be a whole number of seconds from 1 to {longest}")
    return int(given)


def _digits(params: Params) -> str:
    given = params.get("SendDigits")
    if given is None:
        return ""
    if len(given) > MAX_DIGITS or not _DIGITS.fullmatch(given):
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f"SendDigits must be at most {MAX_DIGITS} of 0 to 9, *, # and w for half a second",
        )
    return given.lower()


def _credential(params: Params, name: str) -> str:
    given = params.get(name) or ""
    if len(given) > MAX_CREDENTIAL_CHARS or any(ord(char) < 32 for char in given):
        raise ApiError(
            Code.INVALID_ARGUMENT, f"{name} must be at most {MAX_CREDENTIAL_CHARS} characters"
        )
    return given
