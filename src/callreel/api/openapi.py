"""The API's own OpenAPI 3.1 document, made of ``operations`` and ``schemas``; ``/openapi.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response

import callreel
from callreel.api.codes import ADVICE, Code
from callreel.api.examples import answer_examples
from callreel.api.operations import OPERATIONS, TAGS, Answer, Operation
from callreel.api.parameters import Parameter
from callreel.api.schemas import Schema, error, schemas

router = APIRouter(include_in_schema=False)

DESCRIPTION = """\
Call recording behind the API that the clients of the SignalWire Compatibility API and of Twilio's
2010-04-01 API already speak.

**Paths.** Every path exists under `/api/laml` too, and with `.json` at its end. Links in an answer
begin with the prefix that the request came by.

**Dialects.** The form of the account's own SID decides in whose types it is answered: a dashed
UUID is answered as SignalWire does, `AC` and 32 hex digits as Twilio does. A refused parameter or
state is 422 in the one, 400 in the other. In paths and filters any spelling of a SID is read.

**Bodies** are forms; JSON objects are read too. Unknown parameters are ignored, an empty value
counts as absent, a refused request changes nothing. Of a parameter given twice the last value
counts.

**Errors** are always JSON, always the same four keys; `more_info` is a page that says what to do.
"""

_GENERAL = {
    HTTPStatus.UNAUTHORIZED: "No or wrong credentials, or another account's path: the same answer "
    "whether the resource exists or not.",
    HTTPStatus.NOT_FOUND: "No such resource in this account.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Not for this method; `Allow` names those that work.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than 256 KiB.",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "The file has no byte of the `Range`.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many wrong credentials from this address; wait for "
    "`Retry-After` seconds.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong in the server; its log says what.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The server cannot do this now; nothing was lost.",
}
GENERAL_CODES: Mapping[int, Code] = {
    HTTPStatus.UNAUTHORIZED: Code.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND: Code.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: Code.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Code.TOO_LARGE,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: Code.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: Code.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR: Code.OUR_FAULT,
    HTTPStatus.SERVICE_UNAVAILABLE: Code.OUR_FAULT,
}
"""What the code is where the status alone decides it."""

_TEXT: Schema = {"type": "string"}
HEADERS: dict[str, tuple[str, Schema]] = {
    "Accept-Ranges": ("Ranges of bytes can be asked for.", {"const": "bytes"}),
    "Allow": ("Methods that work.", _TEXT),
    "Cache-Control": ("Audio never changes, and is nobody else's.", _TEXT),
    "Content-Length": ("Bytes that follow.", {"type": "integer", "minimum": 0}),
    "Content-Range": ("Which bytes these are, and of how many.", {"pattern": "^bytes .+/[0-9]+$"}),
    "ETag": ("For `If-None-Match` and `If-Range`.", {"pattern": '^".+"$'}),
    "Last-Modified": ("When the file was made.", _TEXT),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 0}),
    "Vary": ("What the answer depends on.", _TEXT),
    "WWW-Authenticate": ("How to sign in.", {"pattern": '^Basic realm="callreel"'}),
    "X-Content-Type-Options": ("The type is to be believed.", {"const": "nosniff"}),
}
_SENT_WITH = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.METHOD_NOT_ALLOWED: ("Allow",),
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: ("Accept-Ranges", "Content-Range", "ETag"),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
}


@router.get("/openapi.json")
async def openapi() -> Response:
    """The document. It holds nobody's data, so it needs no credentials."""
    return Response(document_bytes(), media_type="application/json")


@cache
def document_bytes() -> bytes:
    """The document as it is sent."""
    return json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()


def document() -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "callreel",
            "summary": "A call recorder you run yourself.",
            "description": DESCRIPTION,
            "version": callreel.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "/", "description": "As Twilio's clients ask."},
            {"url": "/api/laml", "description": "As SignalWire's clients ask."},
        ],
        "security": [{"basic": []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The AccountSid and the auth token, or an API key of the "
                    "account and its secret.",
                }
            },
            "schemas": schemas(),
            "responses": {_name(status): _general(status) for status in _GENERAL},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": one.name,
        "tags": [one.tag],
        "summary": one.summary,
        "description": one.text,
        "parameters": [
            *(_parameter(parameter, "path") for parameter in one.in_path),
            *(_parameter(parameter, "query") for parameter in one.query),
            *(_parameter(parameter, "header") for parameter in one.headers),
        ],
        "responses": _responses(one),
    }
    if not one.guarded:
        made["security"] = []
    if one.body:
        made["requestBody"] = _body(one)
    return made


def _parameter(one: Parameter, place: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": one.name,
        "in": place,
        "required": place == "path",
        "description": _described(one),
        "schema": one.schema,
    }
    if one.example is not None:
        made["example"] = one.example
    return made


def _described(one: Parameter) -> str:
    default = f" Default: `{one.default}`." if one.default is not None else ""
    refused = f" Refused with {one.refused.value}." if one.refused is not None else ""
    return f"{one.text}{default}{refused}"


def _body(one: Operation) -> dict[str, Any]:
    return {
        "required": any(field.required for field in one.body),
        "content": {
            "application/x-www-form-urlencoded": {"schema": _object(one, json_body=False)},
            "application/json": {"schema": _object(one, json_body=True)},
        },
    }


def _object(one: Operation, *, json_body: bool) -> Schema:
    """The fields as an object; in JSON, null counts as absent as an empty value does."""
    made: Schema = {
        "type": "object",
        "properties": {
            field.name: {
                "description": _described(field),
                **({} if field.only_with else _field(field, json_body=json_body)),
            }
            for field in one.body
        },
    }
    if required := [field.name for field in one.body if field.required]:
        made["required"] = required
    for field in one.body:
        if field.only_with is not None:
            made |= _only_with(one, field, _field(field, json_body=json_body))
    return made


def _only_with(one: Operation, field: Parameter, schema: Schema) -> Schema:
    """What JSON Schema says of a field that is looked at only beside a value of another."""
    assert field.only_with is not None
    name, value = field.only_with
    (other,) = (each for each in one.body if each.name == name)
    rest = [each for each in other.schema["enum"] if each != value]
    return {
        "anyOf": [
            {"properties": {name: {"const": value}, field.name: schema}},
            {"properties": {name: {"enum": rest}}},
        ]
    }


def _field(field: Parameter, *, json_body: bool) -> Schema:
    schema = field.schema
    if json_body and not field.required:
        schema = _with_null(schema)
    if field.default is not None:
        schema = {**schema, "default": field.default}
    if field.example is not None:
        schema = {**schema, "examples": [field.example]}
    return schema


def _with_null(schema: Schema) -> Schema:
    """The same for JSON: null counts as absent, in an array too."""
    if "anyOf" not in schema:
        return schema
    choices = [
        {**one, "items": {"anyOf": [one["items"], {"type": "null"}]}} if "items" in one else one
        for one in schema["anyOf"]
    ]
    return {**schema, "anyOf": [*choices, {"type": "null"}]}


def _responses(one: Operation) -> dict[str, Any]:
    made = {str(int(answer.status)): _answer(one, answer) for answer in one.answers}
    if one.refused:
        for status, dialect in ((400, "Twilio"), (422, "SignalWire")):
            made[str(status)] = _refusal(one, status, dialect)
    for status in _statuses(one):
        made.setdefault(str(int(status)), {"$ref": f"#/components/responses/{_name(status)}"})
    return dict(sorted(made.items()))


def _statuses(one: Operation) -> Iterable[int]:
    """The general failures that an operation can end in."""
    yield HTTPStatus.INTERNAL_SERVER_ERROR
    yield HTTPStatus.METHOD_NOT_ALLOWED
    yield from one.unlisted
    if one.in_path:
        yield HTTPStatus.NOT_FOUND
    if one.guarded:
        yield HTTPStatus.UNAUTHORIZED
        yield HTTPStatus.TOO_MANY_REQUESTS
        yield HTTPStatus.SERVICE_UNAVAILABLE
    if one.body:
        yield HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def _answer(one: Operation, answer: Answer) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.text}
    if answer.content:
        made["content"] = {
            media_type: {} if schema is None else _content(one, schema)
            for media_type, schema in answer.content
        }
    if answer.headers:
        made["headers"] = {name: _header(name) for name in answer.headers}
    if answer.links:
        made["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)}
            for name, parameters in answer.links
        }
    return made


def _content(one: Operation, schema: Schema) -> dict[str, Any]:
    examples = answer_examples(schema.get("$ref", "").rpartition("/")[2])
    return {"schema": schema} | ({"examples": examples} if examples else {})


def _header(name: str) -> dict[str, Any]:
    text, schema = HEADERS[name]
    return {"description": text, "required": True, "schema": {"type": "string"} | schema}


def _refusal(one: Operation, status: int, dialect: str) -> dict[str, Any]:
    lines = [f"- {code.value}: {ADVICE[code]}" for code in one.refused]
    text = f"Refused, in the {dialect} dialect; nothing was changed.\n\n" + "\n".join(lines)
    schema = error(one.refused, [status])
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _name(status: int) -> str:
    return HTTPStatus(status).name.title().replace("_", "")


def _general(status: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": _GENERAL[HTTPStatus(status)],
        "content": {"application/json": {"schema": error([GENERAL_CODES[status]], [status])}},
    }
    if names := _SENT_WITH.get(HTTPStatus(status)):
        made["headers"] = {name: _header(name) for name in names}
    return made
