"""FLAC and Ogg Opus, by FFmpeg's encoders and muxers through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from numpy.typing import NDArray

from callreel.render.wav import WavFormat

FLAC_LEVEL = 5
"""0 fastest, 12 smallest."""
OPUS_BIT_RATES = {8000: 32_000, 16_000: 32_000, 48_000: 48_000}
"""A channel, by sampling rate: transparent of speech."""
OPUS_APPLICATION = "audio"
"""``voip`` would make one channel of the other: of a dual recording, each party is heard in the
other's channel then, 12 dB below."""
OPUS_COMPLEXITY = 5
"""0 fastest, 10 best."""

Chunks = Iterator[NDArray[np.int16]]


def write_flac(chunks: Chunks, about: WavFormat, path: Path) -> None:
    """Encode interleaved samples, not one of them changed. Raises ``FFmpegError``."""
    options = {"compression_level": str(FLAC_LEVEL)}
    _write(chunks, about, path, container="flac", codec="flac", options=options)


def write_opus(chunks: Chunks, about: WavFormat, path: Path) -> None:
    """Encode interleaved samples into an Ogg file (RFC 7845). Raises ``FFmpegError``."""
    options = {
        "application": OPUS_APPLICATION,
        "compression_level": str(OPUS_COMPLEXITY),
        "vbr": "on",
    }
    bit_rate = OPUS_BIT_RATES[about.rate_hz] * about.channels
    _write(
        chunks,
        about,
        path,
        container="ogg",
        codec="libopus",
        options=options,
        bit_rate=bit_rate,
    )


def _write(
    chunks: Chunks,
    about: WavFormat,
    path: Path,
    *,
    container: str,
    codec: str,
    options: dict[str, str],
    bit_rate: int | None = None,
) -> None:
    # Without bit-exactness the library writes its own version into the file, and serial numbers
    # that it throws dice for.
    flags = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format=container, options=flags) as target:
        stream = target.add_stream(codec, rate=about.rate_hz)
        assert isinstance(stream, AudioStream)
        context = stream.codec_context
        layout = "mono" if about.channels == 1 else "stereo"
        context.layout = layout
        context.format = "s16"
        context.thread_count = 1
        if bit_rate is not None:
            context.bit_rate = bit_rate
        context.options = options
        context.flags |= Flags.bitexact
        target.start_encoding()
        at = 0
        for chunk in chunks:
            frame = AudioFrame.from_ndarray(chunk[None, :], format="s16", layout=layout)
            frame.sample_rate = about.rate_hz
            frame.pts = at
            at += len(chunk) // about.channels
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
