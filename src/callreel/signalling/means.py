"""What every part of passing a call on needs at hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.base.ids import IdSource
from callreel.calls.media import MediaAddress, MediaPlane, Stream
from callreel.calls.model import Account, Call, RecordingRequest, Track
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.errors import Unavailable
from callreel.service.recordings import RecordingService
from callreel.signalling.destinations import Locations, Trunk
from callreel.signalling.ended_calls import EndedCalls
from callreel.signalling.leg import Leg, unspecified
from callreel.signalling.passing import STREAM, Audio, OurSession, stream_of
from callreel.signalling.refusal import Refused, refusing
from callreel.signalling.routing import Routes
from callreel.signalling.security import KeyExchange, SrtpPolicy
from callreel.signalling.user_agent import UserAgent

log = logging.getLogger(__name__)

_CLEAR_FROM = 64


@dataclass(frozen=True, slots=True)
class Dialplan:
    """Where calls go."""

    routes: Routes
    """Which calls go where."""
    trunks: Mapping[str, Trunk]
    """By name."""
    srtp: Mapping[str, SrtpPolicy] = field(default_factory=dict)
    """What calls to phones are protected by, by user."""
    default_trunk: str | None = None
    """Where numbers go that programs and documents call, and no route takes."""
    account_trunks: Mapping[str, str] = field(default_factory=dict)
    """The same for single accounts, by account."""
    dial_uris: bool = True
    """Whether programs and documents may call any SIP URI."""


@dataclass(slots=True, eq=False)
class Means:
    """The user agent, the media workers and the use cases; ``agent`` is set once it exists."""

    dialplan: Dialplan
    """May be replaced at any time; calls under way stay as they are."""
    locations: Locations
    """Where the phones are."""
    media: MediaPlane
    """The media workers."""
    accounts: AccountService
    """Whose calls they are."""
    calls: CallService
    """Their rows."""
    recordings: RecordingService
    """What is kept of them."""
    ended: EndedCalls
    """How they end."""
    clock: Clock
    """The time."""
    ids: IdSource
    """New identifiers."""
    keys: KeyExchange = field(default_factory=KeyExchange)
    """How keys of SRTP may travel."""
    is_down: Callable[[str], bool] = lambda _: False
    """Whether a trunk does not answer: it is then tried after others."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """What runs in the background."""
    user_agent: UserAgent | None = None
    """Set by ``server``."""
    sockets: dict[str, MediaAddress] = field(default_factory=dict)
    """Where legs are received, by call; those of calls that are over are cleared away in time."""

    @property
    def agent(self) -> UserAgent:
        """The user agent."""
        assert self.user_agent is not None, "no request can come before there is a user agent"
        return self.user_agent

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def new_session(self) -> OurSession:
        """For a leg that nothing was said to yet."""
        return OurSession(int(self.ids.new_id()[:8], 16))

    async def open(self, leg: Leg, *, beside: str | None = None) -> None:
        """Give a leg its sockets; with those of ``beside`` where it is to be bridged to that.

        From a peer that has not described itself yet nothing is taken.
        """
        if leg.audio is not None:
            self._refuse_our_own(leg.audio)
            stream = stream_of(leg.audio, participant=leg.participant, srtp=leg.keys)
        else:
            nowhere = unspecified(leg.source_host)
            stream = Stream(STREAM, Track.INBOUND, nowhere, 0, (), sending=False)
        opened = await refusing(self.media.open(leg.call_id, [stream], beside=beside))
        leg.address = self.sockets[leg.call_id] = opened[STREAM]

    async def listen(self, leg: Leg) -> None:
        """Have the workers take and send what the leg's last description says."""
        assert leg.audio is not None
        self._refuse_our_own(leg.audio)
        srtp = leg.keys
        if srtp is not None:
            self.keys.note(leg.source, None if leg.dialog is None else leg.dialog.flow)
        stream = stream_of(leg.audio, participant=leg.participant, srtp=srtp)
        await refusing(self.media.update(leg.call_id, [stream]))

    def _refuse_our_own(self, audio: Audio) -> None:
        """Two peers that named our own sockets would have a packet go round for ever."""
        for call_id, ours in self.sockets.items():
            names_it = audio.media.port in (ours.rtp_port, ours.rtcp_port)
            if ours.host == audio.host and names_it and call_id in self.media.calls:
                raise Refused(488, "media cannot be sent to an address of our own")
        if len(self.sockets) > 2 * len(self.media.calls) + _CLEAR_FROM:
            live = set(self.media.calls)
            self.sockets = {one: at for one, at in self.sockets.items() if one in live}

    async def bridge(self, one: Leg, other: Leg) -> None:
        """From now on each hears the other."""
        await refusing(self.media.bridge(one.call_id, other.call_id))

    async def record(self, account: Account, call: Call, request: RecordingRequest) -> None:
        """Begin what a policy asks for. Raises ``Refused`` (503)."""
        try:
            await self.recordings.begin_with_call(account, call.id, request)
        except Unavailable as error:
            raise Refused(503, str(error), [("Retry-After", "10")]) from None

    async def say_bye(self, leg: Leg) -> None:
        """Hang up one leg."""
        assert leg.dialog is not None
        try:
            await self.agent.request_in_dialog(leg.dialog, "BYE")
        except PeerError as error:
            log.info("call %s: BYE was not answered: %s", leg.call_id, error)
