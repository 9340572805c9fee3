"""Where everything is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from callreel.base.errors import CallreelError
from callreel.server.datadir import DataDir
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings
from callreel.store.database import Database
from callreel.store.seal import Seal

LITTLE_BYTES = 10 * 1024**3
TOO_LITTLE_BYTES = 1024**3
BYTES_AN_HOUR = 150_000_000
"""Of a call with both directions: its journal, and the WAV that is made of it."""
DATABASE_S = 5.0


def folder(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written to, or made."""
    root = settings.data.absolute()
    where = root if root.exists() else _first_there(root)
    try:
        with tempfile.TemporaryFile(dir=where):  # unnamed: nothing is left of it
            pass
    except OSError as error:
        yield fail(
            "data folder",
            f"{where} cannot be written to: {error.strerror}",
            f"run callreel as the user whose it is, or choose another with --data "
            f"(you are user {os.getuid()})",
        )
        return
    yield ok("data folder", f"{root}{'' if root.exists() else ' will be made'}")


def free_space(settings: Settings) -> Iterator[Finding]:
    """How long there is room for."""
    yield space_finding(shutil.disk_usage(_first_there(settings.data.absolute())).free)


def space_finding(free_bytes: int) -> Finding:
    """What so many bytes mean. Pure."""
    text = f"{free_bytes / 1e9:.1f} GB: about {free_bytes // BYTES_AN_HOUR} hours of recorded calls"
    advice = "make room, or have finished audio kept elsewhere (media_url)"
    if free_bytes < TOO_LITTLE_BYTES:
        return fail("free space", text, advice)
    if free_bytes < LITTLE_BYTES:
        return warn("free space", text, advice)
    return ok("free space", text)


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, where one is there."""
    own = DataDir(settings.data.absolute()).database
    if settings.database_url is None and not own.exists():
        yield ok("database", "SQLite, made at the first start")
        return
    url = settings.database_url or f"sqlite:///{own}"
    kind = url.partition(":")[0]
    try:
        asyncio.run(_ping(url))
    except (SQLAlchemyError, OSError, TimeoutError, CallreelError) as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip()
        yield fail("database", f"{kind} does not answer: {reason[:300]}", "check database_url")
        return
    yield ok("database", f"{kind} answers")


async def _ping(url: str) -> None:
    found = Database(url, Seal(bytes(32)))  # nothing that is sealed is read
    try:
        async with asyncio.timeout(DATABASE_S):
            await found.ping()
    finally:
        await found.close()


def _first_there(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())
