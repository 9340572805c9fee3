"""A leg: one party's SIP dialog with us, what it described and what we told it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from callreel.base.errors import PeerError
from callreel.calls.media import MediaAddress, Srtp
from callreel.signalling.nat import is_elsewhere, reachable_target
from callreel.signalling.new_keys import random_key
from callreel.signalling.passing import Audio, OurSession, audio_of
from callreel.signalling.security import SrtpPolicy, keys_of, lines_of
from callreel.wire import sdp
from callreel.wire.sdes import Key, Suite
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.message import Message, Request
from callreel.wire.sip.session_timer import SessionTimer
from callreel.wire.siprec import multipart

_OWN_KEYS = 7
NOWHERE = MediaAddress("", 0, 0)


def unspecified(host: str) -> str:
    """The address of this one's family that stands for none."""
    return "::" if ":" in host else "0.0.0.0"


@dataclass(slots=True, eq=False)
class Leg:
    """One side of a bridged call."""

    call_id: str
    """Of its call, 32 hex digits: its row, and its sockets in the media worker."""
    session: OurSession
    """What ``o=`` says of us."""
    source_host: str
    """Where its signalling comes from."""
    participant: str = ""
    """Its address of record, for the journal."""
    source: str = ""
    """The peer, trunk or ``user:NAME`` at its other end: its transfers go by that one's routes."""
    nat: bool = False
    """Whether it may be behind network address translation, see ``nat``."""
    address: MediaAddress = NOWHERE
    """Where we receive from it, once it has sockets."""
    dialog: Dialog | None = None
    """Its dialog; None while it rings."""
    theirs: sdp.SessionDescription | None = None
    """Its last description."""
    audio: Audio | None = None
    """The stream of it that is bridged."""
    ours: sdp.SessionDescription | None = None
    """Our last description to it."""
    asserted: str | None = None
    """Who was reached, as a network that is trusted with it says (RFC 3325)."""
    timer: SessionTimer | None = None
    """The session timer agreed on."""
    alarm: asyncio.TimerHandle | None = None
    """The next thing to do for it."""
    allow: str = ""
    """Its Allow: which requests of ours it takes."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """What may protect its media."""
    own_keys: tuple[Key, ...] = field(default=(), repr=False)
    """Keys that were made for it here, and not passed on from elsewhere."""
    changing: bool = False
    """Whether an offer from it, or of ours to it, is not answered yet (RFC 3261 §14.1)."""

    def describe(self, message: Message) -> sdp.SessionDescription | None:
        """Take note of the description in a message. Raises ``PeerError``; it then stays."""
        theirs = read_description(message)
        if theirs is not None:
            self.theirs, self.audio = theirs, self.audio_in(theirs)
        return theirs

    def audio_in(self, theirs: sdp.SessionDescription) -> Audio:
        """The stream of a description of its that is bridged. Raises ``PeerError`` (488)."""
        audio = audio_of(theirs, source_host=self.source_host, srtp=self.srtp)
        if self.nat and is_elsewhere(audio.host, self.source_host):
            return replace(audio, host=self.source_host)
        return audio

    @property
    def our_media(self) -> sdp.Media | None:
        """What we told it last of the stream that is bridged."""
        if self.ours is None or self.audio is None:
            return None
        return next(iter(self.ours.media[self.audio.index : self.audio.index + 1]), None)

    @property
    def keys(self) -> Srtp | None:
        """Those that hold. Raises ``PeerError`` (488) where both sides' descriptions do not fit."""
        return None if self.audio is None else keys_of(self.our_media, self.audio.media)

    def new_key(self, suite: Suite) -> Key:
        """Make a key for what is sent to it."""
        key = random_key(suite)
        self.own_keys = (*self.own_keys[-_OWN_KEYS:], key)
        return key

    @property
    def kept_keys(self) -> tuple[Key, ...]:
        """Of those that were made for it, the ones that it was told of last."""
        media = self.our_media
        told = () if media is None else [line.key for line in lines_of(media)]
        return tuple(key for key in self.own_keys if key in told)

    def aim(self) -> None:
        """Have our requests reach it, whatever its Contact says."""
        if self.nat and self.dialog is not None and self.dialog.flow is not None:
            target = reachable_target(self.dialog.remote_target, self.dialog.flow)
            self.dialog.remote_target = target

    def tell(self, ours: sdp.SessionDescription) -> bytes:
        """Take note of our description, as it is sent."""
        self.ours = ours
        self.session = OurSession(ours.session_id, ours.session_version)
        return ours.serialize()

    def learn_allow(self, message: Message) -> None:
        """Take note of what it understands."""
        allow = message.headers.get("Allow")
        if allow is not None:
            self.allow = allow.upper()

    def to_dict(self) -> dict[str, Any]:
        """All that a new process needs to go on with it."""
        assert self.dialog is not None
        return {
            "call_id": self.call_id,
            "session": [self.session.session_id, self.session.version],
            "source_host": self.source_host,
            "participant": self.participant,
            "source": self.source,
            "nat": self.nat,
            "address": [self.address.host, self.address.rtp_port, self.address.rtcp_port],
            "dialog": self.dialog.to_dict(),
            "theirs": self.theirs and self.theirs.serialize().decode(),
            "ours": self.ours and self.ours.serialize().decode(),
            "timer": self.timer and asdict(self.timer),
            "allow": self.allow,
            "srtp": self.srtp.value,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Leg:
        """What :meth:`to_dict` wrote. Raises ``PeerError``, ``ValueError``, ``KeyError`` or
        ``TypeError`` for anything else.
        """
        theirs, ours, timer = state["theirs"], state["ours"], state["timer"]
        leg = cls(
            call_id=state["call_id"],
            session=OurSession(*state["session"]),
            source_host=state["source_host"],
            participant=state["participant"],
            source=state["source"],
            nat=state["nat"],
            address=MediaAddress(*state["address"]),
            dialog=Dialog.from_dict(state["dialog"]),
            theirs=theirs and sdp.SessionDescription.parse(theirs),
            ours=ours and sdp.SessionDescription.parse(ours),
            timer=timer and SessionTimer(**timer),
            allow=state["allow"],
            srtp=SrtpPolicy(state["srtp"]),
        )
        if leg.theirs is not None:
            leg.audio = leg.audio_in(leg.theirs)
        return leg


def read_description(message: Message) -> sdp.SessionDescription | None:
    """The session description in a message, also within a multipart; None if there is none.

    Raises ``PeerError`` for one that is broken (400), or a body of another kind (415).
    """
    if not message.body.strip():
        return None
    content_type = message.headers.get("Content-Type") or ""
    part = multipart.find_sdp(multipart.parse(content_type, message.body))
    if part is None:
        if isinstance(message, Request):
            raise PeerError(f"a body of {content_type[:80]!r}", status=415)
        return None
    return sdp.SessionDescription.parse(part.body)
