"""Finished audio, in the format and with the channels that are asked for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from callreel.calls.model import Recording, RecordingStatus
from callreel.calls.rendering import Encoding, Renderer
from callreel.mediastore import MediaStore


class MediaFormat(Enum):
    """Formats that a recording can be fetched in; the values are the extensions."""

    WAV = "wav"
    MP3 = "mp3"
    FLAC = "flac"
    OPUS = "opus"
    """In an Ogg container."""

    @property
    def encoding(self) -> Encoding | None:
        """What makes it of a WAV; None where it is one."""
        return None if self is MediaFormat.WAV else Encoding(self.value)


_MIXED = ".mono"
_DERIVED = (
    *(f"{_MIXED}.{one.value}" for one in MediaFormat),
    *(f".{one.value}" for one in MediaFormat if one.encoding is not None),
)
"""Ends of the keys of what is made from the WAV when it is first asked for."""


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
    """Gives out the media of completed recordings.

    What is not the WAV as it was rendered is made when first asked for, then kept.
    """

    def __init__(self, renderer: Renderer, media_store: MediaStore, scratch: Path) -> None:
        self._renderer = renderer
        self._store = media_store
        self._scratch = scratch
        self._making: dict[str, asyncio.Task[None]] = {}

    async def open(
        self, recording: Recording, format_: MediaFormat, *, mixed: bool = False
    ) -> MediaFile | None:
        """The file, or None unless the recording is completed. Raises ``MachineError``.

        ``mixed``: a dual recording mixed down to one channel.
        """
        media_key = recording.media_key
        if recording.status is not RecordingStatus.COMPLETED or media_key is None:
            return None
        mixed = mixed and recording.request.channel_count > 1
        variant = f"{_MIXED if mixed else ''}.{format_.value}"
        found = await self._store.head(media_key + variant)
        if found is None and variant in _DERIVED:
            await self._make_once(media_key, variant, format_)
            found = await self._store.head(media_key + variant)
        if found is None:
            return None
        etag = f'"{(recording.sha256 or recording.id)[:32]}{variant.replace(".", "-")}"'
        return MediaFile(media_key + variant, format_, found.size_bytes, etag, found.modified)

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

    async def remove(self, media_key: str) -> None:
        """Delete all that is kept under a key; gone on return. Raises ``MachineError``."""
        # The WAV first: from then on nothing is made of it any more. What is being made is waited
        # for, since it would be put there after its deletion.
        await self._store.delete(f"{media_key}.wav")
        being_made = [task for key, task in self._making.items() if key.startswith(media_key)]
        await asyncio.gather(*being_made, return_exceptions=True)
        for end in (*_DERIVED, ".json"):
            await self._store.delete(media_key + end)

    async def _make_once(self, media_key: str, variant: str, format_: MediaFormat) -> None:
        """Make it, once for all who wait; one who goes away does not take it from the others."""
        key = media_key + variant
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(media_key, variant, format_), name=f"make {key}")
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        await asyncio.shield(task)

    async def _make(self, media_key: str, variant: str, format_: MediaFormat) -> None:
        wav = f"{media_key}.wav"
        if await self._store.head(wav) is None:
            return  # deleted meanwhile
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            source, made = await self._local(wav, Path(folder, "in.wav")), Path(folder, "out")
            if variant.startswith(_MIXED):
                mixed = Path(folder, "mixed")
                await self._renderer.mixdown(source, mixed)
                source = mixed
            if format_.encoding is None:
                made = source
            else:
                await self._renderer.encode(source, made, format_.encoding)
            await self._store.put_file(media_key + variant, made)

    async def _local(self, key: str, path: Path) -> Path:
        """Where a stored file lies on this machine: fetched to ``path`` where the store is not."""
        kept = self._store.local_path(key)
        if kept is not None:
            return kept
        found = await self._store.head(key)
        with await asyncio.to_thread(path.open, "wb") as file:
            async for chunk in self._store.read(key, 0, found.size_bytes if found else 0):
                await asyncio.to_thread(file.write, chunk)
        return path
