"""SIGHUP: the settings are read anew, and what can change in a running server does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from callreel.base.errors import CallreelError
from callreel.server.settings import Settings

log = logging.getLogger(__name__)

REREAD = (
    "peers",
    "trunks",
    "users",
    "routes",
    "accounts",
    "numbers",
    "sip_realm",
    "sip_digest",
    "accept_loopback",
    "loopback_record",
    "refuse_silently",
    "srtp_over_clear",
    "max_calls",
    "max_requests",
    "max_owed_webhooks",
    "disk_warning_mb",
    "disk_reserve_mb",
    "retention_days",
    "default_trunk",
    "dial_uris",
    "webhook_private_addresses",
    "shutdown_seconds",
    "log_level",
)
"""What a running server takes up. Everything else waits for its next start."""


def merged(current: Settings, fresh: Settings) -> tuple[Settings, list[str], list[str]]:
    """``current`` with what can change from ``fresh``; what of it has changed; and what has to wait
    for the next start. Pure.
    """
    differing = [
        name for name in Settings.model_fields if getattr(current, name) != getattr(fresh, name)
    ]
    taken = [name for name in differing if name in REREAD]
    waiting = [name for name in differing if name not in REREAD]
    update = {name: getattr(fresh, name) for name in taken}
    return current.model_copy(update=update), taken, waiting


class Rereading:
    """``load`` reads the settings, ``take`` goes by them; both may raise ``CallreelError``."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        take: Callable[[Settings], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._load = load
        self._take = take
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have it done soon: once, however often it is asked for meanwhile."""
        self._asked.set()

    async def run(self) -> None:
        """Do it whenever it is asked for."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reread()
            except CallreelError as error:
                log.error("the settings stay as they are: %s", error)
            except Exception:
                log.exception("the settings could not be read anew")

    async def _reread(self) -> None:
        fresh = await asyncio.to_thread(self._load)
        settings, taken, waiting = merged(self._settings, fresh)
        await self._take(settings)
        self._settings = settings
        log.info("the settings were read anew; changed: %s", ", ".join(taken) or "nothing")
        if waiting:
            log.warning("these stay as they are until the next start: %s", ", ".join(waiting))
