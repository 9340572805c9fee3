"""Recordings of conferences (contract §13): there are none yet, and these paths say so."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from callreel.api.dates import span
from callreel.api.errors import not_found
from callreel.api.pages import page_object, page_request
from callreel.api.params import body_params, query_params
from callreel.api.recording_params import recording_update
from callreel.api.views import Authenticated, id_of, view_of
from callreel.calls.spelling import Kind
from callreel.store.pages import Page

router = APIRouter(
    prefix="/2010-04-01/Accounts/{AccountSid}/Conferences/{ConferenceSid}/Recordings",
    tags=["Conference recordings"],
)

ConferenceSid = Annotated[str, Path(alias="ConferenceSid")]
Sid = Annotated[str, Path(alias="Sid")]
_FILTERS = ("DateCreated", "DateCreated<", "DateCreated>")


@router.get("")
async def list_recordings_of_conference(
    request: Request, account: Authenticated, conference_sid: ConferenceSid
) -> dict[str, Any]:
    """List a conference's recordings: an empty list."""
    params = query_params(request)
    view = view_of(request, account)
    conference = view.sid(Kind.CONFERENCE, id_of(request, conference_sid))
    asked = page_request(params, twilio=view.twilio)
    span(params, "DateCreated")
    return page_object(
        "recordings",
        [],
        Page((), None, None),
        asked,
        path=f"{view.account_path}/Conferences/{conference}/Recordings.json",
        filters=[(name, value) for name in _FILTERS for value in params.all(name)[-1:]],
        twilio=view.twilio,
    )


@router.get("/{Sid}")
async def fetch_recording_of_conference(
    request: Request, account: Authenticated, conference_sid: ConferenceSid, sid: Sid
) -> None:
    """Fetch one of a conference's recordings: not found."""
    raise not_found(request)


@router.post("/{Sid}")
async def update_recording_of_conference(
    request: Request, account: Authenticated, conference_sid: ConferenceSid, sid: Sid
) -> None:
    """Pause, resume or stop a conference's recording: not found."""
    recording_update(await body_params(request))
    raise not_found(request)


@router.delete("/{Sid}")
async def delete_recording_of_conference(
    request: Request, account: Authenticated, conference_sid: ConferenceSid, sid: Sid
) -> None:
    """Delete one of a conference's recordings: not found."""
    raise not_found(request)
