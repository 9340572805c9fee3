"""What the server is doing, as one object: for ``callreel status`` and for ``/metrics``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from callreel.base.clock import Clock
from callreel.base.errors import CallreelError
from callreel.calls.model import DeliveryState, RecordingStatus
from callreel.server.core import Core
from callreel.server.health import Health
from callreel.server.syncer import PERIOD_S, Syncer
from callreel.store import deliveries, recordings


class LogCounts(logging.Handler):
    """Counts what is logged, by level."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.by_level = {"warning": 0, "error": 0}
        """So far."""

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self.by_level["error" if record.levelno >= logging.ERROR else "warning"] += 1


class Status:
    """Gathers it when asked; a part that does not answer is left out, and health says so."""

    def __init__(
        self,
        core: Core,
        *,
        clock: Clock,
        syncer: Syncer,
        health: Health,
        calls: Callable[[], int],
        limits: Callable[[], Mapping[str, float]],
        sweep_s: float,
    ) -> None:
        self._clock = clock
        self._core = core
        self._syncer = syncer
        self._health = health
        self._calls = calls
        self._limits = limits
        self._sweep_s = sweep_s
        self._started = clock.monotonic()
        self.logged = LogCounts()
        """To be hung on to the log."""

    async def gather(self) -> dict[str, Any]:
        """All of it: numbers and short texts, as JSON has them."""
        workers = await self._of_workers()
        behind_s = max((one["behind_longest_seconds"] for one in workers), default=0.0)
        return {
            "up_seconds": round(self._clock.monotonic() - self._started, 1),
            "health": await self._health.check(),
            "calls": self._calls(),
            "workers": workers,
            **await self._of_database(),
            "finishing": {
                "waiting": self._core.finishing.waiting,
                "failing": len(self._core.finishing.failing),
                "renders": self._core.finishing.renders,
                "render_seconds": self._core.finishing.render_seconds,
            },
            "sending": self._core.deliveries.in_flight,
            "disk": {
                "step": self._core.context.room.step.value,
                "free_bytes": self._core.context.room.free_bytes,
                "total_bytes": self._core.context.room.total_bytes,
                "place": self._core.context.room.place,
            },
            "sync": {
                "syncs": self._syncer.syncs,
                "seconds": self._syncer.seconds,
                "longest_seconds": self._syncer.longest_s(),
                "failing": self._syncer.failing,
            },
            "at_risk": {
                # What was queued when a sweep began that was late, and was not written by then.
                "crash_seconds": self._sweep_s + behind_s,
                "power_cut_seconds": self._sweep_s + behind_s + PERIOD_S + self._syncer.longest_s(),
            },
            "limits": dict(self._limits()),
            "logged": dict(self.logged.by_level),
        }

    async def _of_workers(self) -> list[dict[str, Any]]:
        try:
            states = await self._core.workers.states()
        except CallreelError:
            return []
        return [
            {
                "pid": state.pid,
                "generation": state.generation,
                "calls": len(state.calls),
                "captures": len(state.captures),
                "relayed": state.relayed,
                "unsent": state.unsent,
                "strange": state.strange,
                "unauthentic": state.unauthentic,
                "packets": 0,
                "dropped": 0,
                "sweeps": 0,
                "sweep_seconds": 0.0,
                "sweep_longest_seconds": 0.0,
                "behind_longest_seconds": 0.0,
                **state.figures,
            }
            for state in states
        ]

    async def _of_database(self) -> dict[str, Any]:
        try:
            async with self._core.database.read() as connection:
                kept = await recordings.counts(connection)
                owed = await deliveries.counts(connection)
        except CallreelError:
            return {"recordings": None, "deliveries": None}
        return {
            "recordings": {one.value: kept.get(one, 0) for one in RecordingStatus},
            "deliveries": {one.value: owed.get(one, 0) for one in DeliveryState},
        }
