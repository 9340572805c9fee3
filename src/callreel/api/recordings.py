"""Routes of recordings, under their call and in the account (contract §§4, 5)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from callreel.api.dates import span
from callreel.api.pages import page_object, page_request
from callreel.api.params import body_params, query_params
from callreel.api.recording_params import Wanted, recording_request, recording_update
from callreel.api.resources import recording_object
from callreel.api.views import Authenticated, id_of, view_of
from callreel.base.ids import parse_id
from callreel.calls.model import Recording
from callreel.calls.spelling import Kind
from callreel.service.deletion import DeletionService
from callreel.service.recordings import RecordingService
from callreel.store.recordings import RecordingFilter

_ACCOUNT = "/2010-04-01/Accounts/{AccountSid}"
_OF_CALL = _ACCOUNT + "/Calls/{CallSid}/Recordings"
CURRENT = "Twilio.CURRENT"

CallSid = Annotated[str, Path(alias="CallSid")]
Sid = Annotated[str, Path(alias="Sid")]

router = APIRouter(tags=["Recordings"])


def _service(request: Request) -> RecordingService:
    service: RecordingService = request.app.state.recordings
    return service


def _deletion(request: Request) -> DeletionService:
    service: DeletionService = request.app.state.deletion
    return service


@router.post(_OF_CALL)
async def start_recording(
    request: Request, response: Response, account: Authenticated, call_sid: CallSid
) -> dict[str, Any]:
    """Start recording a call in progress; answers once audio is being kept."""
    asked = recording_request(await body_params(request))
    view = view_of(request, account)
    recording, made = await _service(request).start(account, id_of(request, call_sid), asked)
    response.status_code = 201 if made and view.twilio else 200
    return recording_object(view, recording, under_call=True)


@router.get(_OF_CALL)
async def list_recordings_of_call(
    request: Request, account: Authenticated, call_sid: CallSid
) -> dict[str, Any]:
    """List a call's recordings, newest first."""
    call = await request.app.state.calls.get(account, id_of(request, call_sid))
    view = view_of(request, account)
    path = f"{view.account_path}/Calls/{view.sid(Kind.CALL, call.id)}/Recordings.json"
    return await _page(request, account, call_id=call.id, path=path, under_call=True)


@router.get(_OF_CALL + "/{Sid}")
async def fetch_recording_of_call(
    request: Request, account: Authenticated, call_sid: CallSid, sid: Sid
) -> dict[str, Any]:
    """Fetch one of a call's recordings."""
    found = await _of_call(request, account, call_sid, sid)
    return recording_object(view_of(request, account), found, under_call=True)


@router.post(_OF_CALL + "/{Sid}")
async def update_recording(
    request: Request, account: Authenticated, call_sid: CallSid, sid: Sid
) -> dict[str, Any]:
    """Pause, resume or stop; answers once that is effective."""
    wanted, behavior = recording_update(await body_params(request))
    recording = await _of_call(request, account, call_sid, sid)
    service = _service(request)
    if wanted is Wanted.PAUSED:
        recording = await service.pause(recording, behavior)
    elif wanted is Wanted.IN_PROGRESS:
        recording = await service.resume(recording)
    else:
        recording = await service.stop(recording)
    return recording_object(view_of(request, account), recording, under_call=True)


@router.delete(_OF_CALL + "/{Sid}", status_code=204)
async def delete_recording_of_call(
    request: Request, account: Authenticated, call_sid: CallSid, sid: Sid
) -> Response:
    """Delete one of a call's recordings; answers once audio, report and journal are gone."""
    call_id = id_of(request, call_sid)
    if sid == CURRENT:
        recording_id = (await _service(request).current(account, call_id)).id
    else:
        recording_id = id_of(request, sid)
    await _deletion(request).delete(account, recording_id, call_id=call_id)
    return Response(status_code=204)


@router.get(_ACCOUNT + "/Recordings")
async def list_recordings(request: Request, account: Authenticated) -> dict[str, Any]:
    """List the account's recordings, newest first."""
    path = f"{view_of(request, account).account_path}/Recordings.json"
    params = query_params(request)
    wanted = params.get("CallSid")
    # An unknown call gives an empty list: no recording has the empty id as its call.
    call_id = None if wanted is None else parse_id(wanted) or ""
    if params.get("ConferenceSid") is not None:
        call_id = ""  # there are no conferences
    return await _page(request, account, call_id=call_id, path=path, under_call=False)


@router.delete(_ACCOUNT + "/Recordings/{Sid}", status_code=204)
async def delete_recording(request: Request, account: Authenticated, sid: Sid) -> Response:
    """Delete a recording; answers once audio, report and journal are gone."""
    await _deletion(request).delete(account, id_of(request, sid))
    return Response(status_code=204)


async def _of_call(request: Request, account: Authenticated, call_sid: str, sid: str) -> Recording:
    call_id = id_of(request, call_sid)
    if sid == CURRENT:
        return await _service(request).current(account, call_id)
    return await _service(request).get(account, id_of(request, sid), call_id=call_id)


async def _page(
    request: Request, account: Authenticated, *, call_id: str | None, path: str, under_call: bool
) -> dict[str, Any]:
    params = query_params(request)
    view = view_of(request, account)
    asked = page_request(params, twilio=view.twilio)
    created = span(params, "DateCreated")
    chosen = RecordingFilter(call_id, created.start, created.end)
    page = await _service(request).page(account, chosen, size=asked.size, position=asked.position)
    names = ["DateCreated", "DateCreated<", "DateCreated>", "IncludeSoftDeleted"]
    if not under_call:
        names += ["CallSid", "ConferenceSid"]
    return page_object(
        "recordings",
        [recording_object(view, one, under_call=under_call) for one in page.items],
        page,
        asked,
        path=path,
        filters=[(name, value) for name in names for value in params.all(name)[-1:]],
        twilio=view.twilio,
    )
