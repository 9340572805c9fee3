"""What a track plays: a file, a tone or silence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from callreel.audio.g711 import encode_alaw, encode_ulaw
from callreel.base.errors import UsageError

RATE_HZ = 8000
FRAME_SAMPLES = 160
"""20 ms."""

_ENCODERS = {"PCMU": (0, encode_ulaw, 0xFF), "PCMA": (8, encode_alaw, 0xD5)}
CODECS = tuple(_ENCODERS)


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Mono audio at 8 kHz; after its end it begins again or is silent."""

    samples: NDArray[np.int16]
    """int16[n]."""
    repeats: bool
    """Whether it begins again at its end."""


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """A source as the payloads of 20 ms packets."""

    payload_type: int
    """Static RTP payload type (RFC 3551)."""
    name: str
    """Encoding name."""
    octets: bytes
    """All of it, a whole number of frames."""
    repeats: bool
    """Whether it begins again at its end."""
    silence: bytes
    """A silent frame."""

    def frame(self, number: int) -> bytes:
        """The payload of frame ``number``, from 0."""
        frames = len(self.octets) // FRAME_SAMPLES
        if self.repeats:
            number %= frames
        elif number >= frames:
            return self.silence
        start = number * FRAME_SAMPLES
        return self.octets[start : start + FRAME_SAMPLES]


def parse_source(text: str) -> AudioSource:
    """``tone:HZ``, ``silence`` or the path of an audio file. Raises ``UsageError``."""
    if text == "silence":
        return AudioSource(np.zeros(FRAME_SAMPLES, np.int16), repeats=True)
    if text.startswith("tone:"):
        try:
            hz = int(text.removeprefix("tone:"))
        except ValueError:
            hz = 0
        if not 20 <= hz <= 3900:
            raise UsageError(f"{text!r}: a tone is tone:HZ with HZ a whole number from 20 to 3900")
        # One second holds a whole number of periods, so that it repeats without a click.
        seconds = np.arange(RATE_HZ) / RATE_HZ
        wave = 8000 * np.sin(2 * np.pi * hz * seconds)
        return AudioSource(wave.astype(np.int16), repeats=True)
    return AudioSource(read_audio(Path(text)), repeats=False)


def read_audio(path: Path) -> NDArray[np.int16]:
    """Any audio file as int16[n] at 8 kHz, mixed to mono. Raises ``UsageError``."""
    pieces: list[NDArray[Any]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UsageError(f"{path} holds no audio")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
            for frame in container.decode(audio=0):
                pieces += [one.to_ndarray()[0] for one in resampler.resample(frame)]
            pieces += [one.to_ndarray()[0] for one in resampler.resample(None)]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except FFmpegError as error:
        raise UsageError(f"{path} is not an audio file that can be read: {error}") from None
    if not pieces:
        raise UsageError(f"{path} holds no audio")
    return np.concatenate(pieces).astype(np.int16)


def encode_source(source: AudioSource, codec: str) -> EncodedSource:
    """Encode for the wire. Raises ``UsageError`` for a codec that the phone does not speak."""
    try:
        payload_type, encode, silent = _ENCODERS[codec.upper()]
    except KeyError:
        raise UsageError(f"codec {codec!r} is not one of {', '.join(CODECS)}") from None
    octets = encode(source.samples).tobytes()
    missing = -len(octets) % FRAME_SAMPLES
    silence = bytes([silent])
    return EncodedSource(
        payload_type=payload_type,
        name=codec.upper(),
        octets=octets + silence * missing,
        repeats=source.repeats,
        silence=silence * FRAME_SAMPLES,
    )
