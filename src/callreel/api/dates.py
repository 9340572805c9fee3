"""The date forms that clients send in filters (contract §5.1); pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.api.params import Params


@dataclass(frozen=True, slots=True)
class Span:
    """An interval of wall time, open where None."""

    start: datetime | None = None
    """At or after."""
    end: datetime | None = None
    """Before."""


def parse_date(text: str, name: str) -> datetime:
    """ISO 8601 with or without a time, or RFC 2822; UTC unless it names a zone.

    Raises :class:`ApiError` for anything else.
    """
    try:
        moment = datetime.fromisoformat(text.upper())  # RFC 3339 §5.6 allows t and z
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, IndexError, OverflowError):
            raise ApiError(
                Code.INVALID_ARGUMENT,
                f"{name} must be a date such as 2026-11-22 or 2026-11-22T09:30:00Z",
            ) from None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ApiError(Code.INVALID_ARGUMENT, f"{name} is out of range") from None


def span(params: Params, name: str) -> Span:
    """The filter that ``name``, ``name<`` and ``name>`` make together.

    Bare: that UTC day. ``>``: at or after the instant. ``<``: before it.
    """
    start: datetime | None = None
    end: datetime | None = None
    if (day := params.get(name)) is not None:
        start = parse_date(day, name).replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            end = start + timedelta(days=1)
        except OverflowError:
            end = None
    if (after := params.get(f"{name}>")) is not None:
        moment = parse_date(after, f"{name}>")
        start = moment if start is None else max(start, moment)
    if (before := params.get(f"{name}<")) is not None:
        moment = parse_date(before, f"{name}<")
        end = moment if end is None else min(end, moment)
    return Span(start, end)
