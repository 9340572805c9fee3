"""A recorded conversation between two people, for calls that are only to be heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from callreel.phone.sources import RATE_HZ, AudioSource, read_audio

SPEECH = Path(__file__).with_name("speech")
NAMES = ("caller", "callee")


def voice_of(name: str, *, from_s: float = 0.0) -> AudioSource:
    """What one of the two says, again and again, from a place in it on. Blocking."""
    said = read_audio(SPEECH / f"{name}.flac")
    return AudioSource(np.roll(said, -round(from_s * RATE_HZ)), repeats=True)
