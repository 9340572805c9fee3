"""Every operation of the API, described: the document and the readable page are made of these.

A test fails when a route is not among them, or one of them is no route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from callreel.api import parameters as p
from callreel.api.codes import Code
from callreel.api.parameters import Parameter
from callreel.api.schemas import Schema, reference

API = "/2010-04-01/Accounts/{AccountSid}"
_CALLS = API + "/Calls"
_OF_CALL = _CALLS + "/{CallSid}/Recordings"
_RECORDINGS = API + "/Recordings"
_OF_CONFERENCE = API + "/Conferences/{ConferenceSid}/Recordings"

TAGS = {
    "Calls": "Calls that are, or were, sent here.",
    "Call recordings": "Recordings under their call: start, pause, resume, stop.",
    "Recordings": "The account's recordings: metadata, audio, integrity reports.",
    "Conference recordings": "There are no conferences yet: an empty list, and 404.",
    "Server": "The server itself. No credentials.",
}
"""Groups of operations, in reading order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which an operation succeeds."""

    status: int
    """HTTP status."""
    text: str
    """What it means."""
    content: tuple[tuple[str, Schema | None], ...] = ()
    """Media types, each with its schema; None for bytes."""
    headers: tuple[str, ...] = ()
    """Names of the headers it always has."""
    links: tuple[tuple[str, Mapping[str, str]], ...] = ()
    """Names of operations that go on from here, each with where its parameters come from."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    """In capitals."""
    path: str
    """Template, without ``.json`` unless that is what tells it from another."""
    name: str
    """Unique; ``operationId``."""
    tag: str
    """One of ``TAGS``."""
    summary: str
    """A few words."""
    text: str
    """What a developer needs to know besides the parameters. Paragraphs, backquotes for code."""
    answers: tuple[Answer, ...]
    """How it succeeds."""
    in_path: tuple[Parameter, ...] = ()
    """Parameters of the path, in order."""
    query: tuple[Parameter, ...] = ()
    """Parameters of the query."""
    headers: tuple[Parameter, ...] = ()
    """Headers that it reads."""
    body: tuple[Parameter, ...] = ()
    """Fields of the body, a form or a JSON object."""
    refusals: tuple[Code, ...] = ()
    """Codes of a refused state, besides those of the parameters; 400 or 422 by dialect."""
    unlisted: tuple[int, ...] = ()
    """Further statuses in the envelope."""
    guarded: bool = True
    """Whether it needs credentials."""
    route: str | None = None
    """The route's template, where several operations share one."""

    @property
    def route_path(self) -> str:
        """Template of the route that serves it."""
        return self.route or self.path

    @property
    def refused(self) -> tuple[Code, ...]:
        """Every code of a refused parameter or state, in numerical order."""
        codes = {one.refused for one in (*self.query, *self.body) if one.refused is not None}
        if self.query or self.body:
            codes.add(Code.WRONG_FORMAT)
        return tuple(sorted(codes | set(self.refusals)))


def _json(schema: str) -> tuple[tuple[str, Schema | None], ...]:
    return (("application/json", reference(schema)),)


def _ok(text: str, schema: str, links: Iterable[str] = ()) -> Answer:
    return Answer(HTTPStatus.OK, text, _json(schema), links=_links(schema, links))


_ACCOUNT = "$request.path.AccountSid"
_FROM: Mapping[str, Mapping[str, str]] = {
    "Call": {"CallSid": "$response.body#/sid"},
    "CallList": {"CallSid": "$response.body#/calls/0/sid"},
    "Recording": {"Sid": "$response.body#/sid"},
    "RecordingList": {"Sid": "$response.body#/recordings/0/sid"},
    "CallRecording": {"CallSid": "$response.body#/call_sid", "Sid": "$response.body#/sid"},
    "CallRecordingList": {
        "CallSid": "$request.path.CallSid",
        "Sid": "$response.body#/recordings/0/sid",
    },
}


def _links(schema: str, names: Iterable[str]) -> tuple[tuple[str, Mapping[str, str]], ...]:
    found = _FROM.get(schema.removeprefix("Twilio"), {})
    return tuple(
        (
            name,
            {"AccountSid": _ACCOUNT}
            | {
                parameter: source
                for parameter, source in found.items()
                if parameter != "CallSid" or "call" in name or name == "start_recording"
            },
        )
        for name in names
    )


_ON_CALL = ("fetch_call", "start_recording", "list_call_recordings", "update_call")
_ON_RECORDING = ("fetch_recording", "fetch_media", "fetch_integrity", "delete_recording")
_ON_CALL_RECORDING = (
    "fetch_call_recording",
    "update_call_recording",
    "delete_call_recording",
    *_ON_RECORDING,
)


_DELETED = Answer(HTTPStatus.NO_CONTENT, "Deleted. No body.")
_MEDIA_HEADERS = (
    "Accept-Ranges", "Cache-Control", "ETag", "Last-Modified", "Vary", "X-Content-Type-Options",
)  # fmt: skip


def _media(content: tuple[tuple[str, Schema | None], ...], *, head: bool) -> tuple[Answer, ...]:
    audio = tuple(one for one in content if one[1] is None)
    whole = (*_MEDIA_HEADERS, "Content-Length")
    unchanged = Answer(HTTPStatus.NOT_MODIFIED, "You have it already.", headers=_MEDIA_HEADERS)
    if head:
        return (Answer(HTTPStatus.OK, "There is such a file.", audio, whole), unchanged)
    mixed = len(audio) != len(content)
    return (
        # Metadata has no entity tag: where both can come, no header is sure.
        Answer(HTTPStatus.OK, "The whole file.", content, () if mixed else whole),
        Answer(HTTPStatus.PARTIAL_CONTENT, "The range.", audio, (*whole, "Content-Range")),
        unchanged,
    )


_KINDS = {
    ".wav": "as WAV",
    ".mp3": "as MP3",
    ".flac": "as FLAC",
    ".opus": "as Ogg Opus",
    ".ogg": "as Ogg Opus, by its other ending",
}


def _audio(ending: str, content: tuple[tuple[str, Schema | None], ...]) -> tuple[Operation, ...]:
    """GET and HEAD of a recording's audio."""
    kind = _KINDS.get(ending, "without an extension")
    name = ending.replace(".", "_")
    extra = (
        ""
        if ending
        else "WAV, unless the first type of `Accept` is `application/json`: then the metadata.\n\n"
    )
    text = (
        f"{extra}404 until the recording is `completed`, and when it is `absent`. Media needs "
        'credentials, unless the server\'s setting is `media_auth = "public"`; then it goes to '
        "whoever knows the URL."
    )
    common = (_RECORDINGS + "/{Sid}" + ending, f"media{name}")
    return tuple(
        Operation(
            method=method,
            path=common[0],
            name=f"{verb}_{common[1]}",
            tag="Recordings",
            summary=f"{'Fetch' if method == 'GET' else 'Look for'} the audio {kind}",
            text=text,
            answers=_media(content, head=method == "HEAD"),
            in_path=(p.ACCOUNT_SID, p.RECORDING_SID),
            query=p.MEDIA,
            headers=p.MEDIA_HEADERS if method == "GET" else p.MEDIA_HEADERS[-1:],
            unlisted=(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,) if method == "GET" else (),
            route=_RECORDINGS + "/{Sid}",
        )
        for method, verb in (("GET", "fetch"), ("HEAD", "head"))
    )


def _deletions() -> tuple[Operation, ...]:
    """DELETE of a recording: ``.json`` has a path of its own, so it is there twice."""
    return tuple(
        Operation(
            "DELETE",
            _RECORDINGS + "/{Sid}" + ending,
            "delete_recording" + name,
            "Recordings",
            "Delete a recording" + said,
            "Answers once the audio, the report and the journal are gone. A recording that is not "
            "completed or absent is refused with 20009.",
            (_DELETED,),
            (p.ACCOUNT_SID, p.RECORDING_SID),
            refusals=(Code.UNFINISHED,),
            route=_RECORDINGS + "/{Sid}",
        )
        for ending, name, said in (("", "", ""), (".json", "_json", " at its metadata's path"))
    )


_CALL_PATH = (p.ACCOUNT_SID, p.CALL_SID)
_CONFERENCE_PATH = (p.ACCOUNT_SID, p.CONFERENCE_SID)

CALLS = (
    Operation(
        "GET",
        _CALLS,
        "list_calls",
        "Calls",
        "List calls",
        "The account's calls, newest first. Filters narrow each other down.",
        (_ok("A page of calls.", "CallList", _ON_CALL),),
        (p.ACCOUNT_SID,),
        (*p.CALL_FILTERS, *p.PAGES),
    ),
    Operation(
        "GET",
        _CALLS + "/{CallSid}",
        "fetch_call",
        "Calls",
        "Fetch a call",
        "One call, live or over.",
        (_ok("The call.", "Call", _ON_CALL),),
        _CALL_PATH,
    ),
    Operation(
        "POST",
        _CALLS + "/{CallSid}",
        "update_call",
        "Calls",
        "End a call",
        "Hangs up, and answers once the call's recordings are stopped. A call that is over cannot "
        "be ended again: 10000 in the SignalWire dialect, 21220 in Twilio's. Canceling one that "
        "was answered is refused with 10000.\n\nA call cannot be redirected: it is sent here only "
        "to be recorded. `Url`, `Twiml` or `Laml` without `Status` gives 21220.",
        (_ok("The call, ended.", "Call", ("delete_call",)),),
        _CALL_PATH,
        body=p.UPDATE_CALL,
        refusals=(Code.INVALID_ARGUMENT, Code.NOT_IN_PROGRESS),
    ),
    Operation(
        "DELETE",
        _CALLS + "/{CallSid}",
        "delete_call",
        "Calls",
        "Delete a call",
        "Forgets a call that is over; its recordings stay. One that is not over is refused with "
        "20009.",
        (_DELETED,),
        _CALL_PATH,
        refusals=(Code.UNFINISHED,),
    ),
)

OF_CALL = (
    Operation(
        "POST",
        _OF_CALL,
        "start_recording",
        "Call recordings",
        "Start a recording",
        "Records a call in progress. The answer comes once audio is being kept: from that instant "
        "every packet of the chosen tracks is in the file.\n\nA call that has not been answered, "
        "or is over, is refused with 21220. A second start while one made through the API runs "
        "gives that recording, unchanged, with 200. A refused request changes nothing.",
        (
            _ok(
                "Being recorded, in the SignalWire dialect; or it was already.",
                "CallRecording",
                _ON_CALL_RECORDING,
            ),
            Answer(
                HTTPStatus.CREATED,
                "Being recorded, in the Twilio dialect.",
                _json("TwilioCallRecording"),
                links=_links("CallRecording", _ON_CALL_RECORDING),
            ),
        ),
        _CALL_PATH,
        body=p.START,
        refusals=(Code.NOT_IN_PROGRESS,),
    ),
    Operation(
        "GET",
        _OF_CALL,
        "list_call_recordings",
        "Call recordings",
        "List a call's recordings",
        "Newest first. An unknown call is a 404.",
        (_ok("A page of recordings.", "CallRecordingList", _ON_CALL_RECORDING),),
        _CALL_PATH,
        (*p.CREATED, p.SOFT_DELETED, *p.PAGES),
    ),
    Operation(
        "GET",
        _OF_CALL + "/{Sid}",
        "fetch_call_recording",
        "Call recordings",
        "Fetch a recording of a call",
        "A recording of another call is a 404.",
        (_ok("The recording.", "CallRecording", _ON_CALL_RECORDING),),
        (*_CALL_PATH, p.LIVE_RECORDING_SID),
    ),
    Operation(
        "POST",
        _OF_CALL + "/{Sid}",
        "update_call_recording",
        "Call recordings",
        "Pause, resume or stop a recording",
        "The answer comes once it is effective: what is said while paused is kept nowhere. Pausing "
        "a paused recording, or resuming a running one, changes nothing and is a 200. One that is "
        "stopped, completed or absent is refused with 21220. `Twilio.CURRENT` is a 404 when "
        "nothing is live.",
        (_ok("The recording.", "CallRecording", _ON_CALL_RECORDING),),
        (*_CALL_PATH, p.LIVE_RECORDING_SID),
        body=p.UPDATE,
        refusals=(Code.NOT_IN_PROGRESS,),
    ),
    Operation(
        "DELETE",
        _OF_CALL + "/{Sid}",
        "delete_call_recording",
        "Call recordings",
        "Delete a recording of a call",
        "Answers once the audio, the report and the journal are gone. A recording that is not "
        "completed or absent is refused with 20009.",
        (_DELETED,),
        (*_CALL_PATH, p.LIVE_RECORDING_SID),
        refusals=(Code.UNFINISHED,),
    ),
)

_WAV = ("audio/x-wav", None)
_MP3 = ("audio/mpeg", None)
_FLAC = ("audio/flac", None)
_OPUS = ("audio/ogg", None)

RECORDINGS = (
    Operation(
        "GET",
        _RECORDINGS,
        "list_recordings",
        "Recordings",
        "List recordings",
        "The account's recordings, newest first. Filters narrow each other down.",
        (_ok("A page of recordings.", "RecordingList", _ON_RECORDING),),
        (p.ACCOUNT_SID,),
        (*p.RECORDING_FILTERS, *p.PAGES),
    ),
    Operation(
        "GET",
        _RECORDINGS + "/{Sid}.json",
        "fetch_recording",
        "Recordings",
        "Fetch a recording's metadata",
        "Needs credentials, whatever `media_auth` is.",
        (_ok("The recording.", "Recording"),),
        (p.ACCOUNT_SID, p.RECORDING_SID),
        route=_RECORDINGS + "/{Sid}",
    ),
    *_audio("", (_WAV, *_json("Recording"))),
    *_audio(".wav", (_WAV,)),
    *_audio(".mp3", (_MP3,)),
    *_audio(".flac", (_FLAC,)),
    *_audio(".opus", (_OPUS,)),
    *_audio(".ogg", (_OPUS,)),
    *_deletions(),
    Operation(
        "GET",
        _RECORDINGS + "/{Sid}/Integrity",
        "fetch_integrity",
        "Recordings",
        "Fetch a recording's integrity report",
        "What came, what did not, and what was done about it. callreel's own: the vendors have "
        "none. 404 until the recording is completed or absent.",
        (_ok("The report.", "IntegrityReport"),),
        (p.ACCOUNT_SID, p.RECORDING_SID),
    ),
)

CONFERENCES = (
    Operation(
        "GET",
        _OF_CONFERENCE,
        "list_conference_recordings",
        "Conference recordings",
        "List a conference's recordings",
        "An empty list.",
        (_ok("An empty page.", "RecordingList"),),
        _CONFERENCE_PATH,
        (*p.CREATED, *p.PAGES),
    ),
    Operation(
        "GET",
        _OF_CONFERENCE + "/{Sid}",
        "fetch_conference_recording",
        "Conference recordings",
        "Fetch a recording of a conference",
        "404.",
        (),
        (*_CONFERENCE_PATH, p.LIVE_RECORDING_SID),
    ),
    Operation(
        "POST",
        _OF_CONFERENCE + "/{Sid}",
        "update_conference_recording",
        "Conference recordings",
        "Pause, resume or stop a recording of a conference",
        "404, once the parameters are found good.",
        (),
        (*_CONFERENCE_PATH, p.LIVE_RECORDING_SID),
        body=p.UPDATE,
    ),
    Operation(
        "DELETE",
        _OF_CONFERENCE + "/{Sid}",
        "delete_conference_recording",
        "Conference recordings",
        "Delete a recording of a conference",
        "404.",
        (),
        (*_CONFERENCE_PATH, p.LIVE_RECORDING_SID),
    ),
)

_CODE = Parameter(
    "code",
    {"type": "integer", "enum": [code.value for code in Code]},
    "The code.",
    "a code",
    required=True,
    example="21220",
)

SERVER = (
    Operation(
        "GET",
        "/healthz",
        "health",
        "Server",
        "Ask whether the server is up",
        "200 once SIP, API, database and media workers are up; else 503, and which is not.",
        (
            _ok("Every part is up.", "Health"),
            Answer(HTTPStatus.SERVICE_UNAVAILABLE, "Some part is not.", _json("Health")),
        ),
        guarded=False,
    ),
    Operation(
        "GET",
        "/errors/{code}",
        "explain_error",
        "Server",
        "Read what an error code means",
        "The page that `more_info` points to.",
        (Answer(HTTPStatus.OK, "The page.", (("text/html", {"type": "string"}),)),),
        (_CODE,),
        guarded=False,
    ),
    Operation(
        "GET",
        "/openapi.json",
        "openapi",
        "Server",
        "Fetch this document",
        "OpenAPI 3.1.",
        (Answer(HTTPStatus.OK, "The document.", (("application/json", {"type": "object"}),)),),
        guarded=False,
    ),
    Operation(
        "GET",
        "/docs",
        "reference",
        "Server",
        "Read this document as a page",
        "Works without scripts.",
        (Answer(HTTPStatus.OK, "The page.", (("text/html", {"type": "string"}),)),),
        guarded=False,
    ),
)

OPERATIONS = (*CALLS, *OF_CALL, *RECORDINGS, *CONFERENCES, *SERVER)
"""All of them, in reading order."""
