"""Prompts on disk, by key: made once, whole or not at all, the least recently used ones removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from callreel.base.clock import Clock
from callreel.base.errors import MachineError
from callreel.calls.voice import SpeechError
from callreel.prompts.sharing import Shared

KEEP_S = 3600.0
"""A prompt may be played for so long after it was asked for: it is not removed before."""

_NAME = re.compile(r"[0-9a-f]{64}\.raw")
_PART = ".part"


@dataclass(slots=True)
class _Kept:
    size_bytes: int
    used_at: float
    """Seconds since 1970."""


class PromptCache:
    """A folder of prompts. Nobody else writes to it."""

    def __init__(self, folder: Path, *, max_bytes: int, clock: Clock) -> None:
        """``max_bytes``: of all prompts together. Raises ``MachineError`` where the folder cannot
        be used."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._clock = clock
        self._making: Shared[Path] = Shared()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the least recently used first
        self._size_bytes = 0
        try:
            self._take_up()
        except OSError as error:
            raise MachineError(
                f"the folder of prompts cannot be used: {error.strerror}", path=folder
            ) from None

    @property
    def size_bytes(self) -> int:
        """Of all prompts that are kept."""
        return self._size_bytes

    async def close(self) -> None:
        """Give up what is being made."""
        await self._making.close()

    async def get(self, key: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        """The prompt of this key (64 hex digits), made by writing it to a path if it is not there.

        Raises what ``make`` raises, ``SpeechError`` where there is no room for it.
        """
        found = self._used(key)
        if found is not None:
            return found
        return await self._making.do(key, lambda: self._make(key, make))

    async def _make(self, key: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        part = self._folder / f"{key}{_PART}"
        try:
            await make(part)
            size = await asyncio.to_thread(_settled, part)
            await self._make_room(size)
            path = self._folder / f"{key}.raw"
            now = self._clock.now().timestamp()
            await asyncio.to_thread(_publish, part, path, now)
        except OSError as error:
            raise SpeechError(f"a prompt cannot be written: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        self._kept[key] = _Kept(size, now)
        self._size_bytes += size
        return path

    def _used(self, key: str) -> Path | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        path = self._folder / f"{key}.raw"
        now = self._clock.now().timestamp()
        try:
            os.utime(path, (now, now))
        except OSError:  # somebody has removed it
            del self._kept[key]
            self._size_bytes -= kept.size_bytes
            return None
        kept.used_at = now
        self._kept.move_to_end(key)
        return path

    async def _make_room(self, size: int) -> None:
        oldest_in_use = self._clock.now().timestamp() - KEEP_S
        while self._size_bytes + size > self._max_bytes:
            key, kept = next(iter(self._kept.items()), ("", None))
            if kept is None or kept.used_at > oldest_in_use:
                raise SpeechError(
                    f"no room for a prompt: {self._size_bytes + size} bytes are in use, and "
                    f"prompts_max_mb allows {self._max_bytes}"
                )
            del self._kept[key]
            self._size_bytes -= kept.size_bytes
            await asyncio.to_thread((self._folder / f"{key}.raw").unlink, missing_ok=True)

    def _take_up(self) -> None:
        """What an earlier process left."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = []
        for path in self._folder.iterdir():
            if _NAME.fullmatch(path.name):
                status = path.stat()
                found.append((status.st_mtime, path.stem, status.st_size))
            else:
                path.unlink(missing_ok=True)
        for used_at, key, size in sorted(found):
            self._kept[key] = _Kept(size, used_at)
            self._size_bytes += size


def _publish(part: Path, path: Path, used_at: float) -> None:
    os.utime(part, (used_at, used_at))
    part.rename(path)


def _settled(part: Path) -> int:
    """Its size, once it is on the disk: half a prompt must not pass for a whole one."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
