"""The use cases' renderer, on the render pool."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from callreel.base.errors import MachineError
from callreel.calls.model import Recording
from callreel.calls.rendering import Rendered
from callreel.render.job import RenderSpec
from callreel.render.pool import RenderPool
from callreel.server.datadir import DataDir


class PoolRenderer:
    """Implements ``calls.rendering.Renderer``."""

    def __init__(self, pool: RenderPool, data: DataDir, *, silence_dbfs: float) -> None:
        self._pool = pool
        self._data = data
        self._silence_dbfs = silence_dbfs

    async def render(self, recording: Recording) -> Rendered:
        """Render the journal of a recording below its id in the scratch folder."""
        destination = self._data.scratch / recording.id
        result = await self._pool.render(
            self._data.journals / recording.id,
            destination,
            RenderSpec(
                recording_id=recording.id,
                track=recording.request.track,
                channel_count=recording.request.channel_count,
                trim=recording.request.trim,
                silence_dbfs=self._silence_dbfs,
            ),
        )
        return Rendered(
            wav=result.wav,
            report=result.report_path,
            duration_ms=result.duration_ms,
            size_bytes=result.size_bytes,
            sha256=result.sha256,
            absent_code=result.absent_code,
        )

    async def mp3(self, wav: Path, mp3: Path) -> None:
        """Encode a WAV."""
        await self._pool.mp3(wav, mp3)

    async def discard(self, recording_id: str) -> None:
        """Delete the journal: all that it held is in the media store, and the row says so."""
        await asyncio.to_thread(self._discard, recording_id)

    def _discard(self, recording_id: str) -> None:
        try:
            for left in self._data.scratch.glob(f"{recording_id}.*"):
                left.unlink(missing_ok=True)
            shutil.rmtree(self._data.journals / recording_id)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise MachineError(
                f"a finished journal cannot be deleted: {error.strerror}",
                path=self._data.journals / recording_id,
                hint="delete it by hand; the recording is complete",
            ) from None
