"""Tones and silence, made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callreel.audio.level import rms_of

Samples = NDArray[np.int16]


def tone(
    frequency_hz: float,
    samples: int,
    *,
    rate_hz: int = 8000,
    level_dbfs: float = -15.0,
    start_sample: int = 0,
) -> Samples:
    """A sine; int16[samples]. ``start_sample`` is where in it to begin, so that pieces join."""
    phase = 2 * np.pi * frequency_hz / rate_hz * np.arange(start_sample, start_sample + samples)
    wave = np.sin(phase) * (rms_of(level_dbfs) * 2**0.5)
    made: Samples = np.round(wave).astype(np.int16)
    return made


def silence(samples: int) -> Samples:
    """Nothing; int16[samples]."""
    return np.zeros(samples, np.int16)
