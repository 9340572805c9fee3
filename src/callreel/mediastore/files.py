"""Files put into a folder so that a power cut finds them whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

_COPY_BYTES = 1024 * 1024


def place(source: Path, target: Path, *, root: Path) -> None:
    """Move a file to its place below ``root``, durable on return. Replaces what was there.

    On one filesystem it is renamed; from another it is copied beside its place first, so that
    nobody ever sees half of it. Raises ``OSError``; ``source`` is then still there.
    """
    _make_folders(target.parent, root)
    with source.open("rb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed into or removed from a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as from_, partial.open("wb") as to:
            os.fchmod(to.fileno(), 0o600)
            shutil.copyfileobj(from_, to, _COPY_BYTES)
            to.flush()
            os.fsync(to.fileno())
        partial.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(target.parent)
    source.unlink()


def _make_folders(folder: Path, root: Path) -> None:
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for level in reversed(missing):
        level.mkdir(mode=0o700, exist_ok=True)
        sync_folder(level.parent)
