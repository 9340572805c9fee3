"""What documents can say: the verbs, each with what its attributes mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from callreel.calls.model import CallbackMethod, CallCallback, RecordingRequest

FOREVER = 1000
"""How often something is repeated for ``loop="0"``: the vendors' limit, and ours for any loop."""
MAX_TARGETS = 10
"""How many parties one ``Dial`` calls at once: the vendors' limit."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a verb stands in its document."""

    line: int
    """From 1."""
    column: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Where the call goes on once a verb is through: its ``action``."""

    url: str | None
    """Absolute; None: the document that the verb is in."""
    method: CallbackMethod
    """How it is asked for."""


@dataclass(frozen=True, slots=True)
class Say:
    """Speak a text."""

    place: Place
    """Where it stands."""
    text: str
    """Blanks collapsed; may be empty."""
    voice: str = ""
    """As written; empty: none is asked for."""
    language: str = ""
    """As written; empty: none is asked for."""
    loop: int = 1
    """How often: 1 to :data:`FOREVER`."""


@dataclass(frozen=True, slots=True)
class Play:
    """Play a file, or press keys."""

    place: Place
    """Where it stands."""
    url: str | None = None
    """Absolute; None if there is none, or none that can be asked."""
    digits: str = ""
    """Of ``0-9*#A-Dw``. If there are any, the file is not played."""
    loop: int = 1
    """How often: 1 to :data:`FOREVER`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    place: Place
    """Where it stands."""
    length_s: int = 1
    """How long."""


Prompt = Say | Play | Pause


@dataclass(frozen=True, slots=True)
class Gather:
    """Take in keys."""

    place: Place
    """Where it stands."""
    follow: Follow
    """Who is told the keys."""
    finish_on_key: str = "#"
    """The keys that end it, and are not told; may be empty."""
    num_digits: int | None = None
    """After how many keys it ends; None: it does not."""
    timeout_s: int = 5
    """How long it waits for the first key once all is said, and after each for the next."""
    action_on_empty_result: bool = False
    """Whether the program is also told that there was none."""
    prompts: tuple[Prompt, ...] = ()
    """What is said meanwhile; a key cuts it off."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number to call."""

    number: str
    """Without the blanks, dots, dashes and brackets it may be written with."""
    send_digits: str = ""
    """Keys to press once it has answered."""
    status_callback: CallCallback | None = None
    """Who is told how it goes."""


@dataclass(frozen=True, slots=True)
class Sip:
    """A SIP address to call."""

    uri: str
    """``sip:`` or ``sips:``."""
    username: str = ""
    """For whoever asks for credentials."""
    password: str = field(default="", repr=False)
    """The same."""
    status_callback: CallCallback | None = None
    """Who is told how it goes."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Call somebody, and connect the two."""

    place: Place
    """Where it stands."""
    targets: tuple[Number | Sip, ...]
    """Called at once; who answers first is connected. None: nobody can be reached."""
    follow: Follow | None = None
    """Who is told how it ended; None: the next verb follows."""
    timeout_s: int = 30
    """How long they ring."""
    time_limit_s: int = 14400
    """How long they may talk."""
    caller_id: str | None = None
    """Whom the called see calling; None: whoever calls us."""
    caller_name: str | None = None
    """The name that goes with it."""
    answer_on_bridge: bool = False
    """Whether the caller goes on ringing until somebody answers."""
    hangup_on_star: bool = False
    """Whether the caller ends the conversation, and not the call, with ``*``."""
    record: RecordingRequest | None = None
    """As what it is recorded, if at all."""
    record_ringing: bool = False
    """Whether recording begins with the ringing and not with the answer."""


@dataclass(frozen=True, slots=True)
class Record:
    """Record what the caller says."""

    place: Place
    """Where it stands."""
    follow: Follow
    """Who is told of the recording."""
    request: RecordingRequest
    """As what it is recorded."""
    max_length_s: int = 3600
    """How long at most."""
    timeout_s: int = 5
    """After how much silence it ends."""
    finish_on_key: str = "1234567890*#"
    """The keys that end it; may be empty."""
    play_beep: bool = True
    """Whether a beep goes before it."""


@dataclass(frozen=True, slots=True)
class StartRecording:
    """``<Start><Recording/></Start>``: record the call from here on."""

    place: Place
    """Where it stands."""
    request: RecordingRequest
    """As what."""
    name: str = ""
    """By which ``Stop`` may call it."""


@dataclass(frozen=True, slots=True)
class StopRecording:
    """``<Stop><Recording/></Stop>``: end what ``Start`` began."""

    place: Place
    """Where it stands."""
    name: str = ""
    """Which; empty: the newest."""


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""

    place: Place
    """Where it stands."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the call."""

    place: Place
    """Where it stands."""
    busy: bool = False
    """Whether as busy."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on with another document."""

    place: Place
    """Where it stands."""
    follow: Follow
    """Which."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A verb that callreel does not have, or nobody has. The call ends when it is reached."""

    place: Place
    """Where it stands."""
    what: str
    """The element as one would write it: ``<Enqueue>``, ``<Dial><Conference>``."""


Verb = (
    Say
    | Play
    | Pause
    | Gather
    | Dial
    | Record
    | StartRecording
    | StopRecording
    | Hangup
    | Reject
    | Redirect
    | Unsupported
)
