"""Pages of a list: sizes, tokens and the links between them (contract §5.2); pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.api.params import Params
from callreel.store.pages import Page, Position

DEFAULT_SIZE = 50
MAX_SIZE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN = struct.Struct(">q16s")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is asked for."""

    size: int
    """Items a page."""
    number: int
    """``Page``: what the client calls it; from 0."""
    position: Position | None
    """Where it begins; None for the first."""


def page_request(params: Params, *, twilio: bool) -> PageRequest:
    """Read ``PageSize``, ``Page`` and ``PageToken``. Raises :class:`ApiError`."""
    size_text = params.get("PageSize") or str(DEFAULT_SIZE)
    digits = size_text.lstrip("0") if size_text.isascii() and size_text.isdigit() else ""
    if not digits:
        raise ApiError(Code.BAD_PAGE_SIZE, "PageSize must be a whole number from 1 to 1000")
    page_text = params.get("Page") or "0"
    if not (page_text.isascii() and page_text.isdigit()) or len(page_text) > 9:
        raise ApiError(Code.INVALID_ARGUMENT, "Page must be a whole number from 0 on")
    token = params.get("PageToken")
    number = int(page_text)
    if token is None and number > 0 and not twilio:
        raise ApiError(Code.BAD_PAGE_TOKEN, "A Page after the first needs its PageToken")
    position = None if token is None else read_token(token)
    size = min(int(digits), MAX_SIZE) if len(digits) < 6 else MAX_SIZE
    return PageRequest(size, number, position)


def write_token(position: Position) -> str:
    """``PA`` forward, ``PB`` backward, and the position behind it."""
    micros = (position.created_at - _EPOCH) // timedelta(microseconds=1)
    packed = _TOKEN.pack(micros, bytes.fromhex(position.id))
    mark = "PB" if position.backward else "PA"
    return mark + base64.urlsafe_b64encode(packed).decode()


def read_token(token: str) -> Position:
    """The position behind a token. Raises :class:`ApiError`."""
    refusal = ApiError(Code.BAD_PAGE_TOKEN, "PageToken is not one that this server gave out")
    if token[:2] not in ("PA", "PB"):
        raise refusal
    try:
        packed = base64.b64decode(token[2:].encode("ascii"), altchars=b"-_", validate=True)
        micros, id_ = _TOKEN.unpack(packed)
        moment = _EPOCH + timedelta(microseconds=micros)
    except (ValueError, struct.error, OverflowError):
        raise refusal from None
    return Position(moment, id_.hex(), backward=token[:2] == "PB")


def page_object(
    name: str,
    items: Sequence[dict[str, Any]],
    page: Page[Any],
    asked: PageRequest,
    *,
    path: str,
    filters: Sequence[tuple[str, str]],
    twilio: bool,
) -> dict[str, Any]:
    """The list's JSON object; links keep ``filters`` and the page's size."""

    def link(number: int, position: Position | None) -> str:
        query = [*filters, ("PageSize", str(asked.size)), ("Page", str(number))]
        if position is not None:
            query.append(("PageToken", write_token(position)))
        return f"{path}?{urlencode(query)}"

    body: dict[str, Any] = {
        "uri": link(asked.number, asked.position),
        "first_page_uri": link(0, None),
        "next_page_uri": link(asked.number + 1, page.next) if page.next else None,
        "previous_page_uri": (
            link(max(0, asked.number - 1), page.previous) if page.previous else None
        ),
        "page": asked.number,
        "page_size": asked.size,
        name: list(items),
    }
    if twilio:
        start = asked.number * asked.size
        body |= {"start": start, "end": start + max(0, len(items) - 1)}
    return body
