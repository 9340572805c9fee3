"""Listening to a finished file: which tones are in it, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callreel.render.wav import HEADER_BYTES

Samples = NDArray[np.int16]

_WINDOW_S = 0.020
_HOP_S = 0.001


def tone_strength(samples: Samples, rate_hz: int, frequency_hz: float) -> NDArray[np.float64]:
    """How much of a tone there is: amplitude in windows of 20 ms around every millisecond.

    ``float64[ceil(n / hop)]`` of int16[n].
    """
    window, hop = round(_WINDOW_S * rate_hz), round(_HOP_S * rate_hz)
    angle = -2j * np.pi * frequency_hz / rate_hz * np.arange(len(samples))
    turned = np.concatenate(([0], np.cumsum(samples * np.exp(angle))))
    centre = np.arange(0, len(samples), hop)
    start = np.clip(centre - window // 2, 0, len(samples))
    end = np.clip(centre + window // 2, 0, len(samples))
    strength: NDArray[np.float64] = np.abs(turned[end] - turned[start]) * 2 / window
    return strength


def tone_spans(
    samples: Samples,
    rate_hz: int,
    frequency_hz: float,
    *,
    min_s: float = 0.04,
    bridge_s: float = 0.03,
    min_amplitude: float = 800.0,
) -> list[tuple[float, float]]:
    """From when to when a tone sounds, seconds.

    It begins and ends where its amplitude passes half of its greatest, which must be at least
    ``min_amplitude``: a window of 20 ms lets a few hundredths of another tone through. Spans
    shorter than ``min_s`` are passed over, silences shorter than ``bridge_s`` bridged.
    """
    strength = tone_strength(samples, rate_hz, frequency_hz)
    if len(strength) == 0 or strength.max() < min_amplitude:
        return []
    sounds = np.concatenate(([0], (strength > strength.max() / 2).astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(sounds)) * _HOP_S
    spans: list[tuple[float, float]] = []
    for start, end in zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and start - spans[-1][1] < bridge_s:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return [(start, end) for start, end in spans if end - start >= min_s]


def dominant_hz(samples: Samples, rate_hz: int) -> float:
    """The frequency that is strongest in the samples; 0 for silence."""
    if len(samples) == 0 or not samples.any():
        return 0.0
    windowed = samples.astype(np.float64) * np.hanning(len(samples))
    size = max(len(samples), 1 << 15)
    spectrum = np.abs(np.fft.rfft(windowed, size))
    spectrum[: max(1, round(50 * size / rate_hz))] = 0
    return float(np.argmax(spectrum)) * rate_hz / size


def read_wav(path: Path) -> tuple[int, NDArray[np.int16]]:
    """Rate and int16[n, channels] of a WAV that callreel wrote, RF64 too."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    channels = int.from_bytes(header[58:60], "little")
    rate_hz = int.from_bytes(header[60:64], "little")
    samples = np.fromfile(path, "<i2", offset=HEADER_BYTES)
    return rate_hz, samples.reshape(-1, channels)
