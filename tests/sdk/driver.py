"""What the Python drivers share: one JSON object a line on stdin says what to do, one on stdout
says what the client returned or raised."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from decimal import Decimal
from types import FunctionType
from typing import Any

RECORDING = (
    "sid", "account_sid", "call_sid", "conference_sid", "api_version", "date_created",
    "date_updated", "start_time", "duration", "channels", "status", "source", "error_code", "uri",
    "price", "price_unit", "track", "media_url",
)  # fmt: skip
CALL = (
    "sid", "account_sid", "api_version", "date_created", "date_updated", "start_time", "end_time",
    "duration", "status", "direction", "from_", "to", "price", "price_unit", "uri",
)  # fmt: skip


def seen(names: tuple[str, ...], resource: Any) -> dict[str, Any]:
    """A resource's attributes as its user finds them."""
    return {name: getattr(resource, name, None) for name in names}


def moments(filters: dict[str, Any]) -> dict[str, Any]:
    """The same, with dates as the client takes them."""
    return {
        name: datetime.fromisoformat(value) if name.startswith("date_") else value
        for name, value in filters.items()
    }


def serve(script: dict[str, Any]) -> None:
    """Call the script's functions as stdin says, until it ends."""
    verbs = {name: verb for name, verb in script.items() if isinstance(verb, FunctionType)}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"returned": verbs[asked.pop("do")](**asked)}
        except Exception as error:
            answer = {
                "raised": {
                    "type": type(error).__name__,
                    "status": getattr(error, "status", None),
                    "code": getattr(error, "code", None),
                    "message": getattr(error, "msg", None) or repr(error),
                }
            }
        sys.stdout.write(json.dumps(answer, default=_plain) + "\n")
        sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} is none of what a client should return")
