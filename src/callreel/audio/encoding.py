"""Encoders by the names that SDP gives them, for what is played. What is not here is not played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from callreel.audio import g711

Samples = NDArray[np.int16]

PLAYED_HZ = 8000
"""Sampling rate of what is encoded."""
FRAME_MS = 20
"""What one packet holds."""
FRAME_SAMPLES = PLAYED_HZ * FRAME_MS // 1000


@dataclass(frozen=True, slots=True)
class Encoding:
    """How samples become payloads, a whole number of frames at a time."""

    name: str
    """As SDP has it, in upper case."""
    clock_rate_hz: int
    """Of its RTP clock."""
    frame_bytes: int
    """Of the payload of one frame."""
    encode: Callable[[Samples], bytes] = field(repr=False)
    """int16[frames * FRAME_SAMPLES] to the payloads one after the other."""
    quiet: bytes = field(repr=False)
    """A payload of silence."""

    @property
    def frame_ticks(self) -> int:
        """What a frame lasts, in units of the RTP clock."""
        return self.clock_rate_hz * FRAME_MS // 1000


def _ulaw(samples: Samples) -> bytes:
    return g711.encode_ulaw(samples).tobytes()


def _alaw(samples: Samples) -> bytes:
    return g711.encode_alaw(samples).tobytes()


def _g711(name: str, encode: Callable[[Samples], bytes], quiet: int) -> Encoding:
    return Encoding(name, g711.RATE_HZ, FRAME_SAMPLES, encode, bytes([quiet]) * FRAME_SAMPLES)


_ENCODINGS = (
    _g711("PCMU", _ulaw, g711.ULAW_SILENCE),
    _g711("PCMA", _alaw, g711.ALAW_SILENCE),
)


def encoding_for(name: str, clock_rate_hz: int, channels: int = 1) -> Encoding | None:
    """The encoding of a codec as SDP names it (any case), or None if there is none."""
    for encoding in _ENCODINGS:
        if (encoding.name, encoding.clock_rate_hz) == (name.upper(), clock_rate_hz):
            return encoding if channels == 1 else None
    return None


def whole_frames(samples: Samples) -> Samples:
    """The samples with silence up to the end of the last frame."""
    over = len(samples) % FRAME_SAMPLES
    return samples if not over else np.pad(samples, (0, FRAME_SAMPLES - over))
