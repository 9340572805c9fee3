"""Log lines for programs: a JSON object each, with what it is about in keys of its own."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""The format of lines for people."""

_ABOUT = re.compile(r"\b(call|recording|delivery|account) ([0-9a-f]{32})\b")


class JsonLines(logging.Formatter):
    """``at`` (UTC), ``level``, ``logger``, ``message``; ``call``, ``recording``, ``delivery`` and
    ``account`` where the message names one; ``trace`` of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        message = record.getMessage()
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        value: dict[str, str] = {
            "at": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        for what, id_ in _ABOUT.findall(message):
            value.setdefault(what, id_)
        if record.exc_info:
            value["trace"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False)


def formatter(kind: str, text: str = TEXT) -> logging.Formatter:
    """By the setting ``log_format``: ``text`` or ``json``."""
    return JsonLines() if kind == "json" else logging.Formatter(text)
