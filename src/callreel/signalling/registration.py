"""Registering with a trunk (RFC 3261 §10.2), so that its calls find us; and staying registered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.base.ids import IdSource
from callreel.signalling.credentials import request_with_credentials
from callreel.signalling.user_agent import UserAgent
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Response
from callreel.wire.sip.registration import RegistrationCycle, RegistrationState

logger = logging.getLogger("callreel.signalling")

FAREWELL_SECONDS = 2.0
"""How long a shutdown waits for the answer to our un-REGISTER."""


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """Where to register, as whom."""

    name: str
    """The trunk's name, for logs and the health page."""
    registrar: str
    """The registrar's URI, without a user: ``sip:trunk.example.com``."""
    aor: str
    """Our address-of-record there: ``sip:4420@trunk.example.com``."""
    credentials: Credentials
    """Name and password."""
    contact_user: str
    """The user part of our contact: the trunk's calls come with it in their Request-URI."""
    transport: Transport | None = None
    """The transport; None: what the registrar's URI says, or its DNS."""
    expires_seconds: int = 3_600
    """How long to ask for."""


@dataclass(frozen=True, slots=True)
class RegistrationStatus:
    """What an operator wants to know of a registration."""

    name: str
    """The trunk."""
    state: RegistrationState
    """Where it stands."""
    registered_until: datetime | None
    """Until when it is granted, UTC; None: not registered."""
    last_error: str | None
    """Why it fails; None if it does not."""


class Registration:
    """One registration with one trunk. :meth:`start` it, :meth:`close` it before the user agent.

    ``jitter`` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        agent: UserAgent,
        settings: RegistrationSettings,
        *,
        clock: Clock,
        ids: IdSource,
        jitter: Callable[[], float],
    ) -> None:
        self.settings = settings
        """What it was made with."""
        self.client = DigestClient(settings.credentials, ids)
        """The credentials, and the challenges that they answered: for calls to this trunk too."""
        self.flow: Flow | None = None
        """The way to the registrar while it works: calls to the trunk go the same way."""
        self._agent = agent
        self._clock = clock
        self._cycle = RegistrationCycle(expires_seconds=settings.expires_seconds, jitter=jitter)
        self._call_id = ids.new_id()
        self._cseq = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> RegistrationStatus:
        """How it stands now."""
        left = (self._cycle.registered_until or 0.0) - self._clock.monotonic()
        until = None
        if self._cycle.registered_until is not None and left > 0:
            until = self._clock.now() + timedelta(seconds=left)
        return RegistrationStatus(
            self.settings.name, self._cycle.state, until, self._cycle.last_error
        )

    def start(self) -> None:
        """Register, and keep registered from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def refresh(self) -> None:
        """Register now, not when it is due: after a change of network, or when an operator asks."""
        self._wake.set()

    async def close(self) -> None:
        """Stop; tell the trunk that we are gone, if it thinks that we are there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._cycle.registered_until is None:
            return
        self._cycle.registered_until = None
        with contextlib.suppress(PeerError, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._send(0)

    async def _run(self) -> None:
        while True:
            before = self._cycle.state
            await self._register()
            self._report(before)
            due = self._cycle.next_at
            delay = 0.0 if due is None else max(0.0, due - self._clock.monotonic())
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _register(self) -> None:
        try:
            contact, response = await self._send(self._cycle.expires_seconds)
        except PeerError as error:
            self.flow = None  # another server may answer: the name is resolved anew
            self._cycle.fail(str(error), now=self._clock.monotonic())
        except Exception:
            # Whatever it was, the trunk must not stay unregistered for ever.
            logger.exception("%s: cannot register", self.settings.name)
            self._cycle.fail("internal error", now=self._clock.monotonic())
        else:
            self._cycle.receive(response, contact, now=self._clock.monotonic())

    async def _send(self, expires_seconds: int) -> tuple[str, Response]:
        """One REGISTER, challenges answered: our contact in it, and the final response."""
        settings = self.settings
        flow = self.flow or await self._agent.resolve(settings.registrar, settings.transport)
        contact = self._agent.contact(flow, settings.contact_user)
        self._cseq += 1
        request = self._agent.new_request(
            "REGISTER",
            settings.registrar,
            from_uri=settings.aor,
            to_uri=settings.aor,
            call_id=self._call_id,
            cseq=self._cseq,
            headers=[("Contact", f"<{contact}>"), ("Expires", str(expires_seconds))],
        )
        try:
            sent, response = await request_with_credentials(self._agent, request, flow, self.client)
        except BaseException:
            self._cseq += 2  # as many as may have been sent
            raise
        self._cseq = sent.cseq.sequence
        self.flow = flow
        return contact, response

    def _report(self, before: RegistrationState) -> None:
        """Log what changed; a refresh that works is no news."""
        status = self.status
        if status.state is RegistrationState.REGISTERED and before is not status.state:
            logger.info("%s: registered until %s", status.name, status.registered_until)
        elif status.state is RegistrationState.FAILING:
            logger.warning("%s: not registered: %s", status.name, status.last_error)
