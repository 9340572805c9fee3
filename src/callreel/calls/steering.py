"""What a program may ask of a call that documents steer (contract §10.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from callreel.calls.model import CallbackMethod, CallCallback, RecordingRequest

RING_SECONDS = 60
"""How long a created call rings unless it is said."""
LONGEST_RING_SECONDS = 600
"""How long it may be asked to ring."""
CALL_SECONDS = 4 * 60 * 60
"""How long a call lasts at most unless it is said: the vendors' limit."""
LONGEST_CALL_SECONDS = 24 * 60 * 60
"""How long it may be asked to last."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """Where the document is that says what to do with a call."""

    url: str | None = None
    """Whom to ask for it: an absolute http or https URL."""
    method: CallbackMethod = CallbackMethod.POST
    """How."""
    fallback_url: str | None = None
    """Whom to ask where that fails, or what comes of it is no document."""
    fallback_method: CallbackMethod = CallbackMethod.POST
    """How."""
    document: str | None = field(default=None, repr=False)
    """The document itself. A URL wins over it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to go by."""
        return self.url is None and self.document is None


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call that a program wants made."""

    to: str
    """A ``sip:`` URI, or a number."""
    from_: str
    """Who is shown as calling, to the program and, unless ``caller_id`` is set, to the callee."""
    instructions: Instructions
    """What is done once it is answered."""
    caller_id: str | None = None
    """Who the callee sees calling."""
    username: str = ""
    """For whoever asks for credentials."""
    password: str = field(default="", repr=False)
    """The same."""
    ring_seconds: int = RING_SECONDS
    """How long it may ring."""
    call_seconds: int = CALL_SECONDS
    """How long it may last, from its answer."""
    send_digits: str = ""
    """Keys to press once it is answered: of ``0-9*#w``; ``w`` waits half a second."""
    status_callback: CallCallback | None = None
    """Who is told how it goes."""
    record: RecordingRequest | None = None
    """As what it is recorded from its answer on, if at all."""


@dataclass(frozen=True, slots=True)
class CallChange:
    """What a program wants changed of a call under way; what is None stays."""

    instructions: Instructions | None = None
    """What is done from now on, in place of whatever is being done."""
    status_callback: CallCallback | None = None
    """Who is told how it goes; of the events that were asked for when it was created."""
    call_seconds: int | None = None
    """How long it may last, from its answer."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is wanted."""
        return self.instructions is None and not (self.status_callback or self.call_seconds)
