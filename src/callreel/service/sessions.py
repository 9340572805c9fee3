"""People who are signed in: a table in memory that forgets whoever is idle. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

MOST_SESSIONS = 10_000
LONGEST_S = 12 * 3600.0
"""Even whoever is never idle signs in again after so long."""


@dataclass(slots=True)
class Session:
    """Somebody who is signed in."""

    account_id: str
    """32 hex digits."""
    username: str
    """The AccountSid or API key signed in with."""
    credential: str
    """Which token or key that was: the session ends with it."""
    form_token: str = field(repr=False)
    """What every form of theirs carries (against forged requests)."""
    since_s: float
    """When they signed in, monotonic seconds."""
    seen_s: float
    """When they last did something."""
    notice: str = ""
    """What to tell them on the next page."""


class SessionTable:
    """Sessions by a secret of which only a hash is kept. Times are monotonic seconds."""

    def __init__(self, *, idle_s: float, most: int = MOST_SESSIONS) -> None:
        self._idle_s = idle_s
        self._most = most
        self._sessions: dict[str, Session] = {}  # the least recently used first

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, secret: str, session: Session) -> None:
        """One more; where there are too many, whoever was idle longest is signed out."""
        self._sessions[_hash(secret)] = session
        if len(self._sessions) > self._most:
            del self._sessions[next(iter(self._sessions))]

    def find(self, secret: str, *, now: float) -> Session | None:
        """The session, unless it has been idle or lasted for too long."""
        key = _hash(secret)
        session = self._sessions.pop(key, None)
        if session is None:
            return None
        if now - session.seen_s > self._idle_s or now - session.since_s > LONGEST_S:
            return None
        session.seen_s = now
        self._sessions[key] = session
        return session

    def peek(self, secret: str, *, now: float) -> Session | None:
        """The same, without counting it as something that they did."""
        session = self._sessions.get(_hash(secret))
        if session is None or now - session.seen_s > self._idle_s:
            return None
        return session if now - session.since_s <= LONGEST_S else None

    def remove(self, secret: str) -> None:
        """Signed out. Nothing if they were not signed in."""
        self._sessions.pop(_hash(secret), None)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
