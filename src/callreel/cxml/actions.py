"""What the interpreter wants done. The shell does it in the order given.

``Answer``, ``StopPlaying``, ``Listen``, ``StartRecording``, ``StopRecording``, ``Connect``,
``HangUpOther`` and ``Reject`` are done, and effective, before the next action is looked at, so
that a recording that was started has everything that follows. ``Fetch``, ``Play`` and ``Ring``
take time: the shell begins them and goes on; what becomes of them comes back as an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from callreel.calls.model import (
    CallbackMethod,
    CallCallback,
    RecordingRequest,
    RecordingSource,
)
from callreel.calls.voice import Digits, Silence, Target, Tone

# Documents


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask a program for a document. ``Fetched`` or ``FetchFailed`` with its number follows."""

    number: int
    """Of this request: what comes back under an older one is of no interest any more."""
    url: str
    """Absolute http or https URL; the shell holds it against the address policy."""
    method: CallbackMethod
    """How."""
    fields: tuple[tuple[str, str], ...] = ()
    """What the program is told beside the usual (``CallSid``, ``CallStatus``, ``From`` …)."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Ask a program, and take no notice of what it answers: the call is over."""

    url: str
    """Absolute http or https URL."""
    method: CallbackMethod
    """How."""
    fields: tuple[tuple[str, str], ...] = ()
    """As those of :class:`Fetch`."""


# Audio


@dataclass(frozen=True, slots=True)
class Speech:
    """Text to be spoken (:meth:`callreel.calls.voice.Prompts.say`)."""

    text: str
    """Not empty, blanks collapsed."""
    language: str
    """As written, ``en-US``; empty where the document does not say."""
    voice: str
    """As written; empty where the document does not say."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A file to be played (:meth:`callreel.calls.voice.Prompts.fetch`)."""

    url: str
    """Absolute http or https URL."""


Playable = Speech | Audio | Silence | Tone | Digits


@dataclass(frozen=True, slots=True)
class Play:
    """Play these to the party, one after the other, in place of what is being played.

    ``PlayDone`` follows once all are out; ``PlayFailed`` if one of them cannot be had: what went
    before it may have been played, what follows it is not. Neither follows once it is cut off.
    """

    play_id: str
    """Unique within the call."""
    sounds: tuple[Playable, ...]
    """At least one. The same again and again where a document says ``loop``."""


@dataclass(frozen=True, slots=True)
class StopPlaying:
    """Cut off what is being played, or being made ready for it."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Tell ``FellSilent`` once the party has said nothing for a while, counted from now on."""

    silence_ms: int | None
    """How long; None: stop listening."""


# Recordings


@dataclass(frozen=True, slots=True)
class StartRecording:
    """Record the call from now on. ``RecordingStarted`` or ``RecordingFailed`` follows."""

    key: str
    """What the interpreter calls it; unique within the call."""
    request: RecordingRequest
    """As what."""
    source: RecordingSource
    """``DIAL_VERB``, ``RECORD_VERB`` or ``START_CALL_RECORDING_DOCUMENT``."""


@dataclass(frozen=True, slots=True)
class StopRecording:
    """Stop a recording that was started. ``RecordingStopped`` follows, also if it was over."""

    key: str
    """Of :class:`StartRecording`."""


# The call


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the call. Comes at most once, and never for a call that was answered when begun.

    If it cannot be: ``HungUp``.
    """


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the call. ``EndCall`` follows it."""

    busy: bool
    """With 486; else 603."""


@dataclass(frozen=True, slots=True)
class EndCall:
    """The last action: hang up if the party is still there, refuse a call that was not answered,
    and forget the interpreter.

    Nothing is being played, recorded or rung by then that the interpreter asked for.
    """

    reason: str
    """For people."""


# Other parties


@dataclass(frozen=True, slots=True)
class RingTarget:
    """One of the parties that a ``Dial`` calls at once."""

    target_id: str
    """What the interpreter calls it; unique within the call."""
    target: Target
    """Whom to call."""
    send_digits: str = ""
    """Keys to press once it has answered, before the parties hear each other."""
    status_callback: CallCallback | None = None
    """Who is told how it goes with this call."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Ring these, all at once. For each, ``TargetAnswered`` or ``TargetFailed`` follows."""

    targets: tuple[RingTarget, ...]
    """At least one."""
    ring_seconds: int
    """How long at most; then each is ``TargetFailed`` with ``NO_ANSWER``."""
    caller_id: str | None = None
    """What they are told of who calls; None: who calls us."""
    caller_name: str | None = None
    """The display name that goes with it."""


@dataclass(frozen=True, slots=True)
class Connect:
    """The two hear each other from now on. ``OtherEnded`` follows when the other hangs up.

    The shell presses :attr:`RingTarget.send_digits` first. If it cannot be done: ``OtherEnded``.
    """

    target_id: str
    """Which answered."""


@dataclass(frozen=True, slots=True)
class HangUpOther:
    """Take the call back if it rings, hang it up if it was answered; nothing if it is gone.

    A party that was connected is parted from ours first. ``OtherEnded`` or ``TargetFailed`` may
    follow, and need not.
    """

    target_id: str
    """Which."""


# The call's story


class Severity(Enum):
    """How bad it is."""

    INFO = "info"
    """What happened."""
    WARNING = "warning"
    """The document is not as it should be; the call goes on."""
    ERROR = "error"
    """The call does not do what the document wants; most often it ends."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the call's story: ``callreel calls show``."""

    severity: Severity
    """How bad."""
    message: str
    """For people. Holds no password; may hold text of the document."""
    code: int | None = None
    """The vendors' number for it, where they have one: 11200, 12100, 12200 …"""
    line: int | None = None
    """In the document, from 1, where it is about a place in it."""
    column: int | None = None
    """The same, from 1."""


Action = (
    Fetch
    | Tell
    | Play
    | StopPlaying
    | Listen
    | StartRecording
    | StopRecording
    | Answer
    | Reject
    | EndCall
    | Ring
    | Connect
    | HangUpOther
    | Note
)
