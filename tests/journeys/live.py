"""Audio that a test changes while it is being sent."""

from __future__ import annotations

import numpy as np

from callreel.audio.g711 import encode_ulaw
from callreel.phone.sources import FRAME_SAMPLES, RATE_HZ


class LiveTone:
    """A tone whose pitch can be changed between any two frames of 20 ms."""

    def __init__(self, hz: int) -> None:
        self.hz = hz

    def frame(self, number: int) -> bytes:
        at = (number * FRAME_SAMPLES + np.arange(FRAME_SAMPLES)) / RATE_HZ
        wave = 8000 * np.sin(2 * np.pi * self.hz * at)
        return encode_ulaw(wave.astype(np.int16)).tobytes()
