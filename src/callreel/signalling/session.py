"""A recording session: the SIP dialog with an SRC, its streams and its metadata (RFC 7866)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field

from callreel.base.errors import PeerError
from callreel.signalling.peers import Peer, PeerDirectory
from callreel.wire import sdp
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.message import Message
from callreel.wire.sip.session_timer import SessionTimer
from callreel.wire.siprec import metadata as siprec, multipart

MAX_VERSIONS = 1000
"""Metadata versions kept of one call: a peer cannot fill the database with them."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request of an SRC holds."""

    offer: sdp.SessionDescription | None
    """Its session description."""
    metadata: siprec.Recording | None
    """Its recording metadata, where that could be read."""
    raw_metadata: multipart.Part | None
    """The same as it came."""
    problem: str | None
    """Why metadata could not be read."""


def read_body(message: Message) -> Body:
    """Take a body apart. Raises ``PeerError`` for a multipart or SDP that is broken.

    Metadata that is broken is kept as it came and does not spoil the call.
    """
    parts = multipart.parse(message.headers.get("Content-Type") or "", message.body)
    parts = [part for part in parts if part.body.strip()]
    sdp_part = multipart.find_sdp(parts)
    raw = multipart.find_metadata(parts)
    metadata: siprec.Recording | None = None
    problem: str | None = None
    if raw is not None:
        try:
            metadata = siprec.parse(raw.body)
        except PeerError as error:
            problem = str(error)
    offer = None if sdp_part is None else sdp.SessionDescription.parse(sdp_part.body)
    return Body(offer, metadata, raw, problem)


@dataclass(slots=True)
class Session:
    """One session, from its INVITE to its end."""

    call_id: str
    """The call's id, 32 hex digits."""
    peer: Peer
    """Whose it is."""
    dialog: Dialog
    """The SIP dialog."""
    sip_from: str
    """From of the first INVITE: the caller, where the metadata says nothing."""
    sip_to: str
    """To of the first INVITE."""
    offer: sdp.SessionDescription
    """The peer's latest description."""
    answer: sdp.SessionDescription
    """Ours."""
    metadata: siprec.Recording | None = None
    """What is known of the parties: all versions merged."""
    versions: int = 0
    """Metadata versions kept."""
    timer: SessionTimer | None = None
    """The session timer agreed on."""
    allow: str = ""
    """The peer's Allow: which requests of ours it takes."""
    knows_timers: bool = False
    """Whether the peer supports RFC 4028."""
    alarm: asyncio.TimerHandle | None = None
    """The next thing to do for the session timer."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One change at a time."""
    ended: bool = False
    """Whether it is over."""

    @asynccontextmanager
    async def target_kept_if_refused(self) -> AsyncIterator[None]:
        """A request that is refused does not move the target of ours (RFC 3261 §12.2.2)."""
        target = self.dialog.remote_target
        try:
            yield
        except BaseException:
            self.dialog.remote_target = target
            raise

    def to_json(self) -> str:
        """All that a new process needs to go on with it."""
        return json.dumps(
            {
                "peer": self.peer.name,
                "account": self.peer.account_id,
                "our_side": self.peer.our_side,
                "dialog": self.dialog.to_dict(),
                "sip_from": self.sip_from,
                "sip_to": self.sip_to,
                "offer": self.offer.serialize().decode(),
                "answer": self.answer.serialize().decode(),
                "metadata": self.metadata and siprec.serialize(self.metadata).decode(),
                "versions": self.versions,
                "timer": self.timer and asdict(self.timer),
                "allow": self.allow,
                "knows_timers": self.knows_timers,
            }
        )

    @classmethod
    def from_json(cls, call_id: str, text: str, peers: PeerDirectory) -> Session | None:
        """What :meth:`to_json` wrote; None for a session of another kind.

        A peer that is not configured any more is known by what was written down: a call that was
        admitted goes on.

        Raises ``PeerError``, ``ValueError`` or ``KeyError`` for what it did not write.
        """
        state = json.loads(text)
        if "kind" in state:
            return None  # not one of these
        name = state["peer"]
        peer = peers.named(name) or Peer(
            name, (), state.get("account", ""), None, state.get("our_side")
        )
        metadata = state["metadata"]
        timer = state["timer"]
        return cls(
            call_id=call_id,
            peer=peer,
            dialog=Dialog.from_dict(state["dialog"]),
            sip_from=state["sip_from"],
            sip_to=state["sip_to"],
            offer=sdp.SessionDescription.parse(state["offer"]),
            answer=sdp.SessionDescription.parse(state["answer"]),
            metadata=metadata and siprec.parse(metadata.encode()),
            versions=state["versions"],
            timer=timer and SessionTimer(**timer),
            allow=state["allow"],
            knows_timers=state["knows_timers"],
        )
