"""The parts of a server that ``/healthz`` asks after."""

from __future__ import annotations

from callreel.base.errors import MachineError
from callreel.server.core import Core
from callreel.server.health import Down, Health, Probe
from callreel.service.room import Step
from callreel.signalling.user_agent import UserAgent


def health_of(core: Core, agent: UserAgent, *, journals: Probe) -> Health:
    """All of them. ``journals`` says whether all journals can be written."""

    async def workers() -> None:
        if not core.workers.healthy:
            raise MachineError("a media worker is away")

    async def sip() -> None:
        if not agent.is_listening:
            raise MachineError("SIP is not listening")

    async def disk() -> str | None:
        room = core.context.room
        if room.step is Step.OUT:
            raise Down(f"no new recording is begun, {room.free_bytes / 1e9:.2f} GB are free")
        return f"{room.free_bytes / 1e9:.2f} GB are free" if room.step is Step.LOW else None

    async def finishing() -> str | None:
        count = len(core.finishing.failing)
        return f"{count} recordings cannot be finished now; it is tried again" if count else None

    health = Health()
    health.add("database", core.database.ping)
    health.add("workers", workers)
    health.add("sip", sip)
    health.add("disk", disk)
    health.add("journals", journals)
    health.add("finishing", finishing)
    return health
