"""How loud: RMS in dBFS, where 0 dBFS is a full-scale square wave."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20
FULL_SCALE = 32768.0


def frame_rms(samples: NDArray[np.int16], frame_samples: int) -> NDArray[np.float64]:
    """RMS of each whole or last, shorter frame, in sample units.

    float64[ceil(n / frame)], or float64[ceil(n / frame), channels] of int16[n, channels].
    """
    n = len(samples)
    if n == 0:
        return np.zeros((0, *samples.shape[1:]))
    start = np.arange(0, n, frame_samples)
    squares = np.square(samples, dtype=np.float64)
    length = np.minimum(start + frame_samples, n) - start
    power = np.add.reduceat(squares, start, axis=0)
    shaped = length.reshape(-1, *([1] * (samples.ndim - 1)))
    rms: NDArray[np.float64] = np.sqrt(power / shaped)
    return rms


def frame_level(samples: NDArray[np.int16], frame_samples: int) -> NDArray[np.float64]:
    """As :func:`frame_rms`, without what of a frame is constant: some lines have an offset."""
    n = len(samples)
    if n == 0:
        return np.zeros((0, *samples.shape[1:]))
    start = np.arange(0, n, frame_samples)
    length = np.minimum(start + frame_samples, n) - start
    shaped = length.reshape(-1, *([1] * (samples.ndim - 1)))
    mean = np.add.reduceat(samples, start, axis=0, dtype=np.float64) / shaped
    power = np.add.reduceat(np.square(samples, dtype=np.float64), start, axis=0) / shaped
    level: NDArray[np.float64] = np.sqrt(np.maximum(power - np.square(mean), 0.0))
    return level


def dbfs(rms: float) -> float:
    """Decibels of an RMS in sample units; minus infinity for silence."""
    return 20 * math.log10(rms / FULL_SCALE) if rms > 0 else -math.inf


def rms_of(level_dbfs: float) -> float:
    """The RMS, in sample units, of a level in dBFS."""
    return float(FULL_SCALE * 10 ** (level_dbfs / 20))
