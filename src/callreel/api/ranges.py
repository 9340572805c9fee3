"""HTTP byte ranges and entity tags (RFC 9110 §§8.8.3, 13.1.2, 14); pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, and without, ``end``."""

    start: int
    """First byte."""
    end: int
    """One past the last byte."""


class Unsatisfiable(ValueError):
    """No byte of the range exists: 416."""


def names(header: str | None, etag: str) -> bool:
    """Whether an ``If-None-Match`` names this tag: ``*``, or one of a list, compared weakly."""
    tags = [one.strip().removeprefix("W/") for one in (header or "").split(",")]
    return etag in tags or tags == ["*"]


def requested_range(header: str | None, size_bytes: int) -> ByteRange | None:
    """The one range asked for, or None for the whole (also for what is not one byte range).

    Raises :class:`Unsatisfiable`.
    """
    match = _SINGLE.fullmatch(header or "")
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first == "":
        if int(last) == 0:
            raise Unsatisfiable
        return ByteRange(max(0, size_bytes - int(last)), size_bytes)
    start = int(first)
    if last and int(last) < start:
        return None  # RFC 9110 §14.1.1: invalid, to be ignored
    if start >= size_bytes:
        raise Unsatisfiable
    return ByteRange(start, min(int(last) + 1, size_bytes) if last else size_bytes)
