"""The vendors' error codes that callreel answers with, and what to do about each (contract §11)."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """A vendor's error code; the table below says what it means here."""

    INVALID_ARGUMENT = 10000
    BAD_TRIM = 13699
    BAD_RECORDING_EVENT = 13621
    UNAUTHORIZED = 20003
    METHOD_NOT_ALLOWED = 20004
    UNFINISHED = 20009
    NOT_FOUND = 20404
    TOO_MANY_REQUESTS = 20429
    TOO_LARGE = 20413
    OUR_FAULT = 20504
    NO_CALLEE = 21201
    BAD_URL = 21205
    BAD_TIMEOUT = 21208
    BAD_METHOD = 21209
    BAD_CALLEE = 21211
    BAD_CALLER = 21212
    NO_CALLER = 21213
    NO_APPLICATION = 21218
    NOT_IN_PROGRESS = 21220
    BAD_CALLBACK_URL = 21402
    BAD_VOICE_EVENT = 21626
    BAD_PAGE_TOKEN = 54453
    BAD_PAGE_SIZE = 54454
    WRONG_FORMAT = 90000


_FIXED_STATUS = {
    Code.UNAUTHORIZED: 401,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_FOUND: 404,
    Code.TOO_MANY_REQUESTS: 429,
    Code.TOO_LARGE: 413,
    Code.OUR_FAULT: 503,
}

ADVICE = {
    Code.INVALID_ARGUMENT: "A parameter is missing, or has a value that is not allowed. The "
    "message names the parameter and what it may be. Nothing was changed.",
    Code.BAD_TRIM: "Trim must be trim-silence or do-not-trim, exactly.",
    Code.BAD_RECORDING_EVENT: "RecordingStatusCallbackEvent takes in-progress, completed and "
    "absent: separated by spaces, or given several times.",
    Code.UNAUTHORIZED: "Send HTTP Basic credentials: the AccountSid as the user, the auth token as "
    "the password, and the same AccountSid in the path; or a key of that account and its secret. "
    "Media needs them too, unless the server's "
    'setting is media_auth = "public".',
    Code.METHOD_NOT_ALLOWED: "The path exists, but not for this HTTP method.",
    Code.UNFINISHED: "A call or recording can be deleted once it is over: a call that has ended, a "
    "recording that is completed or absent. Stop it, wait for that, and delete it then.",
    Code.NOT_FOUND: "No such resource in this account. A recording's media can be fetched once its "
    "status is completed.",
    Code.TOO_MANY_REQUESTS: "Too many wrong credentials came from this address, so that none that "
    "are new here are looked at for now. Wait as long as Retry-After says, then send the right "
    "ones.",
    Code.TOO_LARGE: "The request's body is larger than this server reads.",
    Code.OUR_FAULT: "The server cannot do this now. Nothing was lost; try again in a moment.",
    Code.NO_CALLEE: "Say whom to call in To: a sip: URI, or a number that a trunk takes.",
    Code.BAD_URL: "Say where the document is that steers the call: an absolute http or https URL "
    "in Url; or give the document itself in Twiml or Laml.",
    Code.BAD_TIMEOUT: "Timeout is how long it rings: whole seconds, 1 to 600.",
    Code.BAD_METHOD: "The callback's method must be GET or POST.",
    Code.BAD_CALLEE: "To cannot be called: it must be a sip: URI, or a number, and a number needs "
    "a trunk, a route or a phone here that takes it.",
    Code.BAD_CALLER: "From and CallerId are a number, a name or a sip: URI.",
    Code.NO_CALLER: "Say who calls in From: a number or a sip: URI.",
    Code.NO_APPLICATION: "There are no applications here: give a Url instead of an ApplicationSid.",
    Code.NOT_IN_PROGRESS: "The call, or the recording, is not in progress: it has not been "
    "answered yet, or is over.",
    Code.BAD_CALLBACK_URL: "The callback must be an absolute http or https URL.",
    Code.BAD_VOICE_EVENT: "StatusCallbackEvent takes initiated, ringing, answered and completed: "
    "separated by spaces, or given several times.",
    Code.BAD_PAGE_TOKEN: "Take the page's address from next_page_uri as it is.",
    Code.BAD_PAGE_SIZE: "PageSize must be a whole number from 1 on; over 1000 counts as 1000.",
    Code.WRONG_FORMAT: "The request's body cannot be read: send a form, or a JSON object.",
}


def http_status(code: Code, *, refused: int) -> int:
    """The HTTP status of a code; ``refused`` is what the dialect answers a bad request with."""
    return _FIXED_STATUS.get(code, refused)
