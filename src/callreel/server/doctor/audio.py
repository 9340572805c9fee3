"""What the libraries for sound can do here: FFmpeg, as PyAV brings it, and LAME."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from callreel.base.errors import CallreelError
from callreel.calls.rendering import Encoding
from callreel.render.encoding import encode
from callreel.render.wav import WavWriter
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings

_REINSTALL = "install the wheels anew: pip install --force-reinstall av lameenc"
_DECODERS = ("g722", "opus", "g729", "gsm")


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


def encoders(_: Settings) -> Iterator[Finding]:
    """Whether files in each format can be made: one of each is."""
    with tempfile.TemporaryDirectory(prefix="callreel-doctor-") as folder:
        source = Path(folder, "a.wav")
        with source.open("wb+") as file:
            writer = WavWriter(file, rate_hz=8000, channels=1)
            writer.write(np.zeros((8000, 1), np.int16))
            writer.finish()
        for encoding in Encoding:
            made = Path(folder, f"a.{encoding.value}")
            try:
                encode(source, made, encoding)
            except CallreelError as error:
                yield fail(encoding.name, f"cannot be made: {error}", _REINSTALL)
            else:
                yield ok(encoding.name, f"a second takes {made.stat().st_size} bytes")
