"""How we prove ourselves to trunks: their challenges are answered, and some are registered with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from callreel.base.clock import Clock
from callreel.base.ids import IdSource
from callreel.server.sip_settings import TrunkSettings
from callreel.signalling.registration import Registration, RegistrationSettings
from callreel.signalling.user_agent import UserAgent
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.values import URI


class TrunkLogins:
    """Told by :meth:`configure` which trunks there are, also later on; :meth:`close` it before the
    user agent.
    """

    def __init__(self, agent: UserAgent, *, clock: Clock, ids: IdSource) -> None:
        self._agent = agent
        self._clock = clock
        self._ids = ids
        self._registrations: dict[str, Registration] = {}
        self._clients: dict[str, tuple[Credentials, DigestClient]] = {}
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._started = False

    @property
    def registrations(self) -> Sequence[Registration]:
        """With the trunks that want it."""
        return list(self._registrations.values())

    @property
    def clients(self) -> Mapping[str, DigestClient]:
        """Who answers the challenges of each trunk, by its name."""
        found = {name: client for name, (_, client) in self._clients.items()}
        return found | {name: one.client for name, one in self._registrations.items()}

    def configure(self, trunks: Sequence[TrunkSettings]) -> None:
        """Go by these from now on. What stays as it was is not disturbed."""
        before, self._registrations = self._registrations, {}
        clients, self._clients = self._clients, {}
        for trunk in trunks:
            if trunk.username is None or trunk.password is None:
                continue
            if trunk.register_:
                self._register(_registration(trunk), before)
                continue
            credentials = Credentials(trunk.username, trunk.password)
            kept = clients.get(trunk.name)
            if kept is None or kept[0] != credentials:
                kept = credentials, DigestClient(credentials, self._ids)
            self._clients[trunk.name] = kept
        for name, one in before.items():
            self._retire(name, one)

    def start(self) -> None:
        """Register, now that there are sockets."""
        self._started = True
        for one in self._registrations.values():
            one.start()

    async def close(self) -> None:
        """Take the registrations back."""
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await asyncio.gather(*(one.close() for one in self._registrations.values()))

    def _register(self, wanted: RegistrationSettings, before: dict[str, Registration]) -> None:
        one = before.get(wanted.name)
        if one is not None and one.settings == wanted:
            self._registrations[wanted.name] = before.pop(wanted.name)
            return
        self._registrations[wanted.name] = Registration(
            self._agent,
            wanted,
            clock=self._clock,
            ids=self._ids,
            jitter=random.SystemRandom().random,
        )
        if self._started and one is None:
            self._registrations[wanted.name].start()

    def _retire(self, name: str, one: Registration) -> None:
        """Take a registration back, and only then begin the one in its place: to the trunk they may
        be the same.
        """
        earlier, successor = self._retiring.get(name), self._registrations.get(name)

        async def work() -> None:
            if earlier is not None:
                await asyncio.gather(earlier, return_exceptions=True)
            await one.close()
            if successor is not None and self._registrations.get(name) is successor:
                successor.start()

        task = asyncio.get_running_loop().create_task(work())
        self._retiring[name] = task
        task.add_done_callback(lambda done: self._retired(name, done))

    def _retired(self, name: str, task: asyncio.Task[None]) -> None:
        if self._retiring.get(name) is task:
            del self._retiring[name]


def _registration(trunk: TrunkSettings) -> RegistrationSettings:
    assert trunk.username is not None, "the settings see to that"
    assert trunk.password is not None, "the settings see to that"
    host = trunk.from_domain or URI.parse(trunk.uri).host
    return RegistrationSettings(
        name=trunk.name,
        registrar=trunk.uri,
        aor=str(URI(scheme="sip", user=trunk.username, host=host)),
        credentials=Credentials(trunk.username, trunk.password),
        contact_user=trunk.username,
    )
