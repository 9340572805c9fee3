"""What FFmpeg, as PyAV brings it, can do here."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

import av

from callreel.base.errors import CallreelError
from callreel.render.mp3 import encode_mp3
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings

_REINSTALL = "install PyAV's own wheel: pip install --force-reinstall av"
_DECODERS = ("g722", "opus", "g729", "gsm", "amrnb", "ilbc")


def codecs(_: Settings) -> Iterator[Finding]:
    """The decoders that calls may need, besides G.711 and L16, which need none."""
    lacking = [name for name in _DECODERS if name not in av.codecs_available]
    version = f"PyAV {av.__version__}"
    if lacking:
        yield warn(
            "codecs", f"{version} lacks {', '.join(lacking)}: such calls are silent", _REINSTALL
        )
    else:
        yield ok("codecs", f"{version} decodes {', '.join(_DECODERS)}")


def mp3(_: Settings) -> Iterator[Finding]:
    """Whether an MP3 can be made: one is."""
    with tempfile.TemporaryDirectory(prefix="callreel-doctor-") as folder:
        source, made = Path(folder, "a.wav"), Path(folder, "a.mp3")
        with wave.open(str(source), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(16000))
        try:
            encode_mp3(source, made)
        except (CallreelError, av.FFmpegError, ValueError, OSError) as error:
            yield fail("MP3", f"cannot be made: {error}", _REINSTALL)
            return
        yield ok("MP3", f"a second takes {made.stat().st_size} bytes")
