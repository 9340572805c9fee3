"""What the interpreter is told: by programs, by the party, by the shell about what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from callreel.calls.model import CallbackMethod, CallStatus

# Documents


@dataclass(frozen=True, slots=True)
class Instructed:
    """From now on this is what steers the call. The first event of every call; later, when the API
    redirects it: whatever runs is given up then."""

    url: str | None = None
    """Whom to ask for the document: an absolute http or https URL."""
    method: CallbackMethod = CallbackMethod.POST
    """How."""
    fallback_url: str | None = None
    """Whom to ask, once, where that fails or what comes of it is no document."""
    fallback_method: CallbackMethod = CallbackMethod.POST
    """How."""
    document: str | None = field(default=None, repr=False)
    """The document itself. A URL wins over it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A program has answered a ``Fetch``."""

    number: int
    """Of the ``Fetch``."""
    url: str
    """Where it came from, after redirects: what is relative in it is relative to this."""
    text: bytes = field(repr=False)
    """As it came."""


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """There is no answer to a ``Fetch``."""

    number: int
    """Of the ``Fetch``."""
    message: str
    """Why, for people."""
    http_status: int | None = None
    """Of the answer, where there was one."""


# The party


@dataclass(frozen=True, slots=True)
class Digit:
    """The party pressed a key."""

    key: str
    """One of ``0-9*#A-D``."""


@dataclass(frozen=True, slots=True)
class FellSilent:
    """The party has said nothing for as long as ``Listen`` asked."""

    spoke: bool
    """Whether it said anything since listening began."""


@dataclass(frozen=True, slots=True)
class HungUp:
    """The call is over: the party hung up, the API ended it, it could not be answered."""

    reason: str = "the party hung up"
    """For people."""


# What was asked for


@dataclass(frozen=True, slots=True)
class PlayDone:
    """Everything of a ``Play`` is out."""

    play_id: str
    """Of the ``Play``."""


@dataclass(frozen=True, slots=True)
class PlayFailed:
    """Something of a ``Play`` cannot be said or played."""

    play_id: str
    """Of the ``Play``."""
    message: str
    """Why, for people."""


@dataclass(frozen=True, slots=True)
class RecordingStarted:
    """The worker is keeping audio."""

    key: str
    """Of the ``StartRecording``."""
    sid: str
    """As the account's dialect spells it."""
    url: str
    """``RecordingUrl``: absolute, without extension."""


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """It could not be started."""

    key: str
    """Of the ``StartRecording``."""
    message: str
    """Why, for people."""


@dataclass(frozen=True, slots=True)
class RecordingStopped:
    """No more audio is kept."""

    key: str
    """Of the ``StartRecording``."""
    duration_s: int
    """From start to stop, whole seconds, before anything is trimmed."""
    empty: bool = False
    """Whether no audio arrived at all."""


@dataclass(frozen=True, slots=True)
class TargetRinging:
    """One of a ``Ring`` rings."""

    target_id: str
    """Which."""
    call_sid: str = ""
    """Of the call to it, as the account's dialect spells it."""


@dataclass(frozen=True, slots=True)
class TargetAnswered:
    """One of a ``Ring`` has answered."""

    target_id: str
    """Which."""
    call_sid: str
    """Of the call to it, as the account's dialect spells it."""


@dataclass(frozen=True, slots=True)
class TargetFailed:
    """One of a ``Ring`` is not to be had."""

    target_id: str
    """Which."""
    status: CallStatus
    """``BUSY``, ``NO_ANSWER``, ``FAILED`` or ``CANCELED``."""
    message: str = ""
    """Why, for people."""
    sip_code: int | None = None
    """The final answer, where there was one."""
    call_sid: str = ""
    """Of the call to it, where there was one."""


@dataclass(frozen=True, slots=True)
class OtherEnded:
    """A party that had answered is gone."""

    target_id: str
    """Which."""
    duration_s: int
    """From its answer to its end, whole seconds."""


Event = (
    Instructed
    | Fetched
    | FetchFailed
    | Digit
    | FellSilent
    | HungUp
    | PlayDone
    | PlayFailed
    | RecordingStarted
    | RecordingFailed
    | RecordingStopped
    | TargetRinging
    | TargetAnswered
    | TargetFailed
    | OtherEnded
)
