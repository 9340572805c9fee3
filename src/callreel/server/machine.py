"""What the console tells of the server: workers, ports, disks, database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

import callreel
from callreel.capture.client import WorkerPool
from callreel.capture.protocol import WorkerState
from callreel.console.services import Disk, MachineState, Worker


class ServerMachine:
    """Implements ``console.services.Machine``."""

    def __init__(
        self,
        *,
        workers: WorkerPool,
        health: Callable[[], Awaitable[dict[str, str]]],
        rendering: Callable[[], int],
        max_calls: Callable[[], int],
        ports: tuple[int, int],
        folders: Sequence[tuple[str, Path]],
        database: str,
        media_store: str,
        started_at: datetime,
        warnings: Sequence[str],
    ) -> None:
        """``folders`` are those with data of ours, and what that is; those on one filesystem are
        told as one."""
        self._workers = workers
        self._health = health
        self._rendering = rendering
        self._max_calls = max_calls
        self._ports = ports
        self._folders = folders
        self._database = database
        self._media_store = media_store
        self._started_at = started_at
        self._warnings = warnings

    async def state(self) -> MachineState:
        """As it is now."""
        parts, states, disks = await asyncio.gather(
            self._health(), self._workers.states_or_none(), asyncio.to_thread(self._disks)
        )
        low, high = self._ports
        return MachineState(
            version=callreel.__version__,
            started_at=self._started_at,
            database=self._database,
            media_store=self._media_store,
            parts=parts,
            workers=[_worker(number, state) for number, state in enumerate(states, 1)],
            disks=disks,
            max_streams=(high - low + 1) // 2,
            max_calls=self._max_calls(),
            rendering=self._rendering(),
            warnings=self._warnings,
        )

    def _disks(self) -> list[Disk]:
        found: dict[int, tuple[list[str], os.statvfs_result]] = {}
        for holds, folder in self._folders:
            try:
                device, room = folder.stat().st_dev, os.statvfs(folder)
            except OSError:
                continue
            found.setdefault(device, ([], room))[0].append(holds)
        return [
            Disk(_joined(holds), room.f_frsize * room.f_blocks, room.f_frsize * room.f_bavail)
            for holds, room in found.values()
        ]


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _worker(number: int, state: WorkerState | None) -> Worker:
    if state is None:
        return Worker(number)
    return Worker(
        number,
        pid=state.pid,
        generation=state.generation,
        calls=len(state.calls),
        recordings=len(state.captures),
        streams=sum(len(call.ports) for call in state.calls),
    )
