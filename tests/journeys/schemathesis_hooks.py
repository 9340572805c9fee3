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

from callreel.api.errors import ApiError
from callreel.api.recording_params import callback_url

NOWHERE = "http://127.0.0.1:9/hook"
"""The discard port of this machine: nothing that is made up here may be sent anywhere else."""

BY_STATE = {20009, 21220}
"""The call or recording is not in a state that allows it: no schema of a request can know."""


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Point every webhook that the server would accept at this machine."""
    case.body = _redirected(case.body)


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
    # A call that is over, or was answered, is 10000 in the SignalWire dialect.
    update = case.operation.definition.raw.get("operationId") == "update_call"
    return not (code == 10000 and update)


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
