"""The waveform of a WAV as few numbers: what a player draws before it has loaded any audio.

A JSON object: ``version``, ``rate_hz``, ``duration_ms``, ``bucket_samples``, and ``channels``, for
each of which the largest absolute sample of every bucket, in thousandths of full scale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from callreel.base.errors import MachineError
from callreel.render.wav import WavFormat

PEAKS_VERSION = 1
MOST_BUCKETS = 8000
"""For each channel, however long the recording."""
_SHORTEST_MS = 10
_CHUNK_FRAMES = 1 << 20


def draw_peaks(wav: Path, destination: Path) -> None:
    """Write the waveform of a WAV of ours to ``destination``. Raises ``MachineError``."""
    try:
        destination.write_text(json.dumps(peaks_of(wav), separators=(",", ":")))
    except (OSError, ValueError) as error:
        raise MachineError(f"cannot draw a waveform: {error}", path=wav) from error


def peaks_of(wav: Path) -> dict[str, Any]:
    """The waveform of a WAV of ours. Raises ``OSError``, and ``ValueError`` if it is none."""
    with wav.open("rb") as file:
        format_ = WavFormat.read(file)
        bucket = max(1, format_.rate_hz * _SHORTEST_MS // 1000, -(-format_.frames // MOST_BUCKETS))
        rows = max(1, _CHUNK_FRAMES // bucket) * bucket
        found = []
        while True:
            samples = np.fromfile(file, "<i2", rows * format_.channels)
            frames = samples[: len(samples) // format_.channels * format_.channels].reshape(
                -1, format_.channels
            )
            if not len(frames):
                break
            starts = np.arange(0, len(frames), bucket)
            low = np.minimum.reduceat(frames, starts, axis=0).astype(np.int32)
            high = np.maximum.reduceat(frames, starts, axis=0).astype(np.int32)
            found.append(np.maximum(high, -low))
    loudest = np.concatenate(found) if found else np.zeros((0, format_.channels), np.int32)
    thousandths = (loudest * 1000 + 16384) // 32768
    return {
        "version": PEAKS_VERSION,
        "rate_hz": format_.rate_hz,
        "duration_ms": format_.frames * 1000 // format_.rate_hz,
        "bucket_samples": bucket,
        "channels": thousandths.T.tolist(),
    }
