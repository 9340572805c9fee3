"""Finished recordings: in a local folder, or in a bucket of S3, Google or Azure.

Raises :class:`~callreel.base.errors.MachineError` where the store fails, with a hint.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url as _store_from_url

from callreel.base.errors import MachineError, UsageError
from callreel.mediastore.files import place, sync_folder
from callreel.mediastore.keys import checked_key, checked_prefix, is_key

CHUNK_BYTES = 128 * 1024
MAX_CHUNK_BYTES = 256 * 1024
PART_BYTES = 8 * 1024 * 1024
"""Of a multipart upload: 10,000 parts make 80 GiB, more than a file may ever be."""
_UPLOADS_AT_ONCE = 4


class MissingMediaError(MachineError):
    """There is no such file in the store."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the store knows of a file."""

    key: str
    """Its name in the store."""
    size_bytes: int
    """Its length."""
    etag: str
    """Changes when the content does; as in HTTP, with its quotes; may be empty."""
    modified: datetime
    """When it was put there, UTC."""


class MediaStore:
    """Files by key. See :meth:`from_url`; keys are those of :mod:`callreel.mediastore.keys`."""

    def __init__(self, store: ObjectStore, *, root: Path | None = None) -> None:
        """``root`` is the folder of a local store, else None."""
        self._store = store
        self._root = root

    @classmethod
    def from_url(cls, url_or_path: str | Path, **options: str) -> Self:
        """A local folder (a path or ``file://``), or ``s3://bucket/prefix``, ``gs://``, ``az://``.

        The folder is made where it is missing. ``options`` are those of obstore, such as
        ``endpoint`` and ``region``; credentials come from the environment as usual. Raises
        UsageError for what is no store, MachineError where the folder cannot be made.
        """
        text = str(url_or_path)
        if "://" not in text:
            return cls._local(Path(text))
        if text.startswith("file://"):
            return cls._local(Path(unquote(urlsplit(text).path)))
        try:
            # The options are given by name at run time; obstore refuses what it does not know.
            store = _store_from_url(text, **options)  # type: ignore[call-overload]
        except (BaseError, ValueError) as error:
            raise UsageError(f"not a media store: {text!r}: {_first_line(error)}") from None
        return cls(store)

    @classmethod
    def _local(cls, folder: Path) -> Self:
        folder = folder.expanduser().absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = LocalStore(folder)
        except (OSError, BaseError, ValueError) as error:
            raise MachineError(
                f"the media folder cannot be used: {_first_line(error)}",
                path=folder,
                hint="make it, or let the server's user write to its parent",
            ) from None
        return cls(store, root=folder)

    @property
    def place(self) -> str:
        """What kind of place it is, for people."""
        return "object storage" if self._root is None else "a local folder"

    def local_path(self, key: str) -> Path | None:
        """Where a file lies on this machine, or None where the store is elsewhere."""
        return None if self._root is None else self._root / checked_key(key)

    async def put_file(self, key: str, path: Path) -> StoredFile:
        """Move a file into the store. On return it is durable there, and gone from ``path``.

        Where it fails ``path`` is still there, and what was under the key is whole, old or new.
        """
        target = self.local_path(checked_key(key))
        try:
            if target is not None and self._root is not None:
                await asyncio.to_thread(place, path, target, root=self._root)
            else:
                await obstore.put_async(
                    self._store,
                    key,
                    path,
                    chunk_size=PART_BYTES,
                    max_concurrency=_UPLOADS_AT_ONCE,
                )
                await asyncio.to_thread(path.unlink)
        except (OSError, BaseError) as error:
            raise _failure(f"{key} cannot be stored", error, path) from error
        stored = await self.head(key)
        if stored is None:
            raise MissingMediaError(f"{key} is not in the store although it was put there")
        return stored

    async def head(self, key: str) -> StoredFile | None:
        """What the store knows of a file, or None where it has none."""
        try:
            return _stored(await obstore.head_async(self._store, checked_key(key)))
        except FileNotFoundError:
            return None
        except (OSError, BaseError) as error:
            raise _failure(f"{key} cannot be looked up", error, self.local_path(key)) from error

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end``; to the end of the file for None.

        Comes in pieces of at most 256 KiB, whatever the size of the file. An ``end`` beyond the
        file is its end. Raises MissingMediaError where there is no such file.
        """
        checked_key(key)
        if start < 0 or (end is not None and end < start):
            raise UsageError(f"not a range of bytes: {start} to {end}")
        if end == start:
            return
        try:
            got = await obstore.get_async(
                self._store,
                key,
                options={"range": {"offset": start} if end is None else (start, end)},
            )
            async for chunk in got.stream(min_chunk_size=CHUNK_BYTES):
                view = memoryview(chunk)
                for at in range(0, len(view), MAX_CHUNK_BYTES):
                    yield bytes(view[at : at + MAX_CHUNK_BYTES])
        except FileNotFoundError:
            raise MissingMediaError(f"{key} is not in the store") from None
        except (OSError, BaseError) as error:
            raise _failure(f"{key} cannot be read", error, self.local_path(key)) from error

    async def delete(self, key: str) -> None:
        """Remove a file, durably. No error where there is none."""
        target = self.local_path(checked_key(key))
        try:
            await obstore.delete_async(self._store, key)
            if target is not None:
                await asyncio.to_thread(sync_folder, target.parent)
        except FileNotFoundError:
            return
        except (OSError, BaseError) as error:
            raise _failure(f"{key} cannot be deleted", error, target) from error

    async def list(self, prefix: str = "") -> AsyncIterator[StoredFile]:
        """All files in a folder and those below it. What has no key for a name is passed over."""
        folder = checked_prefix(prefix)
        try:
            async for batch in obstore.list(self._store, folder or None, chunk_size=500):
                for meta in batch:
                    if is_key(meta["path"]):
                        yield _stored(meta)
        except (OSError, BaseError) as error:
            raise _failure("the store cannot be listed", error, self._root) from error


def _stored(meta: obstore.ObjectMeta) -> StoredFile:
    return StoredFile(
        key=meta["path"],
        size_bytes=meta["size"],
        etag=meta["e_tag"] or "",
        modified=meta["last_modified"].astimezone(UTC),
    )


def _failure(what: str, error: Exception, path: Path | None) -> MachineError:
    hint = None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some disk space"
    elif isinstance(error, PermissionError):
        hint = "let the server's user read and write there"
    return MachineError(f"{what}: {_first_line(error)}", path=path, hint=hint)


def _first_line(error: Exception) -> str:
    """Without the debug text that obstore appends."""
    return (str(error) or type(error).__name__).splitlines()[0][:300]
