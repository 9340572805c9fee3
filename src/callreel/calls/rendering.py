"""What the use cases ask of the render pool; ``server`` fills it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from callreel.calls.model import Recording


class Encoding(Enum):
    """What a WAV can be made into; the values are the extensions."""

    MP3 = "mp3"
    FLAC = "flac"
    OPUS = "opus"
    """In an Ogg container (RFC 7845)."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What became of a closed journal. The files are complete and synced."""

    wav: Path | None
    """The audio; None when the recording is absent."""
    report: Path
    """The integrity report, JSON."""
    duration_ms: int
    """Length of the audio."""
    size_bytes: int
    """Of the WAV."""
    sha256: str | None
    """Of the WAV, lower-case hex."""
    absent_code: int | None
    """16101 no media or too short, 16102 silent; None when there is audio (contract §7)."""


class Renderer(Protocol):
    """The render pool, seen from the use cases. Raises ``MachineError``."""

    async def render(self, recording: Recording) -> Rendered:
        """Turn a recording's journal into a WAV and an integrity report."""
        ...

    async def mixdown(self, wav: Path, mono: Path) -> None:
        """Mix all channels of a WAV into one."""
        ...

    async def encode(self, wav: Path, target: Path, encoding: Encoding) -> None:
        """Encode a WAV."""
        ...

    async def journals(self) -> Sequence[str]:
        """Recordings that there is a journal of, by id."""
        ...

    async def release(self, recording_id: str) -> None:
        """Delete what a finished recording needs no longer: what rendering left behind, and its
        journal, unless that holds what could not be heard."""
        ...

    async def discard(self, recording_id: str) -> None:
        """Delete a recording's journal and whatever rendering left behind."""
        ...
