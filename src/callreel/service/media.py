"""Finished audio, in the format that is asked for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from callreel.calls.model import Recording, RecordingStatus
from callreel.calls.rendering import Renderer
from callreel.mediastore import MediaStore


class MediaFormat(Enum):
    """Formats that a recording can be fetched in; the values are the extensions."""

    WAV = "wav"
    MP3 = "mp3"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file in the media store, ready to be read."""

    key: str
    """Where it lies."""
    format: MediaFormat
    """What it is."""
    size_bytes: int
    """Its length."""
    etag: str
    """A strong entity tag, quoted."""
    modified: datetime
    """UTC."""


class MediaService:
    """Gives out the media of completed recordings. MP3 is made when first asked for, then kept."""

    def __init__(self, renderer: Renderer, media_store: MediaStore, scratch: Path) -> None:
        self._renderer = renderer
        self._store = media_store
        self._scratch = scratch
        self._encoding: dict[str, asyncio.Task[None]] = {}

    async def open(self, recording: Recording, format_: MediaFormat) -> MediaFile | None:
        """The file, or None unless the recording is completed. Raises ``MachineError``."""
        if recording.status is not RecordingStatus.COMPLETED or recording.media_key is None:
            return None
        key = f"{recording.media_key}.{format_.value}"
        found = await self._store.head(key)
        if found is None and format_ is MediaFormat.MP3:
            await self._encode_once(recording.media_key, key)
            found = await self._store.head(key)
        if found is None:
            return None
        etag = f'"{(recording.sha256 or recording.id)[:32]}-{format_.value}"'
        return MediaFile(key, format_, found.size_bytes, etag, found.modified)

    def read(self, file: MediaFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` up to ``end``, in chunks."""
        return self._store.read(file.key, start, end)

    async def report(self, recording: Recording) -> bytes | None:
        """The integrity report as it was written, or None before the recording is finished."""
        if recording.media_key is None:
            return None
        key = f"{recording.media_key}.json"
        found = await self._store.head(key)
        if found is None:
            return None
        return b"".join([chunk async for chunk in self._store.read(key, 0, found.size_bytes)])

    async def _encode_once(self, media_key: str, key: str) -> None:
        """Encode, once for all who wait; one who goes away does not take it from the others."""
        task = self._encoding.get(key)
        if task is None:
            task = asyncio.create_task(self._encode(media_key, key))
            self._encoding[key] = task
            task.add_done_callback(lambda _: self._encoding.pop(key, None))
        await asyncio.shield(task)

    async def _encode(self, media_key: str, key: str) -> None:
        wav_key = f"{media_key}.wav"
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            encoded = Path(folder, "out.mp3")
            source = self._store.local_path(wav_key)
            if source is None:
                source = Path(folder, "in.wav")
                await self._fetch(wav_key, source)
            await self._renderer.mp3(source, encoded)
            await self._store.put_file(key, encoded)

    async def _fetch(self, key: str, path: Path) -> None:
        found = await self._store.head(key)
        with await asyncio.to_thread(path.open, "wb") as file:
            async for chunk in self._store.read(key, 0, found.size_bytes if found else 0):
                await asyncio.to_thread(file.write, chunk)
