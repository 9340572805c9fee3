"""Looks at the disk every few seconds, and says when it is filling up and when that is over."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from callreel.service.room import Marks, Room, Step

log = logging.getLogger(__name__)

PERIOD_S = 1.0


class DiskWatch:
    """Runs as one task; keeps a :class:`~callreel.service.room.Room` up to date.

    ``again`` is called when there is room for recordings again.
    """

    def __init__(
        self,
        room: Room,
        folders: Sequence[Path],
        *,
        warning_mb: int | None,
        reserve_mb: int | None,
        again: Callable[[], Awaitable[None]],
    ) -> None:
        self._room = room
        self._folders = folders
        self.warning_mb = warning_mb
        """See the setting; may be changed at any time."""
        self.reserve_mb = reserve_mb
        """See the setting; may be changed at any time."""
        self._again = again

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            before = self._room.step
            if self.look():
                self._tell(before)
                if before is Step.OUT:
                    await self._again()
            await asyncio.sleep(PERIOD_S)

    def look(self) -> bool:
        """Look at once; whether the step has changed."""
        seen: list[tuple[float, str, int, int, Marks]] = []
        for folder in self._folders:
            try:
                found = os.statvfs(folder)
            except OSError as error:
                log.error("cannot see how full %s is: %s", folder, error.strerror)
                continue
            # What is left to ordinary users: a server that runs as root must not take the rest.
            free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
            marks = Marks.of(total, warning_mb=self.warning_mb, reserve_mb=self.reserve_mb)
            seen.append((free / max(1, marks.reserve_bytes), str(folder), free, total, marks))
        if not seen:
            return False
        _, place, free, total, marks = min(seen, key=lambda one: one[0])
        return self._room.saw(place, free, total, marks)

    def _tell(self, before: Step) -> None:
        room = self._room
        if room.step is Step.OUT:
            log.error("no new recording is begun: %s", room.text)
        elif room.step is Step.LOW and before is Step.AMPLE:
            log.warning("the disk is filling up: %s", room.text)
        elif before is Step.OUT:
            log.warning("recordings are begun again: %s", room.text)
        else:
            log.info("the disk has room again: %s", room.text)
