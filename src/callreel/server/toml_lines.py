"""Where in a TOML file a setting stands, so that an error can say so. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TABLE = re.compile(r"\s*\[(\[)?\s*([A-Za-z0-9_.\-\"' ]+?)\s*\]")


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line, from 1, of the setting at ``path`` in TOML that can be read.

    ``("routes", 1, "to", 0)`` is ``to`` in the second ``[[routes]]``. What has no line of its own
    (it is missing, or within a value of several lines) is where its table begins; None where not
    even that is found.
    """
    names = [part for part in path if isinstance(part, str)]
    index = next((part for part in path[1:2] if isinstance(part, int)), None)
    if not names:
        return None
    begin, end = _table(text.splitlines(), names[0], index)
    if begin is None:
        return _key(text.splitlines(), names[0], 0, None)
    return (_key(text.splitlines(), names[1], begin, end) if names[1:] else None) or begin


def _table(lines: Sequence[str], name: str, index: int | None) -> tuple[int | None, int | None]:
    """The line of a table's head, and that of the next one."""
    begin: int | None = None
    seen = 0
    for number, line in enumerate(lines, 1):
        match = _TABLE.match(line)
        if match is None:
            continue
        if begin is not None:
            return begin, number - 1
        if match[2].strip("\"' ") == name:
            if index is None or seen == index:
                begin = number
            seen += 1
    return begin, None


def _key(lines: Sequence[str], name: str, begin: int, end: int | None) -> int | None:
    """The line of a key's assignment after line ``begin`` and up to ``end``."""
    assignment = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*[=.]")
    for number, line in enumerate(lines[begin:end], begin + 1):
        if begin == 0 and _TABLE.match(line):
            return None  # settings of their own stand before every table
        if assignment.match(line):
            return number
    return None
