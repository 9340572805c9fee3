"""Adding voices together without wrapping around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

_INT16 = np.iinfo(np.int16)


def saturate(sums: NDArray[np.int32]) -> Samples:
    """Sums of samples, held within 16 bits: int16 of the same shape. Does not touch ``sums``."""
    return np.clip(sums, _INT16.min, _INT16.max).astype(np.int16)


def mix(*voices: Samples) -> Samples:
    """The sum of voices of one length, saturated; int16[n]."""
    if not voices:
        raise ValueError("nothing to mix")
    if len(voices) == 1:
        return voices[0]
    total = voices[0].astype(np.int32)
    for voice in voices[1:]:
        total += voice
    return saturate(total)
