"""Samples at the rate of prompts."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from callreel.calls.voice import PROMPT_RATE_HZ

_CHUNK_SAMPLES = 1 << 16


def resampled(samples: NDArray[np.int16], rate_hz: int) -> bytes:
    """``int16[samples]``, mono, as a prompt's bytes."""
    if rate_hz == PROMPT_RATE_HZ:
        return samples.astype("<i2").tobytes()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=PROMPT_RATE_HZ)
    pieces = []
    for start in range(0, len(samples), _CHUNK_SAMPLES):
        chunk = np.ascontiguousarray(samples[start : start + _CHUNK_SAMPLES]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(chunk, format="s16", layout="mono")
        frame.sample_rate = rate_hz
        pieces += resampler.resample(frame)
    pieces += resampler.resample(None)
    return b"".join(piece.to_ndarray().astype("<i2").tobytes() for piece in pieces)
