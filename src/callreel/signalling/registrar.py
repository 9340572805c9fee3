"""The registrar (RFC 3261 §10.3): phones say where they are, and are called there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from email.utils import format_datetime
from typing import Protocol

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.signalling.authentication import Gate
from callreel.signalling.location import Binding, Change, LocationTable, contact_headers
from callreel.signalling.user_agent import IncomingRequest
from callreel.signalling.users import User
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.values import printable

logger = logging.getLogger("callreel.signalling")

SWEEP_SECONDS = 60.0


class RegistrationStore(Protocol):
    """Where bindings are kept, so that they outlive the process."""

    async def keep(self, states: Mapping[str, str | None]) -> None:
        """Keep what is known of each user; None forgets the user."""
        ...

    async def every(self) -> Mapping[str, str]:
        """What is kept, by user."""
        ...


class Registrar:
    """Answers REGISTER. :meth:`load` it before the first, :meth:`run` it beside the user agent."""

    def __init__(
        self,
        *,
        gate: Gate,
        store: RegistrationStore,
        clock: Clock,
        table: LocationTable | None = None,
    ) -> None:
        self._gate = gate
        self._store = store
        self._clock = clock
        self._table = table or LocationTable()
        # What is written and what is answered must not be overtaken by another REGISTER.
        self._lock = asyncio.Lock()

    def find(self, user: str) -> Sequence[Binding]:
        """Where a user can be reached now, the best first; nowhere if not registered, or gone from
        the configuration.
        """
        if self._gate.users.find(user) is None:
            return []
        return self._table.find(user, now=self._clock.now())

    def knows(self, flow: Flow) -> bool:
        """Whether a phone has registered from the socket at the other end of this flow."""
        return self._table.has_flow(flow, now=self._clock.now())

    async def load(self) -> None:
        """Take up what a former process knew."""
        stored = await self._store.every()
        useless = self._table.restore(stored, now=self._clock.now())
        if useless:
            await self._store.keep(dict.fromkeys(useless))

    async def handle(self, incoming: IncomingRequest) -> None:
        """Answer a REGISTER. Raises ``PeerError``, which becomes the answer."""
        user = self._gate.admit(incoming)
        if user is None:
            return
        request = incoming.request
        if not isinstance(user, User) or request.to_address.uri.user != user.name:
            raise PeerError("users register nobody but themselves", status=403)
        async with self._lock:
            change = self._table.plan(user.name, request, incoming.flow, now=self._clock.now())
            if change is not None:
                await self._commit([change])
        now = self._clock.now()
        bindings = self._table.find(user.name, now=now)
        if change is not None:
            _log(user.name, bindings)
        date = ("Date", format_datetime(now, usegmt=True))
        incoming.respond(200, headers=[*contact_headers(bindings, now=now), date])

    async def run(self) -> None:
        """Forget what has expired, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except Exception:
                logger.exception("expired registrations could not be removed")

    async def sweep(self) -> None:
        """Forget what has expired."""
        async with self._lock:
            changes = self._table.expired(now=self._clock.now())
            for change in changes:
                if not change.bindings:
                    logger.info("user %s is not registered any more", change.user)
            await self._commit(changes)

    async def _commit(self, changes: Sequence[Change]) -> None:
        if changes:
            await self._store.keep(
                {one.user: one.to_json() if one.bindings else None for one in changes}
            )
        for change in changes:
            self._table.commit(change)


def _log(user: str, bindings: Sequence[Binding]) -> None:
    if not bindings:
        logger.info("user %s is not registered any more", user)
    for one in bindings:
        agent = printable(one.user_agent) or "a phone"
        logger.info("user %s registered: %s at %s until %s", user, agent, one.flow, one.expires_at)
