"""One call of the phone: its state, what happened to it, and its summary. No I/O."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from pathlib import Path
from typing import Any

from callreel.base.errors import PeerError
from callreel.phone.call_media import CallMedia, MediaStats
from callreel.phone.description import Negotiation
from callreel.phone.sender import FrameSource
from callreel.phone.sources import CODECS, AudioSource
from callreel.wire.sdes import Suite
from callreel.wire.sip.dialog import Dialog

MAX_EVENTS = 10_000
"""Of one call; a peer that goes on and on is noted no further."""


class CallState(enum.StrEnum):
    """Where a call stands."""

    DIALLING = "dialling"
    """Ours, nothing heard of it yet; or the peer's, not ringing yet."""
    RINGING = "ringing"
    """One of the phones rings."""
    TALKING = "talking"
    """Answered."""
    ENDED = "ended"
    """Over, however it went."""


class Ending(enum.StrEnum):
    """Who ended a call."""

    US = "us"
    """We hung up, gave up or refused."""
    PEER = "peer"
    """The peer hung up, gave up or refused."""
    ERROR = "error"
    """Something went wrong: no answer to a request, no codec in common, a session that expired."""


class EventKind(enum.StrEnum):
    """What can happen to a call."""

    DIALLING = "dialling"
    """We sent an INVITE."""
    INCOMING = "incoming"
    """An INVITE came."""
    RINGING = "ringing"
    """180, either way."""
    PROGRESS = "progress"
    """183, or another provisional response, either way."""
    REDIRECTED = "redirected"
    """We go where a 3xx says."""
    ANSWERED = "answered"
    """200, either way."""
    HELD = "held"
    """The peer put us on hold."""
    UNHELD = "unheld"
    """And took us off again."""
    HOLDING = "holding"
    """We put the peer on hold."""
    RESUMED = "resumed"
    """And took it off again."""
    CODEC = "codec"
    """We send another codec from now on."""
    DIGIT = "digit"
    """The peer pressed a key."""
    TRANSFER = "transfer"
    """The peer asked to be transferred, and was declined."""
    ENDED = "ended"
    """It is over."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallEvent:
    """Something that happened to a call."""

    kind: EventKind
    """What."""
    at: float
    """Arrival time, monotonic seconds."""
    text: str = ""
    """More about it: a status line, a digit, an address."""
    status: int | None = None
    """SIP status, where there is one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Talk:
    """What a phone does on a call."""

    play: AudioSource | FrameSource
    """What is said. A live source gives frames of the first codec, which is then the only one."""
    record: Path | None = None
    """A WAV of what is heard: 8 kHz, mono, from the answer on."""
    codecs: tuple[str, ...] = CODECS
    """What is spoken, the preferred first."""
    early_media: bool = False
    """Whether to hear and record, and on an incoming call to speak, before the answer."""
    suites: tuple[Suite, ...] = ()
    """Given, the media is SRTP in one of these, the preferred first."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallSummary:
    """How a call went."""

    number: int
    """Counts the phone's calls, from 1."""
    direction: str
    """``outbound`` for a call that we made, else ``inbound``."""
    peer: str
    """The peer's URI."""
    answered: bool
    """Whether there was a call at all."""
    ended_by: str
    """``us``, ``peer``, ``error``; empty while it goes on."""
    status: int
    """The SIP status that decided: 200 for a call that was answered and then hung up."""
    reason: str
    """The phrase that goes with it, or what went wrong."""
    ringing_s: float
    """From the INVITE to the answer, or to the end."""
    seconds: float
    """From the answer to the end."""
    codec: str
    """What we sent last."""
    digits: str
    """What the peer pressed."""
    media: MediaStats | None
    """None if there was no media."""

    @property
    def in_order(self) -> bool:
        """Whether it was answered and then hung up by one of the two."""
        return self.answered and self.ended_by in (Ending.US, Ending.PEER)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """For a reader."""
        if not self.answered:
            return [f"not answered: {self.status} {self.reason} (after {self.ringing_s:.1f} s)"]
        who = {"us": "us", "peer": "the peer", "error": "an error"}.get(self.ended_by, "nobody yet")
        lines = [f"{self.seconds:.1f} s of {self.codec}, ended by {who}"]
        if self.ended_by == Ending.ERROR:
            lines[0] += f": {self.reason}"
        stats = self.media
        if stats is not None:
            percent = 100 * stats.lost / stats.packets_expected if stats.packets_expected else 0.0
            lines.append(
                f"sent {stats.packets_sent} packets"
                + (f", {stats.peer_lost} lost on the way" if stats.peer_lost is not None else "")
            )
            lines.append(
                f"received {stats.packets_received}: {stats.lost} lost ({percent:.1f} %), "
                f"{stats.late} late, {stats.reordered} reordered, {stats.duplicated} twice"
            )
            timing = f"jitter {stats.jitter_ms:.1f} ms, at most {stats.most_jitter_ms:.1f}"
            if stats.round_trip_ms is not None:
                timing += f"; round trip {stats.round_trip_ms:.1f} ms"
            if stats.delay_ms is not None:
                timing += f"; delay {stats.delay_ms:.1f} ms, at most {stats.most_delay_ms:.1f}"
            lines.append(timing)
        if self.digits:
            lines.append(f"digits heard: {self.digits}")
        return lines


class CallFailed(PeerError):
    """A call was not answered: refused, cancelled, or nobody there. ``status`` says why."""

    def __init__(self, call: PhoneCall) -> None:
        super().__init__(f"{call.status} {call.reason}", status=call.status)
        self.call = call
        """The call, which is over."""


class PhoneCall:
    """A call as its owner sees it; :class:`~callreel.phone.softphone.Phone` does what it takes."""

    def __init__(self, *, number: int, outbound: bool, peer: str, now: float) -> None:
        self.number = number
        """Counts the phone's calls, from 1."""
        self.outbound = outbound
        """Whether we made it."""
        self.peer = peer
        """The peer's URI."""
        self.state = CallState.DIALLING
        """Where it stands."""
        self.events: list[CallEvent] = []
        """What happened so far."""
        self.ended = asyncio.Event()
        """Set once it is over."""
        self.ended_by: Ending | None = None
        """None while it goes on."""
        self.status = 0
        """The SIP status that decided; 0 before."""
        self.reason = ""
        """The phrase that goes with it."""
        self.digits = ""
        """What the peer pressed."""
        self.is_holding = False
        """Whether we have the peer on hold."""
        self.is_held = False
        """Whether the peer has us on hold."""
        self.dialog: Dialog | None = None
        """The SIP dialog, once there is one."""
        self.media: CallMedia | None = None
        """The sockets, once there are some."""
        self.negotiation: Negotiation | None = None
        """Offers and answers."""
        self.signalling_host = ""
        """Where the peer's signalling comes from."""
        self.begun_at = now
        """When the INVITE was sent or came, monotonic seconds."""
        self.answered_at: float | None = None
        """When it was answered."""
        self.ended_at: float | None = None
        """When it was over."""
        self._news = asyncio.Event()

    @property
    def is_answered(self) -> bool:
        """Whether there was, or is, a conversation."""
        return self.answered_at is not None

    def note(self, event: CallEvent) -> None:
        """Something happened; whoever waits for it is woken."""
        if len(self.events) < MAX_EVENTS or event.kind is EventKind.ENDED:
            self.events.append(event)
        self._news.set()
        self._news = asyncio.Event()

    async def wait_for(self, kind: EventKind, count: int = 1) -> CallEvent:
        """Wait until a kind of event has happened ``count`` times, counted from the start.

        Raises ``PeerError`` (481) if the call ends without.
        """
        while True:
            found = [event for event in self.events if event.kind is kind]
            if len(found) >= count:
                return found[count - 1]
            if self.ended.is_set():
                raise PeerError(f"the call ended without {kind}: {self.reason}", status=481)
            await self._news.wait()

    def summary(self, now: float) -> CallSummary:
        """How it went, or goes."""
        end = now if self.ended_at is None else self.ended_at
        answered = self.answered_at
        agreed = None if self.negotiation is None else self.negotiation.agreed
        return CallSummary(
            number=self.number,
            direction="outbound" if self.outbound else "inbound",
            peer=self.peer,
            answered=answered is not None,
            ended_by=self.ended_by or "",
            status=self.status,
            reason=self.reason,
            ringing_s=round((end if answered is None else answered) - self.begun_at, 3),
            seconds=0.0 if answered is None else round(end - answered, 3),
            codec="" if agreed is None else agreed.codec,
            digits=self.digits,
            media=None if self.media is None else self.media.stats(),
        )
