"""Whether every recording is what its row and its report say, and whose the other files are."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from callreel.base.errors import MachineError
from callreel.calls.model import Recording, RecordingStatus
from callreel.calls.rendering import Renderer
from callreel.mediastore import MediaStore
from callreel.service.context import Context
from callreel.service.finishing import media_key
from callreel.store import recordings, removals

_AT_ONCE = 500
_UNFINISHED = (RecordingStatus.IN_PROGRESS, RecordingStatus.PAUSED, RecordingStatus.STOPPED)


class Trouble(Enum):
    """What may be wrong."""

    MISSING_AUDIO = "audio is missing"
    MISSING_REPORT = "the integrity report is missing"
    CHANGED = "audio is not what was recorded"
    UNREADABLE = "cannot be read"
    MISSING_JOURNAL = "is not finished, and has no journal"
    ORPHAN_MEDIA = "media that no recording has"
    ORPHAN_JOURNAL = "a journal that no recording has"
    LEFT_JOURNAL = "a journal of a recording that is finished"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    trouble: Trouble
    """What."""
    about: str
    """A recording's id, or a key in the media store."""
    mended: bool = False
    """Whether it was put right."""
    detail: str = ""
    """For people."""


@dataclass(slots=True)
class Progress:
    """How far a verification is."""

    recordings: int = 0
    """Looked at."""
    of: int = 0
    """In all."""
    bytes_read: int = 0
    """Audio hashed."""
    findings: Counter[Trouble] = field(default_factory=Counter)
    """What was found."""


class Verification:
    """Looks through everything that is kept.

    Mended is what is safe: a journal left of a recording that is finished is deleted. What nobody
    knows of is told and left alone: it may be all there is of a recording whose row was lost with
    a database that was restored from before it.
    """

    def __init__(self, context: Context, renderer: Renderer, media_store: MediaStore) -> None:
        self._context = context
        self._renderer = renderer
        self._media_store = media_store

    async def run(self, *, hashes: bool = True) -> AsyncIterator[Finding | Progress]:
        """What is found, and now and then how far it is; the last is a :class:`Progress`.

        Without ``hashes`` no audio is read. Raises ``MachineError``.
        """
        progress = Progress()
        database = self._context.database
        async with database.read() as connection:
            progress.of = sum((await recordings.counts(connection)).values())
            owed = {one.recording_id for one in await removals.every(connection)}
        journals = set(await self._renderer.journals())
        files = {file.key: file.size_bytes async for file in self._media_store.list()}
        known: dict[str, RecordingStatus] = {}
        last = ""
        while True:
            async with database.read() as connection:
                some = await recordings.after(connection, database.seal, last, limit=_AT_ONCE)
            if not some:
                break
            for recording in some:
                known[recording.id] = recording.status
                async for finding in self._look_at(
                    recording, journals, files, progress, hashes=hashes
                ):
                    progress.findings[finding.trouble] += 1
                    yield finding
                progress.recordings += 1
            last = some[-1].id
            yield progress
        async for finding in self._orphans(known, journals, files, owed):
            progress.findings[finding.trouble] += 1
            yield finding
        yield progress

    async def _look_at(
        self,
        recording: Recording,
        journals: set[str],
        files: Mapping[str, int],
        progress: Progress,
        *,
        hashes: bool,
    ) -> AsyncIterator[Finding]:
        id_ = recording.id
        if recording.status in _UNFINISHED:
            gone = recording.status is RecordingStatus.STOPPED and id_ not in journals
            if gone and await self._still(recording):
                yield Finding(Trouble.MISSING_JOURNAL, id_)
            return
        if id_ in journals:
            yield await self._left(id_)
        key = recording.media_key or media_key(recording)
        try:
            if await self._size(f"{key}.json", files) is None:
                if not await self._still(recording):
                    return
                yield Finding(Trouble.MISSING_REPORT, id_)
            if recording.status is RecordingStatus.ABSENT:
                return
            size = await self._size(f"{key}.wav", files)
            if size is None:
                if await self._still(recording):
                    yield Finding(Trouble.MISSING_AUDIO, id_)
            elif size != recording.size_bytes:
                detail = f"{size} bytes, not {recording.size_bytes}"
                yield Finding(Trouble.CHANGED, id_, detail=detail)
            elif hashes and not await self._is_as_recorded(recording, key, progress):
                yield Finding(Trouble.CHANGED, id_, detail="its SHA-256 is another")
        except MachineError as error:
            yield Finding(Trouble.UNREADABLE, id_, detail=str(error))

    async def _still(self, recording: Recording) -> bool:
        """Whether it is as it was when we read it, and was not finished or deleted meanwhile."""
        database = self._context.database
        async with database.read() as connection:
            found = await recordings.get(connection, database.seal, recording.id)
        return found is not None and found.status is recording.status

    async def _size(self, key: str, files: Mapping[str, int]) -> int | None:
        """Bytes of a file, as listed or put there since; None if there is none."""
        if key in files:
            return files[key]
        found = await self._media_store.head(key)
        return None if found is None else found.size_bytes

    async def _is_as_recorded(self, recording: Recording, key: str, progress: Progress) -> bool:
        sha256 = hashlib.sha256()
        async for chunk in self._media_store.read(f"{key}.wav"):
            sha256.update(chunk)
            progress.bytes_read += len(chunk)
        said = {recording.sha256}
        if await self._media_store.head(f"{key}.json") is not None:
            data = b"".join([chunk async for chunk in self._media_store.read(f"{key}.json")])
            said.add(_sha256_in(data))
        return said == {sha256.hexdigest()}

    async def _left(self, recording_id: str) -> Finding:
        try:
            await self._renderer.discard(recording_id)
        except MachineError as error:
            return Finding(Trouble.LEFT_JOURNAL, recording_id, detail=str(error))
        return Finding(Trouble.LEFT_JOURNAL, recording_id, mended=True)

    async def _orphans(
        self,
        known: dict[str, RecordingStatus],
        journals: set[str],
        files: Mapping[str, int],
        owed: set[str],
    ) -> AsyncIterator[Finding]:
        for recording_id in sorted(journals - set(known) - owed):
            if not await self._has_row(recording_id):
                yield Finding(Trouble.ORPHAN_JOURNAL, recording_id)
        for key in sorted(files):
            recording_id = key.rpartition("/")[2].partition(".")[0]
            if recording_id in known or recording_id in owed:
                continue
            if not await self._has_row(recording_id):
                yield Finding(Trouble.ORPHAN_MEDIA, key)

    async def _has_row(self, recording_id: str) -> bool:
        """It may have been begun since we passed where it would have been."""
        database = self._context.database
        async with database.read() as connection:
            return await recordings.get(connection, database.seal, recording_id) is not None


def _sha256_in(report: bytes) -> str | None:
    try:
        found = json.loads(report)
    except ValueError:
        return None
    said = found.get("sha256") if isinstance(found, dict) else None
    return said if isinstance(said, str) else None
