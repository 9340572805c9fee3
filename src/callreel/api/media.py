"""A recording at its account path: metadata or audio, by suffix and ``Accept`` (contract §5.4)."""

from __future__ import annotations

from email.utils import format_datetime
from enum import Enum

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from callreel.api.auth import authenticated, media_account
from callreel.api.codes import Code
from callreel.api.errors import ApiError, not_found
from callreel.api.params import query_params
from callreel.api.ranges import Unsatisfiable, names, requested_range
from callreel.api.recordings import Sid
from callreel.api.resources import recording_object
from callreel.api.views import AccountSid, Authenticated, id_of, view_of
from callreel.calls.spelling import Kind
from callreel.service.media import MediaFormat, MediaService
from callreel.service.recordings import RecordingService

router = APIRouter(prefix="/2010-04-01/Accounts/{AccountSid}/Recordings", tags=["Recordings"])

_TYPES = {
    MediaFormat.WAV: "audio/x-wav",
    MediaFormat.MP3: "audio/mpeg",
    MediaFormat.FLAC: "audio/flac",
    MediaFormat.OPUS: "audio/ogg",
}
_ENDINGS = {**{f".{one.value}": one for one in MediaFormat}, ".ogg": MediaFormat.OPUS}
"""What the path may end in. Ogg Opus has two endings: RFC 7845 §9 wants the one, some players the
other."""


class _Channels(Enum):
    """What ``RequestedChannels`` may be."""

    ONE = "1"
    TWO = "2"


@router.api_route("/{Sid}", methods=["GET", "HEAD"])
async def fetch_recording(request: Request, account_sid: AccountSid, sid: Sid) -> Response:
    """Metadata with ``.json`` or an ``Accept`` that begins with JSON; else the audio.

    ``.wav`` or no extension gives WAV, ``.mp3``, ``.flac`` and ``.opus`` (or ``.ogg``) those;
    ``RequestedChannels=1`` mixes a dual recording
    down, ``Download=true`` has it saved. ``Range`` and ``HEAD`` work, for players.
    """
    recordings: RecordingService = request.app.state.recordings
    stem, format_ = _split(sid)
    if format_ is None and _wants_json(request):
        account = await authenticated(request, account_sid)
        found = await recordings.get(account, id_of(request, stem))
        return JSONResponse(recording_object(view_of(request, account), found, under_call=False))
    account = await media_account(request, account_sid)
    params = query_params(request)
    channels = params.optional_choice("RequestedChannels", _Channels)
    download = params.flag("Download")
    found = await recordings.get(account, id_of(request, stem))
    media: MediaService = request.app.state.media
    file = await media.open(found, format_ or MediaFormat.WAV, mixed=channels is _Channels.ONE)
    if file is None:
        raise not_found(request)
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "ETag": file.etag,
        "Last-Modified": format_datetime(file.modified, usegmt=True),
        "Vary": "Accept, Authorization",
        "X-Content-Type-Options": "nosniff",
    }
    if download:
        name = view_of(request, account).sid(Kind.RECORDING, found.id)
        headers["Content-Disposition"] = f'attachment; filename="{name}.{file.format.value}"'
    media_type = _TYPES[file.format]
    if names(request.headers.get("if-none-match"), file.etag):
        return Response(status_code=304, headers=headers)
    ranged = request.headers.get("range")
    if request.method == "HEAD" or request.headers.get("if-range", file.etag) != file.etag:
        ranged = None  # RFC 9110 §14.2: a range is asked for with GET
    try:
        part = requested_range(ranged, file.size_bytes)
    except Unsatisfiable:
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f"The file has {file.size_bytes} bytes: none of them is in the Range",
            status=416,
            headers={**headers, "Content-Range": f"bytes */{file.size_bytes}"},
        ) from None
    start, end = (part.start, part.end) if part else (0, file.size_bytes)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    status = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(
        media.read(file, start, end), status_code=status, headers=headers, media_type=media_type
    )


@router.get("/{Sid}/Integrity")
async def fetch_integrity(request: Request, account: Authenticated, sid: Sid) -> Response:
    """The integrity report of a finished recording: ours, no vendor has it."""
    recordings: RecordingService = request.app.state.recordings
    media: MediaService = request.app.state.media
    found = await recordings.get(account, id_of(request, sid))
    report = await media.report(found)
    if report is None:
        raise not_found(request)
    return Response(report, media_type="application/json")


def _split(sid: str) -> tuple[str, MediaFormat | None]:
    for ending, format_ in _ENDINGS.items():
        if sid.endswith(ending):
            return sid.removesuffix(ending), format_
    return sid, None


def _wants_json(request: Request) -> bool:
    if request.scope.get("callreel.json"):
        return True
    first = request.headers.get("accept", "").partition(",")[0].partition(";")[0]
    return first.strip().lower() == "application/json"
