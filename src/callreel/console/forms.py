"""What forms and queries say, read with bounds."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from callreel.base.errors import PeerError

MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 2000


class Form:
    """The fields of a form, in order."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def get(self, name: str) -> str:
        """The last value of a field, without white space around it; or empty."""
        return next((value.strip() for key, value in reversed(self._fields) if key == name), "")

    def every(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for key, value in self._fields if key == name]

    def without(self, *names: str) -> list[tuple[str, str]]:
        """All other fields that are not empty."""
        return [(key, value) for key, value in self._fields if key not in names and value]


async def posted(request: Request) -> Form:
    """A form that was sent. Raises ``PeerError``."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise PeerError("the form is too long", status=413)
    return _parsed(bytes(body).decode("utf-8", "replace"))


def query(request: Request) -> Form:
    """What the address says after its question mark. Raises ``PeerError``."""
    return _parsed(request.url.query)


def _parsed(text: str) -> Form:
    try:
        return Form(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise PeerError("the form has too many fields", status=413) from None


def chosen(values: Mapping[str, object], name: str) -> str:
    """The name if it is one of these, else empty: what a link or form may say is not believed."""
    return name if name in values else ""
