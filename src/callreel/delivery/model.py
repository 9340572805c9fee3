"""A webhook that is owed, and what comes of trying to deliver it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from callreel.calls.model import CallbackMethod


class Result(Enum):
    """What came of one try, in a word."""

    DELIVERED = "delivered"
    """Answered 2xx."""
    ANSWERED = "answered"
    """Answered with a status that is not 2xx; :attr:`Outcome.status` says which."""
    CONNECTION = "connection"
    """The name, the connection, TLS or the HTTP of the answer failed."""
    TIMEOUT = "timeout"
    """No connection, or no answer, in time."""
    DENIED = "denied"
    """The address policy refuses where the name points."""
    INVALID = "invalid"
    """The URL can never be requested."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One try and what came of it."""

    at: datetime
    """When it began, UTC."""
    result: Result
    """What came of it."""
    elapsed_ms: int
    """How long it took."""
    status: int | None = None
    """HTTP status, where there was an answer."""
    retry_after_s: float | None = None
    """What the answer's Retry-After asks for, in seconds, unbounded."""
    answer: bytes = b""
    """The first bytes of the answer's body: for people to look at, never trusted."""
    error: str = ""
    """What went wrong, for people."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One owed webhook."""

    id: str
    """32 hex digits; the same in every try, so that receivers can drop repeats."""
    account_id: str
    """32 hex digits."""
    event: str
    """``in-progress``, ``completed``, ``absent``; of a call ``initiated``, ``ringing`` …"""
    url: str
    """As the program gave it: userinfo, query and fragment included."""
    fields: Mapping[str, str]
    """What it says. A name occurs once."""
    signing_key: str = field(repr=False)
    """Key of the signature (contract §12.4)."""
    created_at: datetime
    """UTC."""
    method: CallbackMethod = CallbackMethod.POST
    """GET or POST."""
    recording_id: str | None = None
    """What it is about, 32 hex digits."""
    call_id: str | None = None
    """What it is about, 32 hex digits."""
    attempts: int = 0
    """Tries made so far."""
    after: str | None = None
    """Id of the delivery that should arrive first."""
