"""WAV files of other programs: plain PCM, 16 bits."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_plain_wav(path: Path) -> tuple[int, NDArray[np.int16]]:
    """Rate and int16[n, channels]."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        data = file.readframes(file.getnframes())
        return file.getframerate(), np.frombuffer(data, "<i2").reshape(-1, file.getnchannels())


def write_plain_wav(path: Path, hz: float, *, seconds: float) -> None:
    """A tone: 8 kHz, mono."""
    moments = np.arange(round(seconds * 8000))
    samples = np.round(8000 * np.sin(2 * np.pi * hz / 8000 * moments)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())
