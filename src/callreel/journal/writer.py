"""Appending to a recording's journal: one new segment, whole blocks or none."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callreel.base.errors import MachineError
from callreel.journal.durable import sync_folder
from callreel.journal.format import Event, Kind, event_block, json_block, seed_of

SEGMENT_SUFFIX = ".seg"
_MAX_VECTORS = 512
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class JournalWriteError(MachineError):
    """Not all blocks could be appended. What is there is whole, and the rest may be tried again."""

    def __init__(
        self, message: str, *, path: Path, offset: int, hint: str | None, blocks_written: int
    ) -> None:
        super().__init__(message, path=path, offset=offset, hint=hint)
        self.blocks_written = blocks_written
        """How many of the blocks are in the journal nevertheless: the first so many."""


def segment_numbers(folder: Path) -> list[int]:
    """The numbers of the segments in a journal's folder, ascending; empty if there is none.

    Raises ``MachineError`` if the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MachineError(f"cannot read a journal: {error.strerror}", path=folder) from error
    stems = (name.removesuffix(SEGMENT_SUFFIX) for name in names if name.endswith(SEGMENT_SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


def segment_path(folder: Path, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"{number:06d}{SEGMENT_SUFFIX}"


class JournalWriter:
    """A new segment of a journal, behind those that are there.

    Made empty, its folder entry synced; ``begin`` writes the header. A former segment is never
    written to again: whatever tore it left the tear at its end, where the reader passes over it.

    Raises ``MachineError`` if the folder or file cannot be made.
    """

    def __init__(self, root: Path, recording_id: str) -> None:
        self.folder = root / recording_id
        self.seed = seed_of(recording_id)
        self.recording_id = recording_id
        self.size_bytes = 0
        """Bytes of whole blocks in the segment."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.number = max(segment_numbers(self.folder), default=0) + 1
            self.path = segment_path(self.folder, self.number)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise MachineError(
                f"cannot make a journal: {error.strerror}", path=self.folder, hint=_hint(error)
            ) from error
        try:
            sync_folder(self.folder)
            if self.number == 1:
                sync_folder(root)
        except OSError as error:
            os.close(self._fd)
            raise MachineError(
                f"cannot sync a journal's folder: {error.strerror}", path=self.folder
            ) from error

    def begin(self, header: dict[str, Any], *, mono_ns: int, wall_ns: int) -> None:
        """Write the segment's header block. ``recording`` and ``segment`` are filled in."""
        value = {**header, "recording": self.recording_id, "segment": self.number}
        self.append(
            [json_block(Kind.SEGMENT, value, seed=self.seed, mono_ns=mono_ns, wall_ns=wall_ns)]
        )

    def append(self, blocks: Sequence[bytes]) -> None:
        """Append whole blocks. Raises ``JournalWriteError``; the segment then ends with the last
        block that went in whole."""
        done = 0
        stalled = False
        while done < len(blocks):
            some = blocks[done : done + _MAX_VECTORS]
            try:
                written = os.writev(self._fd, some)
            except OSError as error:
                self._refuse(error, done)
            if written == sum(map(len, some)):
                done += len(some)
                self.size_bytes += written
                continue
            whole = 0
            for block in some:
                if whole + len(block) > written:
                    break
                whole += len(block)
                done += 1
            self.size_bytes += whole
            if whole == written:
                continue
            try:
                os.ftruncate(self._fd, self.size_bytes)
            except OSError as error:
                self._refuse(error, done)
            # The second try tells why it was short.
            if whole == 0 and stalled:
                self._refuse(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), done)
            stalled = whole == 0

    def _refuse(self, error: OSError, done: int) -> None:
        raise JournalWriteError(
            f"cannot write a journal: {error.strerror}",
            path=self.path,
            offset=self.size_bytes,
            hint=_hint(error),
            blocks_written=done,
        ) from error

    def end(self, reason: str, *, mono_ns: int, wall_ns: int, **keys: Any) -> None:
        """Write the ``end`` event, sync the segment and close it. Closed even if that fails, and
        then raises ``MachineError``."""
        block = event_block(
            Event.END, seed=self.seed, mono_ns=mono_ns, wall_ns=wall_ns, reason=reason, **keys
        )
        try:
            self.append([block])
            os.fdatasync(self._fd)
        except OSError as error:
            raise MachineError(
                f"cannot sync a journal: {error.strerror}", path=self.path, hint=_hint(error)
            ) from error
        finally:
            self.close()

    def sync(self) -> None:
        """Have what was written reach the disk. Raises ``MachineError``."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise MachineError(
                f"cannot sync a journal: {error.strerror}", path=self.path, hint=_hint(error)
            ) from error

    def close(self) -> None:
        """Close the segment without an end: it goes on in another, or was never begun."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Take a journal away again that was made but never begun."""
        self.close()
        try:
            self.path.unlink(missing_ok=True)
            if not segment_numbers(self.folder):
                self.folder.rmdir()
        except OSError as error:
            raise MachineError(
                f"cannot remove a journal: {error.strerror}", path=self.path
            ) from error


def _hint(error: OSError) -> str | None:
    if error.errno in _FULL:
        return "make room on the journal's filesystem"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (RLIMIT_NOFILE)"
    return None
