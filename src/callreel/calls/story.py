"""The story of a call: what happened to it, in order, for whoever has to find out why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class StoryKind(Enum):
    """What a line of the story is about."""

    CALL = "call"
    """The call itself: begun, ringing, answered, over."""
    SIP = "sip"
    """A request or an answer of its dialog."""
    DOCUMENT = "document"
    """A document was asked for, came, or did not come."""
    VERB = "verb"
    """A verb of a document was begun, ended, or could not be done."""
    DIGITS = "digits"
    """Keys were pressed. Say how many, not which: they may be a PIN."""
    RECORDING = "recording"
    """A recording was begun, stopped, or is finished."""
    WEBHOOK = "webhook"
    """A webhook is owed, or was tried."""
    ERROR = "error"
    """What a person who looks for a fault should see first."""


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One thing that happened."""

    at: datetime
    """When, UTC."""
    kind: StoryKind
    """What it is about."""
    text: str
    """A short sentence for people. No secrets, and no userinfo or query of a URL."""
    details: Mapping[str, str | int | None] = field(default_factory=dict)
    """The same for programs, where there is more to say."""
