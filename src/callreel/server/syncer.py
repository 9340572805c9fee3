"""One ``syncfs`` a second on the journals' filesystem while anything is being recorded.

An ``fsync`` for each journal does not scale; one call for all of them does (design, *Capture*).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from callreel.capture.gauge import Longest

log = logging.getLogger(__name__)

PERIOD_S = 1.0


class Syncer:
    """Runs as one task; the call itself blocks a thread, not the process."""

    def __init__(self, folder: Path, busy: Callable[[], bool]) -> None:
        self._folder = folder
        self._busy = busy
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.syncs = 0
        """So far."""
        self.seconds = 0.0
        """They took in all."""
        self.failing = ""
        """Why the last one failed; empty if it did not."""
        self._longest = Longest()

    async def run(self) -> None:
        """Sync until cancelled."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        owed = False
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                busy = self._busy()
                if busy or owed:  # once more after the last recording has stopped
                    await self._sync(descriptor)
                owed = busy
        finally:
            os.close(descriptor)

    async def _sync(self, descriptor: int) -> None:
        begun = time.monotonic()
        failure = await asyncio.to_thread(self._syncfs, descriptor)
        took_s = time.monotonic() - begun
        self.syncs += 1
        self.seconds += took_s
        self._longest.saw(round(took_s * 1e9), time.monotonic_ns())
        self.failing = errno.errorcode.get(failure, str(failure)) if failure else ""
        if failure:
            log.error(
                "journals in %s cannot be synced: %s", self._folder, errno.errorcode.get(failure)
            )

    def longest_s(self) -> float:
        """The longest of late: with the period and the sweep, what a power cut can take."""
        return self._longest.since(time.monotonic_ns()) / 1e9

    def _syncfs(self, descriptor: int) -> int:
        return ctypes.get_errno() if self._libc.syncfs(descriptor) else 0
