"""The recording parameters: every one, its values, default and refusal (contract §4.1)."""

from __future__ import annotations

from enum import Enum
from urllib.parse import urlsplit

from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.api.params import Params
from callreel.calls.model import (
    Callback,
    CallbackEvent,
    CallbackMethod,
    PauseBehavior,
    RecordingChannels,
    RecordingRequest,
    RecordingTrack,
    Trim,
)

MAX_URL_CHARS = 4096


def recording_request(params: Params, *, default_trim: Trim = Trim.DO_NOT_TRIM) -> RecordingRequest:
    """What is asked of a new recording; ``default_trim`` differs by door (contract §9).

    Raises :class:`ApiError` with the code of the first parameter that is wrong, used or not.
    """
    channels = params.choice("RecordingChannels", RecordingChannels, RecordingChannels.MONO)
    track = params.choice("RecordingTrack", RecordingTrack, RecordingTrack.BOTH)
    trim = params.choice("Trim", Trim, default_trim, code=Code.BAD_TRIM)
    method = callback_method(params, "RecordingStatusCallbackMethod")
    events = _events(params)
    url = params.get("RecordingStatusCallback")
    callback = None
    if url is not None:
        callback = Callback(callback_url(url, "RecordingStatusCallback"), method, events)
    return RecordingRequest(channels=channels, track=track, trim=trim, callback=callback)


class Wanted(Enum):
    """What ``Status`` may ask of a live recording."""

    PAUSED = "paused"
    IN_PROGRESS = "in-progress"
    STOPPED = "stopped"


def recording_update(params: Params) -> tuple[Wanted, PauseBehavior]:
    """What is asked of a live recording (contract §4.2); ``PauseBehavior`` is read for a pause.

    Raises :class:`ApiError`.
    """
    wanted = params.required_choice("Status", Wanted)
    behavior = PauseBehavior.SILENCE
    if wanted is Wanted.PAUSED:
        behavior = params.choice("PauseBehavior", PauseBehavior, PauseBehavior.SILENCE)
    return wanted, behavior


def callback_method(params: Params, name: str) -> CallbackMethod:
    """GET or POST, in any case; POST unless given."""
    value = params.get(name)
    try:
        return CallbackMethod((value or "POST").upper())
    except ValueError:
        raise ApiError(Code.BAD_METHOD, f"{name} must be GET or POST") from None


def callback_url(url: str, name: str, *, code: Code = Code.BAD_CALLBACK_URL) -> str:
    """``url``, if it is an absolute http or https URL with a host."""
    refusal = ApiError(code, f"{name} must be an absolute http or https URL")
    if len(url) > MAX_URL_CHARS or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise refusal
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refusal from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == 0:
        raise refusal
    return url


def _events(params: Params) -> frozenset[CallbackEvent]:
    """Both spellings and mixtures: one value with spaces, and the name given several times."""
    name = "RecordingStatusCallbackEvent"
    words = [word for value in params.all(name) for word in value.split()]
    if not words:
        return frozenset({CallbackEvent.COMPLETED})
    try:
        return frozenset(CallbackEvent(word) for word in words)
    except ValueError:
        allowed = ", ".join(event.value for event in CallbackEvent)
        raise ApiError(Code.BAD_RECORDING_EVENT, f"{name} must be any of {allowed}") from None
