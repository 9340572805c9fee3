"""Calls and recordings as values, in the words of the contract (sections 6 to 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class Dialect(Enum):
    """Which vendor's types an account is answered in (contract §1)."""

    SIGNALWIRE = "signalwire"
    TWILIO = "twilio"


class CallStatus(Enum):
    """Where a call stands (contract §10.1)."""

    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    BUSY = "busy"
    FAILED = "failed"
    NO_ANSWER = "no-answer"
    CANCELED = "canceled"


class CallDirection(Enum):
    """Who placed the call, seen from callreel."""

    INBOUND = "inbound"
    OUTBOUND_API = "outbound-api"
    OUTBOUND_DIAL = "outbound-dial"


class RecordingStatus(Enum):
    """Where a recording stands (contract §7)."""

    IN_PROGRESS = "in-progress"
    PAUSED = "paused"
    STOPPED = "stopped"
    COMPLETED = "completed"
    ABSENT = "absent"


class RecordingSource(Enum):
    """What started a recording (contract §8); the vendors' capitals belong to ``api``."""

    START_CALL_RECORDING_API = "start-call-recording-api"
    OUTBOUND_API = "outbound-api"
    TRUNKING = "trunking"
    DIAL_VERB = "dial-verb"
    RECORD_VERB = "record-verb"
    START_CALL_RECORDING_DOCUMENT = "start-call-recording-document"


class Track(Enum):
    """One direction of a call's media, seen from the party that the SID names (contract §9)."""

    INBOUND = "inbound"
    """What we receive from that party: channel 1."""
    OUTBOUND = "outbound"
    """What is sent to that party: channel 2."""


class RecordingTrack(Enum):
    """Which tracks a recording keeps."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    BOTH = "both"

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks kept, in channel order."""
        return tuple(Track) if self is RecordingTrack.BOTH else (Track(self.value),)


class RecordingChannels(Enum):
    """All parties mixed into one channel, or one party a channel."""

    MONO = "mono"
    DUAL = "dual"


class Trim(Enum):
    """Whether silence at the start and end is cut off."""

    TRIM_SILENCE = "trim-silence"
    DO_NOT_TRIM = "do-not-trim"


class PauseBehavior(Enum):
    """What a paused stretch becomes in the file (contract §4.2)."""

    SKIP = "skip"
    SILENCE = "silence"


class CallbackEvent(Enum):
    """The recording events that a webhook can be asked for (contract §12.1)."""

    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    ABSENT = "absent"


class CallEvent(Enum):
    """The events of a call that a webhook can be asked for (contract §12.2)."""

    INITIATED = "initiated"
    """It is being placed."""
    RINGING = "ringing"
    """The far end rings."""
    ANSWERED = "answered"
    """Somebody answered; told as ``in-progress``."""
    COMPLETED = "completed"
    """It is over, however it ended."""


class CallbackMethod(Enum):
    """How a webhook is sent."""

    GET = "GET"
    POST = "POST"


class DeliveryState(Enum):
    """Where an owed webhook stands."""

    PENDING = "pending"
    """A try is due, now or later."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """The schedule has ended, the receiver said 410, or it can never be sent."""


@dataclass(frozen=True, slots=True)
class Callback:
    """Where, how and about what a program wants to be told."""

    url: str
    """Absolute http or https URL."""
    method: CallbackMethod = CallbackMethod.POST
    """GET or POST."""
    events: frozenset[CallbackEvent] = frozenset({CallbackEvent.COMPLETED})
    """The events asked for."""


@dataclass(frozen=True, slots=True)
class CallCallback:
    """Where, how and about which events of a call a program wants to be told (contract §12.2)."""

    url: str
    """Absolute http or https URL."""
    method: CallbackMethod = CallbackMethod.POST
    """GET or POST."""
    events: frozenset[CallEvent] = frozenset({CallEvent.COMPLETED})
    """The events asked for."""


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What may be asked of a new recording, with the Create page's defaults (contract §4.1)."""

    channels: RecordingChannels = RecordingChannels.MONO
    """Mixed, or one channel a party."""
    track: RecordingTrack = RecordingTrack.BOTH
    """Which tracks are kept."""
    trim: Trim = Trim.DO_NOT_TRIM
    """Whether the ends are trimmed."""
    callback: Callback | None = None
    """Whom to tell."""

    @property
    def channel_count(self) -> int:
        """Channels of the file: a single track is always one channel (contract §9)."""
        dual = self.channels is RecordingChannels.DUAL and self.track is RecordingTrack.BOTH
        return 2 if dual else 1


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns calls and recordings. Secrets are here in clear only while in memory."""

    id: str
    """32 hex digits."""
    dialect: Dialect
    """Which vendor's types it is answered in."""
    auth_token: str
    """Password of the REST API."""
    signing_key: str
    """Key of webhook signatures; the token, unless set apart (contract §12.4)."""
    created_at: datetime
    """UTC."""
    name: str = ""
    """Free text, for people."""
    token_rotated_at: datetime | None = None
    """When the token last was replaced, UTC; None while it is the first one."""

    @property
    def signs_with_token(self) -> bool:
        """Whether the token is what webhooks are signed with."""
        return self.signing_key == self.auth_token

    def __repr__(self) -> str:
        """Never shows a secret."""
        return f"Account(id={self.id!r}, dialect={self.dialect})"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A further way into one account, which can be taken back by itself (contract §3)."""

    id: str
    """32 hex digits."""
    account_id: str
    """The one account it opens, 32 hex digits."""
    name: str
    """Free text, for people."""
    secret_hash: str = field(repr=False)
    """SHA-256 of its secret, lower-case hex; the secret itself is kept nowhere."""
    created_at: datetime
    """UTC."""


@dataclass(frozen=True, slots=True)
class Participant:
    """A party of a call, as SIPREC metadata or the SIP headers name it."""

    aor: str
    """Address of record: a ``sip:`` or ``tel:`` URI, or empty."""
    name: str = ""
    """Display name, or empty."""
    track: Track | None = None
    """The track that carries what this party says, where known."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the API names it by SID (contract §10)."""

    id: str
    """32 hex digits."""
    account_id: str
    """32 hex digits."""
    status: CallStatus
    """Where it stands."""
    direction: CallDirection
    """Who placed it."""
    from_: str
    """Caller: a number or a SIP URI."""
    to: str
    """Callee: a number or a SIP URI."""
    created_at: datetime
    """UTC."""
    updated_at: datetime
    """UTC."""
    start_time: datetime | None = None
    """When it was answered, UTC."""
    end_time: datetime | None = None
    """When it ended, UTC."""
    caller_name: str | None = None
    """Display name of the caller."""
    peer: str | None = None
    """Name of the configured peer it came from."""
    sip_call_id: str | None = None
    """Call-ID of the SIP dialog."""
    sip_result_code: int | None = None
    """Final SIP status of the INVITE."""
    parent_call_id: str | None = None
    """The call whose leg this is, 32 hex digits."""
    participants: tuple[Participant, ...] = ()
    """The parties, the caller first where known."""
    end_reason: str | None = None
    """Why it ended, for people: ``BYE``, ``session timer expired``, ``shutdown`` …"""

    @property
    def duration_s(self) -> int:
        """Whole seconds from answer to end; 0 before the end."""
        if self.start_time is None or self.end_time is None:
            return 0
        return max(0, round((self.end_time - self.start_time).total_seconds()))


@dataclass(frozen=True, slots=True)
class Recording:
    """A request to keep chosen tracks over an interval, and what became of it (contract §6)."""

    id: str
    """32 hex digits."""
    account_id: str
    """32 hex digits."""
    call_id: str
    """32 hex digits."""
    status: RecordingStatus
    """Where it stands."""
    source: RecordingSource
    """What started it."""
    request: RecordingRequest
    """What was asked for."""
    created_at: datetime
    """UTC."""
    updated_at: datetime
    """UTC."""
    start_time: datetime | None = None
    """From this instant, by the kernel's stamps, every packet is kept. UTC."""
    end_time: datetime | None = None
    """Up to this instant. UTC."""
    pause_behavior: PauseBehavior | None = None
    """Of the pause that runs now; None while not paused."""
    duration_ms: int | None = None
    """Length of the finished file; None before."""
    size_bytes: int | None = None
    """Of the finished WAV."""
    error_code: int | None = None
    """16101 too short, 16102 silent (contract §7); None otherwise."""
    media_key: str | None = None
    """Where the finished WAV lies in the media store, without extension."""
    sha256: str | None = None
    """Of the finished WAV, lower-case hex."""

    @property
    def duration_s(self) -> int:
        """Whole seconds of the finished file, rounded; 0 before it is finished."""
        return round((self.duration_ms or 0) / 1000)

    @property
    def is_live(self) -> bool:
        """Whether packets are, or could again be, kept."""
        return self.status in (RecordingStatus.IN_PROGRESS, RecordingStatus.PAUSED)
