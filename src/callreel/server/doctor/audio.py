"""What FFmpeg, as PyAV brings it, can do here."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np

from callreel.base.errors import CallreelError
from callreel.render.mp3 import write_mp3
from callreel.render.wav import WavFormat
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
    second = np.zeros(8000, np.int16)
    made = io.BytesIO()
    try:
        write_mp3(iter([second]), WavFormat(8000, 1, len(second)), made)
    except (CallreelError, ValueError, OSError, RuntimeError) as error:
        yield fail("MP3", f"cannot be made: {error}", "reinstall lameenc from its own wheel")
        return
    yield ok("MP3", f"a second takes {len(made.getvalue())} bytes")
