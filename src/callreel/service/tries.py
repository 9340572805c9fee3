"""What came of trying to deliver a webhook, in words. Pure."""

from __future__ import annotations

_WORDS = {
    "connection": "no connection",
    "timeout": "no answer in time",
    "denied": "address not allowed",
    "invalid": "URL that cannot be requested",
}


def came_of(outcome: str, status: int | None) -> str:
    """For people: the answer's HTTP status where there was one, else why there was none.

    >>> came_of("answered", 500), came_of("connection", None)
    ('answered 500', 'no connection')
    """
    return f"answered {status}" if status is not None else _WORDS.get(outcome, outcome)
