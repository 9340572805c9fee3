"""The vendors' own descriptions of their APIs, and answers held against them."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.sdk.relay import Exchange
from tests.sdk.sdks import ENVIRONMENTS, ROOT

SIGNALWIRE = ROOT.parent / "shared/contract/openapi-recordings-calls.json"
TWILIO = ENVIRONMENTS / "twilio-schema/twilio_api_v2010.json"
_BASE = re.compile(r"(/api/laml)*/2010-04-01(?P<path>/.*?)(\.json)?")
_ERROR = {
    "type": "object",
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "more_info": {"type": "string"},
        "status": {"type": "integer"},
    },
    "required": ["code", "message", "more_info", "status"],
    "additionalProperties": False,
}

_TWILIO_ONLY = {
    # What SignalWire does not offer is answered with its kind of recording all the same.
    ("get", "/Accounts/{AccountSid}/Calls/{CallSid}/Recordings"): (
        "/Accounts/{AccountSid}/Recordings"
    ),
    ("get", "/Accounts/{AccountSid}/Calls/{CallSid}/Recordings/{Sid}"): (
        "/Accounts/{AccountSid}/Recordings/{Sid}"
    ),
}


def description(*, twilio: bool) -> Path:
    """The vendor's file; it need not exist."""
    return TWILIO if twilio else SIGNALWIRE


def check(exchange: Exchange, *, twilio: bool) -> None:
    """Raises ``ValidationError``, or ``AssertionError`` for what the vendor does not know."""
    matched = _BASE.fullmatch(exchange.path)
    assert matched is not None, exchange
    assert exchange.content_type == "application/json", exchange
    if exchange.status >= 400:
        Draft202012Validator(_ERROR).validate(exchange.json)
        assert exchange.json["status"] == exchange.status
        return
    document = _twilio() if twilio else _signalwire()
    method = exchange.method.lower()
    known = [one for one, methods in document["paths"].items() if method in methods]
    if not twilio:
        known += [template for verb, template in _TWILIO_ONLY if verb == method]
    found = [one for one in known if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), matched["path"])]
    assert len(found) == 1, f"{method} {exchange.path} is {found}"
    template = found[0] if twilio else _TWILIO_ONLY.get((method, found[0]), found[0])
    answers = document["paths"][template][method]["responses"]
    assert str(exchange.status) in answers, f"{exchange.status} is not for {method} {template}"
    schema = answers[str(exchange.status)]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    validator.validate(exchange.json)


@cache
def _signalwire() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SIGNALWIRE.read_text())
    return document


@cache
def _twilio() -> dict[str, Any]:
    """As JSON Schema: nullable spelt out, and every property there is expected, and no other."""
    document = json.loads(TWILIO.read_text())
    paths = {
        path.removeprefix("/2010-04-01").removesuffix(".json"): methods
        for path, methods in document["paths"].items()
    }
    return {"paths": _strict(paths), "components": _strict(document["components"])}


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: _strict(value) for key, value in node.items()}
    if found.pop("nullable", False) is True:
        if isinstance(found.get("type"), str):
            found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    if isinstance(node.get("type"), str) and isinstance(node.get("properties"), dict):
        found |= {"required": list(node["properties"]), "additionalProperties": False}
    return found
