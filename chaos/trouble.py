"""What may befall a server without killing anybody: a full disk, a database that cannot be written.

Nothing may be lost by any of it: what cannot be written waits in memory, what cannot be noted is
noted later, and the API says 503 meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

SMALL_DISK_MIB = 48
"""Of the filesystem that journals are on."""


class Trouble(Enum):
    """What kind."""

    DISK_FULL = "disk full"
    """Not a byte is left where journals are."""
    LOCKED = "database locked"
    """Somebody else holds it."""
    UNWRITABLE = "database not writable"
    """Every write of the control process fails (EFBIG), at any byte: as on a filesystem that the
    kernel made read-only."""
    WORKER_UNWRITABLE = "journals not writable"
    """The same of a media worker."""


def mount_small(folder: Path) -> bool:
    """Put a small filesystem there; whether this may be done here."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"size={SMALL_DISK_MIB}m,mode=0700"
    return not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "callreel-chaos", str(folder)],
        check=False,
        capture_output=True,
    ).returncode


def unmount(folder: Path) -> None:
    """Take it away again, whoever still uses it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


async def befall(
    kind: Trouble, *, journals: Path, database: Path, pid: int, random_: random.Random
) -> None:
    """Have it happen for some seconds. ``pid`` is of whoever cannot write, where that is one
    process."""
    seconds = random_.uniform(1.0, 4.0)
    match kind:
        case Trouble.DISK_FULL:
            with _filled(journals):
                await asyncio.sleep(seconds)
        case Trouble.LOCKED:
            with await asyncio.to_thread(_locked, database) as connection:
                await asyncio.sleep(seconds)
                connection.rollback()
            connection.close()
        case Trouble.UNWRITABLE | Trouble.WORKER_UNWRITABLE:
            with _unwritable(pid):
                await asyncio.sleep(seconds)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    ballast = folder / "ballast"
    try:
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            found = os.statvfs(folder)
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize))
            while True:
                os.write(file.fileno(), bytes(4096))
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _locked(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=30, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


@contextlib.contextmanager
def _unwritable(pid: int) -> Iterator[None]:
    try:
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    except ProcessLookupError:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
