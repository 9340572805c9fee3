"""What schemathesis is told about callreel that OpenAPI cannot say; loaded in its own process."""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import (
    AllowHeaderMismatch,
    IgnoredAuth,
    RejectedPositiveData,
    UnsupportedMethodResponse,
)

from callreel.api.call_params import callee
from callreel.api.errors import ApiError
from callreel.api.params import Params
from callreel.api.recording_params import callback_url

NOWHERE = "http://127.0.0.1:9/hook"
"""The discard port of this machine: nothing that is made up here may be sent anywhere else."""

NOBODY = "sip:nobody@127.0.0.1:9"
"""The same for calls."""

BY_STATE = {20009, 21220}
"""The call or recording is not in a state that allows it: no schema of a request can know."""


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Point every webhook and every call that the server would accept at this machine."""
    case.body = _redirected(case.body)
    if isinstance(case.body, dict) and _can_be_called(case.body.get("To")):
        case.body = {**case.body, "To": NOBODY}


def _can_be_called(to: Any) -> bool:
    """Whether the server would take it for a SIP URI."""
    try:
        return isinstance(to, str) and ":" in callee(Params([("To", to)]))
    except ApiError:
        return False


def _redirected(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _redirected(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_redirected(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        callback_url(value, "url")
    except ApiError:
        return value
    return NOWHERE


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Exception,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Whether a failure is one. Each exception is as narrow as its reason."""
    if _shares_a_route(failure, case, response):
        return False
    if isinstance(failure, IgnoredAuth):
        # It tries wrong credentials everywhere, and is told to wait: refused all the same.
        return "got `429 Too Many Requests`" not in failure.message
    if isinstance(failure, AcceptedNegativeData):
        # It set out to break something, found nothing that it could, and sent what is right.
        assert case.meta is not None
        return case.meta.phase.data.description != "Positive test case"
    if not isinstance(failure, RejectedPositiveData):
        return True
    code = json.loads(response.content)["code"]
    if code in BY_STATE:
        return False
    if code == 54453:
        # In the SignalWire dialect Page needs its PageToken: OpenAPI cannot say of two parameters
        # that they go together.
        return bool(case.query.get("PageToken"))
    if case.operation.definition.raw.get("operationId") == "create_call":
        return _is_wrong(code, case.body)
    # A call that is over, or was answered, is 10000 in the SignalWire dialect.
    update = case.operation.definition.raw.get("operationId") == "update_call"
    return not (code == 10000 and update)


def _is_wrong(code: int, body: Any) -> bool:
    """Whether the refusal of a new call is no consequence of what no schema says of its fields."""
    given = body if isinstance(body, dict) else {}
    if code == 21211:  # nobody here takes the number or has the name
        return given.get("To") == NOBODY
    if code == 21205:  # one of three has to be there
        return any(given.get(name) for name in ("Url", "Twiml", "Laml"))
    # A password needs a name.
    return not (code == 10000 and given.get("SipAuthPassword") and not given.get("SipAuthUsername"))


def _shares_a_route(
    failure: Exception, case: schemathesis.Case[Any], response: schemathesis.Response
) -> bool:
    """Audio shares its route with DELETE, which takes any last segment.

    So ``Allow`` names DELETE there, and deleting a SID with an extension is the 404 of an unknown
    recording rather than a 405.
    """
    if not case.operation.path.endswith((".wav", ".mp3", ".flac", ".opus", ".ogg")):
        return False
    if isinstance(failure, AllowHeaderMismatch):
        return failure.undocumented_methods == ["DELETE"] and not failure.missing_methods
    deleted = response.request.method == "DELETE" and response.status_code == 404
    return isinstance(failure, UnsupportedMethodResponse) and deleted
