"""Challenges (401, 407) to requests of the phone, and who answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from callreel.wire.sip.message import Request, Response

MAX_ANSWERS = 3
"""Challenges answered for one request: a proxy, the server, a nonce that went stale."""


class Challenge(Protocol):
    """One that an authorizer can answer."""

    @property
    def stale(self) -> bool:
        """True if only the nonce was wrong."""
        ...

    @property
    def place(self) -> tuple[str, str]:
        """What tells the challenges of several servers apart."""
        ...


class Authorizer(Protocol):
    """Who answers challenges (RFC 3261 §22)."""

    def receive(self, response: Response) -> Sequence[Challenge]:
        """Take the challenges of a 401 or 407; returns those that can now be answered."""
        ...

    def headers(self, method: str, uri: str, body: bytes = b"") -> list[tuple[str, str]]:
        """The header fields for a request; none before the first challenge."""
        ...


class Attempts:
    """One request, sent until nobody asks for more, or asks again for what was given."""

    def __init__(self, authorizer: Authorizer | None) -> None:
        self._authorizer = authorizer
        self._answered: list[tuple[str, str]] = []

    def headers(self, method: str, uri: str, body: bytes = b"") -> list[tuple[str, str]]:
        """The header fields for the next attempt."""
        return [] if self._authorizer is None else self._authorizer.headers(method, uri, body)

    def dress(self, request: Request) -> None:
        """Put them in."""
        for name, value in self.headers(request.method, str(request.uri), request.body):
            request.headers.add(name, value)

    def another(self, response: Response) -> bool:
        """Whether to try again: a challenge can be answered. Who asks again says that the answer
        was wrong.
        """
        if self._authorizer is None or response.code not in (401, 407):
            return False
        asked = self._authorizer.receive(response)
        again = any(one.stale or one.place not in self._answered for one in asked)
        again = again and len(self._answered) < MAX_ANSWERS
        self._answered += [one.place for one in asked]
        return again
