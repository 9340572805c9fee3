"""Routes of calls (contract §10)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from callreel.api.call_params import WantedOfCall, call_change, call_request
from callreel.api.codes import Code
from callreel.api.dates import span
from callreel.api.errors import ApiError
from callreel.api.pages import page_object, page_request
from callreel.api.params import Params, body_params, query_params
from callreel.api.resources import call_object
from callreel.api.views import Authenticated, id_of, view_of
from callreel.base.ids import parse_id
from callreel.calls.model import CallStatus
from callreel.service.calls import CallService
from callreel.service.voice import VoiceService
from callreel.store.calls import CallFilter

router = APIRouter(prefix="/2010-04-01/Accounts/{AccountSid}/Calls", tags=["Calls"])

_FILTERS = (
    "To", "From", "ParentCallSid", "Status",
    "StartTime", "StartTime<", "StartTime>", "EndTime", "EndTime<", "EndTime>",
)  # fmt: skip


@router.get("")
async def list_calls(request: Request, account: Authenticated) -> dict[str, Any]:
    """List calls, newest first."""
    params = query_params(request)
    view = view_of(request, account)
    asked = page_request(params, twilio=view.twilio)
    service: CallService = request.app.state.calls
    page = await service.page(account, _filter(params), size=asked.size, position=asked.position)
    return page_object(
        "calls",
        [call_object(view, call) for call in page.items],
        page,
        asked,
        path=f"{view.account_path}/Calls.json",
        filters=[(name, value) for name in _FILTERS for value in params.all(name)[-1:]],
        twilio=view.twilio,
    )


@router.get("/{CallSid}")
async def fetch_call(
    request: Request, account: Authenticated, call_sid: Annotated[str, Path(alias="CallSid")]
) -> dict[str, Any]:
    """Fetch one call."""
    service: CallService = request.app.state.calls
    call = await service.get(account, id_of(request, call_sid))
    return call_object(view_of(request, account), call)


@router.post("")
async def create_call(
    request: Request, response: Response, account: Authenticated
) -> dict[str, Any]:
    """Call somebody; a document says what to do once they answer. Answers once it is queued."""
    wanted = call_request(await body_params(request))
    service: VoiceService = request.app.state.voice
    call = await service.create(account, wanted)
    view = view_of(request, account)
    response.status_code = 201 if view.twilio else 200
    return call_object(view, call)


@router.post("/{CallSid}")
async def update_call(
    request: Request, account: Authenticated, call_sid: Annotated[str, Path(alias="CallSid")]
) -> dict[str, Any]:
    """End a call, or have another document steer it.

    ``completed`` hangs up, ``canceled`` only where nobody has answered yet; that is answered once
    its recordings are stopped.
    """
    params = await body_params(request)
    voice: VoiceService = request.app.state.voice
    call_id = id_of(request, call_sid)
    change = call_change(params)
    if not params.given("Status") and not change.is_empty:
        call = await voice.change(account, call_id, change)
        return call_object(view_of(request, account), call)
    wanted = params.required_choice("Status", WantedOfCall)
    service: CallService = request.app.state.calls
    call = await service.end(account, call_id, cancel=wanted is WantedOfCall.CANCELED)
    return call_object(view_of(request, account), call)


@router.delete("/{CallSid}", status_code=204)
async def delete_call(
    request: Request, account: Authenticated, call_sid: Annotated[str, Path(alias="CallSid")]
) -> Response:
    """Delete a call that is over. Its recordings stay."""
    service: CallService = request.app.state.calls
    await service.delete(account, id_of(request, call_sid))
    return Response(status_code=204)


def _filter(params: Params) -> CallFilter:
    status_text = params.get("Status")
    try:
        status = None if status_text is None else CallStatus(status_text)
    except ValueError:
        allowed = ", ".join(status.value for status in CallStatus)
        raise ApiError(Code.INVALID_ARGUMENT, f"Status must be one of {allowed}") from None
    parent = params.get("ParentCallSid")
    start, end = span(params, "StartTime"), span(params, "EndTime")
    return CallFilter(
        to=params.get("To"),
        from_=params.get("From"),
        status=status,
        # An unknown parent gives an empty list: no call has the empty id as its parent.
        parent_call_id=None if parent is None else parse_id(parent) or "",
        start_from=start.start,
        start_before=start.end,
        end_from=end.start,
        end_before=end.end,
    )
