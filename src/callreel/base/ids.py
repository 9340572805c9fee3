"""Identifiers: 128 random bits, kept as 32 lower-case hex digits everywhere inside callreel.

The vendors' spellings (``RE`` + hex, dashed UUID) are written by ``calls.spelling``; any of them is
read here by :func:`parse_id` (contract §1).
"""

from __future__ import annotations

import re
from typing import Protocol

_SPELLINGS = re.compile(
    r"(?:[A-Za-z]{2})?([0-9a-fA-F]{32})"
    r"|([0-9a-fA-F]{8})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{12})"
)


class IdSource(Protocol):
    """Where new identifiers come from. Injected, so that a run can be replayed exactly."""

    def new_id(self) -> str:
        """A new random 128-bit identifier as 32 lower-case hex digits."""
        ...

    def new_token(self) -> str:
        """A new secret of at least 256 bits, URL-safe text."""
        ...


def parse_id(text: str) -> str | None:
    """The 32 hex digits behind any spelling of a SID, or None if ``text`` is not one.

    >>> parse_id("RE" + "AB" * 16) == "ab" * 16
    True
    """
    match = _SPELLINGS.fullmatch(text)
    if match is None:
        return None
    return "".join(part for part in match.groups() if part).lower()
