"""What the console is made over: use cases, and what only a running server can tell or do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from callreel.calls.model import Account, Recording
from callreel.service.bundle import BundleService
from callreel.service.calls import CallService
from callreel.service.deletion import DeletionService
from callreel.service.deliveries import DeliveryService
from callreel.service.live import LiveService
from callreel.service.media import MediaFormat, MediaService
from callreel.service.recordings import RecordingService
from callreel.service.sign_in import SignInService


@dataclass(frozen=True, slots=True)
class Worker:
    """A media worker."""

    number: int
    """From 1."""
    pid: int | None = None
    """Process id; None while it does not answer."""
    generation: int = 0
    """How often it was started."""
    calls: int = 0
    """Open."""
    recordings: int = 0
    """Live."""
    streams: int = 0
    """Open."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A filesystem that something of ours is on."""

    holds: str
    """What, for people: ``database, journals and audio``."""
    total_bytes: int
    """Its size."""
    free_bytes: int
    """What we may still use."""

    @property
    def used(self) -> float:
        """Per cent."""
        return 100 * (1 - self.free_bytes / self.total_bytes) if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class MachineState:
    """The server as it is now."""

    version: str
    """callreel's."""
    started_at: datetime
    """UTC."""
    database: str
    """``SQLite`` or ``PostgreSQL``."""
    media_store: str
    """Where finished audio goes, for people."""
    parts: Mapping[str, str]
    """Of each part ``ok``, or what is wrong with it."""
    workers: Sequence[Worker]
    """In order."""
    disks: Sequence[Disk]
    """Each once."""
    max_streams: int
    """Streams that there are ports for."""
    max_calls: int
    """Calls at once; 0 for no limit."""
    rendering: int
    """Recordings being rendered, or waiting for it."""
    warnings: Sequence[str] = ()
    """What the server said at its start that it would rather were otherwise."""

    @property
    def streams(self) -> int:
        """Open now."""
        return sum(worker.streams for worker in self.workers)

    @property
    def calls(self) -> int:
        """Open now, of all accounts."""
        return sum(worker.calls for worker in self.workers)

    @property
    def recordings(self) -> int:
        """Live now, of all accounts."""
        return sum(worker.recordings for worker in self.workers)


class Machine(Protocol):
    """What is known of the server."""

    async def state(self) -> MachineState:
        """As it is now."""
        ...


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this server is reached."""

    api_url: str
    """Without a slash at its end."""
    sip_uri: str
    """UDP and TCP."""
    sips_uri: str | None = None
    """TLS."""


class Stage(Enum):
    """How far a test call has got."""

    CALLING = "calling"
    TALKING = "talking"
    FINISHING = "finishing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TrialCall:
    """A call that was made to show that all works."""

    stage: Stage
    """How far it has got."""
    seconds: int = 0
    """Recorded so far."""
    recording_id: str | None = None
    """Once it is being recorded, 32 hex digits."""
    problem: str = ""
    """What went wrong, for people."""


class TrialCalls(Protocol):
    """Makes calls to the live server."""

    def obstacle(self, account: Account) -> str | None:
        """Why none can be made for this account; None if one can."""
        ...

    def start(self, account: Account) -> None:
        """Begin one, unless one is under way."""
        ...

    def newest(self, account: Account) -> TrialCall | None:
        """The last one, or None."""
        ...


class Audio(Protocol):
    """Answers with a recording's audio, by the same code as the API."""

    async def __call__(
        self,
        request: Request,
        recording: Recording,
        format_: MediaFormat,
        *,
        saved_as: str | None,
    ) -> Response:
        """The audio or the part asked for; 404 where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """All that the pages use."""

    sign_in: SignInService
    """Who is there."""
    calls: CallService
    """Calls."""
    recordings: RecordingService
    """Recordings."""
    live: LiveService
    """What is going on."""
    media: MediaService
    """Finished audio."""
    audio: Audio
    """The same over HTTP."""
    deletion: DeletionService
    """Recordings that are to go."""
    bundle: BundleService
    """Many recordings at once."""
    deliveries: DeliveryService
    """Webhooks."""
    machine: Machine
    """The server."""
    trial_calls: TrialCalls
    """Calls to try it with."""
    addresses: Addresses
    """Where it is reached."""
    now: Callable[[], datetime]
    """The time, UTC."""
