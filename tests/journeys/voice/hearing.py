"""Recognising in a file what was spoken or played into it."""

from __future__ import annotations

import io
import wave

import numpy as np

from callreel.audio.tone import tone
from callreel.testing.ears import Samples


def places(samples: Samples, wanted: Samples, rate_hz: int, *, least: float = 0.8) -> list[float]:
    """Where a stretch of audio is found in another, seconds: where the two correlate by at least
    so much (1 is the same, whatever its loudness), one place for each time it is there.
    """
    assert rate_hz == 8000
    if len(samples) < len(wanted):
        return []
    size = 1 << (len(samples) + len(wanted) - 1).bit_length()
    here, there = samples.astype(np.float64), wanted.astype(np.float64)
    product = np.fft.rfft(here, size) * np.conj(np.fft.rfft(there, size))
    alike = np.fft.irfft(product, size)[: len(samples) - len(wanted) + 1]
    energy = np.concatenate(([0.0], np.cumsum(here**2)))
    window = energy[len(wanted) :] - energy[: len(energy) - len(wanted)]
    alike = alike / np.sqrt(np.maximum(window * np.sum(there**2), 1.0))
    found = []
    while alike.max(initial=0.0) >= least:
        best = int(np.argmax(alike))
        found.append(best / rate_hz)
        alike[max(0, best - len(wanted) // 2) : best + len(wanted) // 2] = 0
    return sorted(found)


def tone_wav(hz: int, *, seconds: float) -> bytes:
    """A WAV file with a tone in it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(tone(hz, round(seconds * 8000)).astype("<i2").tobytes())
    return file.getvalue()
