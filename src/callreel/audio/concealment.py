"""What is heard in place of lost packets: the voice goes on for a moment and fades. Pure.

After ITU-T G.711, appendix I: the last pitch period is repeated, at full strength for 10 ms, then
fading to nothing at 60 ms. Samples that did arrive are never touched.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

CONCEALED_MS = 60
"""What is longer than this is silence from there on."""
HISTORY_MS = 45
"""What came before, and is looked at."""
_FULL_MS = 10
_LONGEST_PERIOD_MS = 15
_COMPARED_MS = 20
_SHORTEST_PERIOD_MS = 2.5
_CROSSFADE_MS = 2


def conceal(history: Samples, length: int, rate_hz: int) -> Samples:
    """What may have followed ``history``, int16[length]; at most :data:`CONCEALED_MS` of it are
    more than silence, the shorter the history the fewer."""
    out = np.zeros(length, np.int16)
    wanted = min(length, CONCEALED_MS * rate_hz // 1000)
    before = history[-HISTORY_MS * rate_hz // 1000 :].astype(np.float64)
    if wanted == 0 or len(before) < HISTORY_MS * rate_hz // 1000 or not before.any():
        return out
    period = _period(before, rate_hz)
    cycle = before[-period:].copy()
    # Where a cycle ends and the next begins, it runs over into what came before it began.
    fade = min(_CROSSFADE_MS * rate_hz // 1000, period // 2)
    up = np.arange(1, fade + 1) / (fade + 1)
    cycle[-fade:] = cycle[-fade:] * (1 - up) + before[-period - fade : -period] * up
    voice = np.resize(cycle, wanted)
    out[:wanted] = np.rint(voice * _strength(rate_hz)[:wanted])
    return out


@lru_cache(maxsize=8)
def _strength(rate_hz: int) -> NDArray[np.float64]:
    at_ms = np.arange(CONCEALED_MS * rate_hz // 1000) * 1000 / rate_hz
    strength: NDArray[np.float64] = np.clip(
        (CONCEALED_MS - at_ms) / (CONCEALED_MS - _FULL_MS), 0, 1
    )
    return strength


def _period(before: NDArray[np.float64], rate_hz: int) -> int:
    """The lag at which the end of what came before is most like itself, samples."""
    step = max(1, rate_hz // 8000)
    coarse = before[::-1][::step][::-1]  # every nth, the last one among them
    hz = rate_hz / step
    compared = int(_COMPARED_MS * hz / 1000)
    shortest = int(_SHORTEST_PERIOD_MS * hz / 1000)
    longest = min(int(_LONGEST_PERIOD_MS * hz / 1000), len(coarse) - compared)
    past = coarse[-compared - longest : -shortest]
    likeness = np.correlate(past, coarse[-compared:], "valid")
    energy = np.concatenate(([0.0], np.cumsum(past * past)))
    likeness /= np.sqrt(energy[compared:] - energy[:-compared]) + 1.0
    return (longest - int(np.argmax(likeness))) * step
