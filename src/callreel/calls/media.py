"""What the use cases ask of the media workers and of signalling; ``server`` fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from callreel.base.errors import MachineError
from callreel.calls.model import PauseBehavior, Track
from callreel.wire.sdes import Key


class NoAnswer(MachineError):
    """A media worker did not answer in time. It may do what it was asked for all the same."""


class NotWritten(NoAnswer):
    """A recording has stopped, and not all of it is on the disk: that cannot be written now. Asked
    to stop it again, the worker says so until it is."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One RTP payload format that a peer may send, as the SDP answer agreed (RFC 8866 §6.6)."""

    payload_type: int
    """0..127."""
    name: str
    """Encoding name in upper case: ``PCMU``, ``PCMA``, ``CN``, ``TELEPHONE-EVENT`` …"""
    clock_rate_hz: int
    """RTP clock. For G722 this is 8000, whatever its sampling rate (RFC 3551 §4.5.2)."""
    channels: int = 1
    """1 or 2."""
    fmtp: str = ""
    """Format parameters as signalled, or empty."""


@dataclass(frozen=True, slots=True)
class Srtp:
    """The keys of a stream that is SRTP (RFC 3711)."""

    receive: Key
    """With which the peer protects what it sends."""
    send: Key
    """With which what is sent to it is protected."""
    sealed: str = field(default="", compare=False, repr=False)
    """``receive`` as journals hold it, which only the server's key opens; filled in on the way to
    the media worker."""
    sealed_send: str = field(default="", compare=False, repr=False)
    """The same of ``send``, for what is played to the peer."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One RTP stream that a peer sends us: an m-line of the session."""

    number: int
    """Stable within the call: the index of its m-line."""
    track: Track
    """The track it is mixed into."""
    remote_host: str
    """The signalled address, from which alone packets are taken. Numeric IPv4 or IPv6; the
    unspecified address while the peer has not told its own."""
    remote_port: int
    """The signalled port: a hint only, senders often use another. A bridged call is sent to it
    until the peer has spoken; 0 while it is not known."""
    codecs: tuple[Codec, ...]
    """What may arrive."""
    label: str = ""
    """SDP label (RFC 4574), or empty."""
    participant: str = ""
    """AoR of the party heard in it, or empty."""
    sending: bool = True
    """False while the peer has it on hold or inactive."""
    receiving: bool = True
    """False while the peer wants nothing sent to it: its SDP says ``sendonly`` or ``inactive``."""
    rtcp_mux: bool = False
    """Whether RTCP comes to the RTP port (RFC 5761)."""
    srtp: Srtp | None = None
    """Its keys; None for plain RTP."""


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """Where we receive a stream."""

    host: str
    """Numeric address to put in the SDP answer."""
    rtp_port: int
    """Even."""
    rtcp_port: int
    """``rtp_port`` + 1."""


@dataclass(frozen=True, slots=True)
class CaptureStarted:
    """The worker is keeping audio."""

    started_at: datetime
    """Wall time, UTC; every packet stamped later by the kernel is kept."""


@dataclass(frozen=True, slots=True)
class CaptureStopped:
    """The journal is closed."""

    stopped_at: datetime
    """Wall time, UTC; every packet that had arrived by then is in the journal."""
    packets: int
    """RTP packets kept, over all streams."""


@dataclass(frozen=True, slots=True)
class CaptureState:
    """A recording that a worker says it is keeping: the answer when a new control process asks."""

    recording_id: str
    """32 hex digits."""
    call_id: str
    """32 hex digits."""
    paused: bool
    """Whether it is paused."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream of a live call as it is now."""

    number: int
    """Stable within the call; from 1001 on what is relayed to it."""
    track: Track
    """The track it is mixed into."""
    codec: str
    """What is spoken, or else what was agreed first: ``PCMU`` …; or empty."""
    participant: str = ""
    """AoR of the party heard in it, or empty."""
    secure: bool = False
    """Whether it is SRTP: its level is not known then."""
    sending: bool = True
    """False while the peer has it on hold."""
    kept: bool = False
    """Whether a recording keeps it. Of one that nobody keeps nothing is known."""
    packets: int = 0
    """Received since somebody began to look."""
    lost: int = 0
    """Missing since somebody began to look."""
    level_dbfs: float | None = None
    """RMS since the last look; None where nothing came or it cannot be told."""


class MediaWatch(Protocol):
    """The media workers, seen by whoever looks on."""

    async def observe(self, call_id: str) -> Sequence[StreamState]:
        """The streams of a call, its own and what is relayed to it. Raises ``MachineError``."""
        ...


class MediaPlane(Protocol):
    """The media workers, seen from the use cases and from signalling.

    Each method returns once it is effective. Raises ``CapacityError`` where there is no room,
    ``MachineError`` where the worker is gone or cannot do it, of these :class:`NoAnswer` where
    that is not known.
    """

    async def open(
        self, call_id: str, streams: Sequence[Stream], *, beside: str | None = None
    ) -> Mapping[int, MediaAddress]:
        """Give a call its sockets, one pair a stream; answers by stream number.

        ``beside`` names an open call that it is to be bridged with: both go to one worker.
        """
        ...

    async def update(self, call_id: str, streams: Sequence[Stream]) -> Mapping[int, MediaAddress]:
        """Change a call's streams to exactly these: new signalling, hold, added, dropped."""
        ...

    async def close(self, call_id: str) -> None:
        """Take a call's sockets away. Its recordings must have been stopped."""
        ...

    async def bridge(self, call_id: str, other_call_id: str) -> None:
        """Relay between two calls from now on, stream by stream of the same number.

        What either was bridged with before is parted from it. All streams of both are of the
        track ``inbound``: what is relayed to a call is its track ``outbound``. Either may be
        without an address as yet; packets flow as soon as ``update`` tells it.
        """
        ...

    async def unbridge(self, call_id: str) -> None:
        """Relay nothing to or from a call any more. Nothing if it is not bridged."""
        ...

    async def bridges(self) -> Mapping[str, str]:
        """What the workers are relaying now: each bridged call's other one."""
        ...

    async def start(
        self, recording_id: str, call_id: str, tracks: Sequence[Track]
    ) -> CaptureStarted:
        """Keep these tracks of a call from now on."""
        ...

    async def pause(self, recording_id: str, behavior: PauseBehavior) -> datetime:
        """Keep nothing from now on; returns the instant."""
        ...

    async def resume(self, recording_id: str) -> datetime:
        """Keep again from now on; returns the instant."""
        ...

    async def stop(self, recording_id: str, *, until: datetime | None = None) -> CaptureStopped:
        """Drain what has arrived, up to ``until`` if that is past, and close the journal."""
        ...

    @property
    def calls(self) -> Sequence[str]:
        """Calls that have sockets now."""
        ...

    async def captures(self) -> Sequence[CaptureState]:
        """What the workers are keeping now."""
        ...


class CallControl(Protocol):
    """Signalling, seen from the use cases."""

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End a call's SIP dialog; False if no dialog is known for it."""
        ...
