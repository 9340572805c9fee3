"""Many recordings as one ZIP, made while it is sent: nothing of it lies on a disk."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from callreel.calls.model import Account, Call, Recording, RecordingStatus
from callreel.calls.spelling import Kind, spell
from callreel.service.calls import CallService
from callreel.service.media import MediaFile, MediaFormat, MediaService
from callreel.service.recordings import RecordingService

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
_EARLIEST = (1980, 1, 1, 0, 0, 0)


class _Outlet(io.RawIOBase):
    """Takes what a ZIP writer writes, and gives it away again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """All that was written since it was last asked."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class BundleService:
    """Recordings with their integrity reports, and a manifest that says what each file is."""

    def __init__(
        self, recordings: RecordingService, calls: CallService, media: MediaService
    ) -> None:
        self._recordings = recordings
        self._calls = calls
        self._media = media

    async def stream(
        self, account: Account, recording_ids: Sequence[str], format_: MediaFormat
    ) -> AsyncIterator[bytes]:
        """The ZIP. What is deleted meanwhile or has no audio is left out, and the manifest says so.

        Raises ``NotFound`` before the first byte if one of them is not this account's.
        """
        chosen = [await self._recordings.get(account, one) for one in recording_ids]
        calls = await self._calls.some(account, [one.call_id for one in chosen])
        outlet = _Outlet()
        listed: list[dict[str, Any]] = []
        with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for recording in chosen:
                entry = _entry(account, recording, calls.get(recording.call_id))
                listed.append(entry)
                file = await self._media.open(recording, format_)
                report = await self._media.report(recording)
                if file is None or report is None:
                    continue
                name = f"{entry['recording_sid']}.{format_.value}"
                async for piece in self._put(archive, outlet, name, recording, file):
                    yield piece
                archive.writestr(_info(f"{entry['recording_sid']}.json", recording), report)
                entry["file"], entry["size_bytes"] = name, file.size_bytes
                yield outlet.take()
            manifest = {"version": MANIFEST_VERSION, "recordings": listed}
            archive.writestr(MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        yield outlet.take()

    async def _put(
        self,
        archive: zipfile.ZipFile,
        outlet: _Outlet,
        name: str,
        recording: Recording,
        file: MediaFile,
    ) -> AsyncIterator[bytes]:
        with archive.open(_info(name, recording), "w", force_zip64=True) as entry:
            async for chunk in self._media.read(file, 0, file.size_bytes):
                entry.write(chunk)
                yield outlet.take()


def _info(name: str, recording: Recording) -> zipfile.ZipInfo:
    at = (recording.start_time or recording.created_at).astimezone(UTC)
    return zipfile.ZipInfo(name, max(_EARLIEST, at.timetuple()[:6]))


def _entry(account: Account, recording: Recording, call: Call | None) -> dict[str, Any]:
    return {
        "recording_sid": spell(Kind.RECORDING, recording.id, account.dialect),
        "call_sid": spell(Kind.CALL, recording.call_id, account.dialect),
        "file": None,
        "size_bytes": None,
        "status": recording.status.value,
        "from": call and call.from_,
        "to": call and call.to,
        "direction": call and call.direction.value,
        "source": recording.source.value,
        "started_at": _iso(recording.start_time),
        "ended_at": _iso(recording.end_time),
        "duration_ms": recording.duration_ms,
        "channels": recording.request.channel_count,
        "gap_count": recording.gap_count,
        "wav_sha256": recording.sha256 if recording.status is RecordingStatus.COMPLETED else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")
