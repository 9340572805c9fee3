"""What a phone hears, put in its place by media time, silence where nothing came. Pure.

A softphone's ear, in one pass and little memory: not the renderer, which sees a whole journal
before it decides. Positions are samples since the recording began.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callreel.phone.sources import RATE_HZ

Samples = NDArray[np.int16]

AHEAD_SAMPLES = 10 * RATE_HZ
"""Nothing is placed further ahead of what was taken than this."""
EARLY_SAMPLES = RATE_HZ * 40 // 1000
"""What comes this much before its place shows that the stretch was put too late."""


class Heard:
    """Samples of one call until they are taken, in order, for the file."""

    def __init__(self) -> None:
        self._waiting: Samples = np.zeros(AHEAD_SAMPLES, np.int16)
        self.taken_samples = 0
        """Where what waits begins."""
        self.unplaced_samples = 0
        """Samples whose place was taken already, or out of reach."""
        self._stretch: int | None = None
        self._offset = 0

    def place(self, stretch: int, media: int, samples: Samples, *, arrival_sample: int) -> None:
        """Put samples where they belong. A stretch begins where its first packet came."""
        early = media + self._offset - arrival_sample
        if stretch != self._stretch or early > EARLY_SAMPLES:
            self._stretch = stretch
            self._offset = arrival_sample - media
        start = media + self._offset - self.taken_samples
        end = start + len(samples)
        first, last = max(start, 0), min(end, AHEAD_SAMPLES)
        if last <= first:
            self.unplaced_samples += len(samples)
            return
        self.unplaced_samples += len(samples) - (last - first)
        self._waiting[first:last] = samples[first - start : last - start]

    def take(self, until_sample: int) -> Samples:
        """Everything before ``until_sample`` that was not taken yet; int16[n]."""
        count = min(max(0, until_sample - self.taken_samples), AHEAD_SAMPLES)
        taken: Samples = self._waiting[:count].copy()
        self._waiting[: AHEAD_SAMPLES - count] = self._waiting[count:].copy()
        self._waiting[AHEAD_SAMPLES - count :] = 0
        self.taken_samples += count
        return taken
