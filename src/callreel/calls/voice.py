"""What a call that a document steers asks of signalling, of the media workers, and of whoever
makes speech and fetches documents; ``server`` fills it in.

Such a call ends here: callreel answers or places it, and plays and hears what the document says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from callreel.base.errors import CallreelError
from callreel.calls.model import CallbackMethod, CallStatus

PROMPT_RATE_HZ = 8000
"""Sampling rate of prompts: ``int16[samples]``, mono, little-endian, without a header."""


# What is played


@dataclass(frozen=True, slots=True)
class Prompt:
    """A file of samples (see :data:`PROMPT_RATE_HZ`), by absolute path."""

    path: Path
    """Written by us, and not changed while it may be played."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing, for a while."""

    ms: int
    """How long."""


@dataclass(frozen=True, slots=True)
class Tone:
    """A sine: the beep before a message."""

    hz: int
    """Its pitch."""
    ms: int
    """How long."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Keys pressed by us (RFC 4733, or in the band where the peer takes no telephone-events)."""

    keys: str
    """Of ``0-9*#A-Dw``; ``w`` waits half a second."""


Sound = Prompt | Silence | Tone | Digits


# What is heard


@dataclass(frozen=True, slots=True)
class Played:
    """All sounds of a :meth:`VoiceMedia.play` are out."""

    call_id: str
    """Of the call."""
    play_id: str
    """As it was given."""


@dataclass(frozen=True, slots=True)
class DigitHeard:
    """The party pressed a key. Told once a key, when it is pressed."""

    call_id: str
    """Of the call."""
    key: str
    """One of ``0-9*#A-D``."""


@dataclass(frozen=True, slots=True)
class FellSilent:
    """The party has said nothing for as long as :meth:`VoiceMedia.listen` asked."""

    call_id: str
    """Of the call."""
    spoke: bool
    """Whether it said anything since listening began."""


MediaHeard = Played | DigitHeard | FellSilent


class VoiceMedia(Protocol):
    """The part of the media workers that plays and listens. Each method returns once effective.

    A call that is attended is sent something at every 20 ms: what is played, else silence. Bridging
    (:meth:`callreel.calls.media.MediaPlane.bridge`) lets go of it, parting (``unbridge``) attends
    it again. What is played is the track ``outbound`` of the call's recordings.
    """

    async def attend(self, call_id: str) -> None:
        """From now on the call's media ends here. Its stream must be open, with a codec we play.

        Raises ``MachineError``, also where none of its codecs can be played.
        """
        ...

    async def play(self, call_id: str, play_id: str, sounds: Sequence[Sound]) -> None:
        """Play these from now on, one after the other; what was being played is cut off.

        :class:`Played` follows once they are out, and never for what was cut off.
        """
        ...

    async def stop_playing(self, call_id: str) -> None:
        """Cut off what is being played. Nothing if nothing is."""
        ...

    async def listen(self, call_id: str, silence_ms: int | None) -> None:
        """Tell :class:`FellSilent` once, when the party has said nothing for so long; None: stop
        listening. Also heard while the call is bridged is nothing."""
        ...


# Placing, answering, connecting


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call."""

    to: str
    """A ``sip:`` or ``sips:`` URI, or a number."""
    username: str = ""
    """For whoever asks for credentials."""
    password: str = field(default="", repr=False)
    """The same."""


class NoRoute(CallreelError):
    """A target cannot be called: it is no address, or no trunk takes its number."""


class NotConnected(CallreelError):
    """Nobody answered; why, in the words of the contract (§10.1)."""

    def __init__(self, status: CallStatus, message: str, *, sip_code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """``BUSY``, ``NO_ANSWER``, ``FAILED`` or ``CANCELED``."""
        self.sip_code = sip_code
        """The final answer, where there was one."""


class Telephone(Protocol):
    """The part of signalling that calls which documents steer need.

    Rows are ``service``'s: it makes the call (``queued``), and is told what becomes of it. Sockets,
    dialogs, and what a successor needs to go on with them are signalling's.
    """

    def check(self, account_id: str, target: Target) -> None:
        """Raises :class:`NoRoute` for what could not be called."""
        ...

    async def dial(
        self,
        call_id: str,
        target: Target,
        *,
        account_id: str,
        caller: str,
        ring_seconds: float,
        ringing: Callable[[], None],
        beside: str | None = None,
    ) -> None:
        """Ring until it answers; it is attended then, and its row is ``in-progress``. Where nobody
        does its row is brought to its end, and that is not told to :meth:`VoiceCalls.hung_up`.

        ``caller`` is what it is told of who calls: a number or a URI. ``beside`` names the call it
        is to be connected with. Raises :class:`NoRoute`, :class:`NotConnected`, ``MachineError``.
        Cancelled, it takes the INVITE back.
        """
        ...

    async def answer(self, call_id: str) -> None:
        """Answer a call that came in (:meth:`VoiceCalls.offered`): it is attended then, and its row
        is ``in-progress``. Nothing if it was answered. Raises ``NotConnected``: it is gone."""
        ...

    async def reject(self, call_id: str, *, busy: bool) -> None:
        """Refuse a call that came in and was not answered: 486 if busy, else 603."""
        ...

    async def connect(self, call_id: str, other_id: str) -> None:
        """Each hears the other from now on. The first is answered if it was not."""
        ...

    async def part(self, call_id: str) -> None:
        """It hears us again, and no other."""
        ...

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End one call, and no other; False if it is not known."""
        ...

    def live(self) -> Mapping[str, str | None]:
        """Calls that were answered and are not over, and whom each is connected with: after a
        restart, those that were taken up, of which :class:`VoiceCalls` is told nothing."""
        ...


class Ending(Enum):
    """Who ended a call."""

    PARTY = "party"
    """It hung up, or is gone."""
    OURS = "ours"
    """We did: by a document, the API, a time limit, a shutdown."""


class VoiceCalls(Protocol):
    """The use cases, seen from signalling: whoever steers calls by documents."""

    def takes(self, account_id: str, dialled: str, *, exactly: bool = False) -> bool:
        """Whether a document answers what is dialled.

        ``exactly``: whether there is one for just that number, which comes before all routes; the
        account's own comes after them.
        """
        ...

    def offered(self, call_id: str, account_id: str, dialled: str) -> None:
        """A call has come in for a document. Its row is there, ``ringing``; it is not answered."""
        ...

    def hung_up(self, call_id: str, ending: Ending) -> None:
        """A call that was dialled, answered or offered is over; its row says how."""
        ...

    def heard(self, what: MediaHeard) -> None:
        """From the media workers; keys also from signalling (INFO)."""
        ...


# Speech and documents


class SpeechError(CallreelError):
    """Cannot be said or played: no engine, no such file, no audio in it."""


class Prompts(Protocol):
    """Makes what is played. Cached: the same again is there at once."""

    async def say(self, text: str, *, language: str, voice: str) -> Path:
        """A prompt of spoken text. Raises :class:`SpeechError`."""
        ...

    async def fetch(self, account_id: str, url: str) -> Path:
        """A prompt of the audio (WAV, MP3 …) at a URL. Raises :class:`SpeechError`."""
        ...


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """What a program answered."""

    url: str
    """Where it came from, after redirects: what is relative in it is relative to this."""
    text: bytes = field(repr=False)
    """As it came."""
    content_type: str = ""
    """As it came."""


class DocumentUnavailable(CallreelError):
    """No document: the address is forbidden, nobody answers, or not with 2xx."""

    def __init__(self, message: str, *, http_status: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        """Of the answer, where there was one."""


class Documents(Protocol):
    """Asks programs what to do with a call."""

    async def fetch(
        self, account_id: str, url: str, method: CallbackMethod, fields: Sequence[tuple[str, str]]
    ) -> FetchedDocument:
        """Signed as webhooks are (contract §12.4), tried as often as the vendors do. Raises
        :class:`DocumentUnavailable`."""
        ...
