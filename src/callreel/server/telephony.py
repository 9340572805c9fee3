"""Signalling wired together: who may call, what becomes of it, and the user agent beneath."""

from __future__ import annotations

import asyncio
import random
import secrets

from callreel.base.clock import Clock
from callreel.base.ids import IdSource
from callreel.calls.media import MediaPlane
from callreel.calls.model import Account
from callreel.calls.voice import VoiceCalls, VoiceMedia
from callreel.server.dialling import dialplan, sources
from callreel.server.logins import TrunkLogins
from callreel.server.peering import configured_peers, configured_users
from callreel.server.settings import Settings
from callreel.server.tls import outgoing_sip_tls
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.recordings import RecordingService
from callreel.service.registrations import RegistrationService
from callreel.service.throttle import FailureThrottle
from callreel.signalling.authentication import Caller, Gate
from callreel.signalling.back_to_back import BackToBack
from callreel.signalling.bridge import Source
from callreel.signalling.destinations import RegisteredPhones
from callreel.signalling.ended_calls import EndedCalls
from callreel.signalling.front_door import FrontDoor
from callreel.signalling.means import Means
from callreel.signalling.peers import PeerDirectory
from callreel.signalling.recording_server import RecordingServer
from callreel.signalling.registrar import Registrar
from callreel.signalling.resolver import Resolver
from callreel.signalling.security import KeyExchange
from callreel.signalling.terminals import Terminals
from callreel.signalling.trunk_probes import Probed, TrunkProbes
from callreel.signalling.user_agent import UserAgent
from callreel.signalling.users import User, UserDirectory
from callreel.wire.sip.digest import Algorithm
from callreel.wire.sip.values import URI


class Telephony:
    """All of it. Made by :meth:`of`; :meth:`start` it once ``agent`` listens, :meth:`close` it."""

    def __init__(
        self,
        account: Account,
        *,
        accounts: AccountService,
        peers: PeerDirectory,
        sources: dict[str, Source],
        gate: Gate,
        means: Means,
        door: FrontDoor,
        agent: UserAgent,
        registrar: Registrar,
        logins: TrunkLogins,
        terminals: Terminals,
        probes: TrunkProbes,
    ) -> None:
        self.probes = probes
        """Which trunks answer."""
        self.terminals = terminals
        """Calls that documents steer: the ``Telephone`` of the use cases, whose ``voice`` is to be
        set."""
        self.door = door
        """Calls under way, and their control."""
        self.agent = agent
        """The sockets."""
        self.registrar = registrar
        """Where the phones are."""
        self.logins = logins
        """With trunks."""
        self._account = account
        self._accounts = accounts
        self._peers = peers
        self._sources = sources
        self._gate = gate
        self._means = means
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register with trunks, and keep the registrar's table."""
        self._task = asyncio.create_task(self.registrar.run(), name="registrar")
        self.logins.start()
        self.probes.start()

    async def close(self) -> None:
        """Take our registrations back, then close the sockets."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.probes.close()
        await self.logins.close()
        await self.agent.close()

    async def configure(self, settings: Settings) -> None:
        """Go by these from now on; calls under way stay as they are.

        Raises ``UsageError``, and then nothing has changed.
        """
        configured = await configured_peers(settings, self._account, self._accounts)
        users = await configured_users(settings, self._account, self._accounts)
        algorithms = [Algorithm(one) for one in settings.sip_digest]
        directory = UserDirectory(users, settings.sip_realm, algorithms=algorithms)
        # From here on nothing fails and nothing is awaited: no call meets half of it.
        self._peers.replace(configured)
        self._gate.configure(self._peers, directory)
        self._sources.clear()
        self._sources.update(sources(settings, configured, users))
        self.logins.configure(settings.trunks)
        self.probes.configure(
            [Probed(one.name, URI.parse(one.uri), one.keepalive_seconds) for one in settings.trunks]
        )
        self._means.dialplan = dialplan(settings, self.logins.clients, self._account)
        self.door.passes_calls_on = bool(settings.routes or settings.users)
        self.door.takes_phones = bool(settings.users)
        self.door.max_calls = settings.max_calls
        self._means.keys.over_clear = settings.srtp_over_clear
        self.agent.refusal_status = None if settings.refuse_silently else 403

    @classmethod
    async def of(
        cls,
        settings: Settings,
        account: Account,
        *,
        accounts: AccountService,
        calls: CallService,
        recordings: RecordingService,
        registrations: RegistrationService,
        media: MediaPlane,
        clock: Clock,
        ids: IdSource,
        voice_media: VoiceMedia | None = None,
        voice: VoiceCalls | None = None,
    ) -> Telephony:
        """As configured; ``account`` is the first. Raises ``UsageError``.

        ``voice_media`` plays and listens; without it no call can be attended.
        """
        peers, known = PeerDirectory([]), dict[str, Source]()
        burst = settings.auth_failures_burst
        gate = Gate(
            peers=peers,
            users=UserDirectory([], settings.sip_realm),
            key=secrets.token_bytes(32),
            clock=clock,
            throttle=FailureThrottle(burst=burst, salt=secrets.token_bytes(16)) if burst else None,
        )
        registrar = Registrar(gate=gate, store=registrations, clock=clock)
        ended = EndedCalls(calls, media)
        keys = KeyExchange()
        recorder = RecordingServer(
            peers=peers,
            media=media,
            accounts=accounts,
            calls=calls,
            recordings=recordings,
            ended=ended,
            clock=clock,
            ids=ids,
            keys=keys,
        )
        means = Means(
            dialplan=dialplan(settings, {}, account),
            locations=RegisteredPhones(registrar),
            media=media,
            accounts=accounts,
            calls=calls,
            recordings=recordings,
            ended=ended,
            clock=clock,
            ids=ids,
            keys=keys,
        )

        terminals = Terminals(means, voice_media, voice)

        def source_of(caller: Caller) -> Source:
            name = f"user:{caller.name}" if isinstance(caller, User) else caller.name
            return known[name]

        door = FrontDoor(
            recorder,
            BackToBack(means),
            calls,
            gate=gate,
            registrar=registrar,
            source_of=source_of,
            source_named=known.get,
            terminals=terminals,
            routes=lambda: means.dialplan.routes,
        )
        terminals.has_room = door.has_room
        agent = UserAgent(
            clock=clock,
            ids=ids,
            handler=door,
            public_host=settings.public_address,
            may_speak=lambda host: gate.may_speak(host) or door.talks_to(host),
            tls_context=outgoing_sip_tls(settings),
            resolver=_resolver(settings, clock),
        )
        recorder.agent = means.user_agent = agent
        telephony = cls(
            account,
            accounts=accounts,
            peers=peers,
            sources=known,
            gate=gate,
            means=means,
            door=door,
            agent=agent,
            registrar=registrar,
            logins=TrunkLogins(agent, clock=clock, ids=ids),
            terminals=terminals,
            probes=TrunkProbes(agent, clock=clock),
        )
        means.is_down = telephony.probes.is_down
        await telephony.configure(settings)
        await registrar.load()
        return telephony


def _resolver(settings: Settings, clock: Clock) -> Resolver:
    servers = settings.name_servers
    return Resolver(
        clock=clock,
        fraction=random.SystemRandom().random,
        nameservers=[host for host, _ in servers] or None,
        port=servers[0][1] if servers else 53,
    )
