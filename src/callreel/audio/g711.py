"""G.711 µ-law and A-law by table (ITU-T G.711): one byte a sample, 8 kHz, no state.

Decoding gives the outputs of G.711's tables scaled to 16 bits. Encoding takes the code whose
output is nearest; halfway between two, the one nearer to zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Octets = NDArray[np.uint8]
Samples = NDArray[np.int16]

RATE_HZ = 8000
_FEW = 512
ULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5


def _ulaw_outputs() -> Samples:
    code = ~np.arange(256, dtype=np.int64) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_outputs() -> Samples:
    code = np.arange(256, dtype=np.int64) ^ 0x55
    segment = code >> 4 & 7
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment > 0, step + 0x100 << np.maximum(segment, 1) - 1, step)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _pairs(outputs: Samples) -> NDArray[np.uint32]:
    """Two samples for every two bytes as they lie in memory; uint32[65536]."""
    codes: Octets = np.arange(65536, dtype=np.uint16).view(np.uint8)
    return outputs[codes].view(np.uint32)


def _nearest_codes(outputs: Samples) -> Octets:
    """The code for every 16-bit sample; uint8[65536], indexed by the sample as unsigned."""
    positive = np.arange(128, 256)  # in both laws the top bit is the sign, set for plus
    order = positive[np.argsort(outputs[positive], kind="stable")]
    ladder = outputs[order].astype(np.int64)
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int64)
    magnitude = np.abs(sample)
    above = np.clip(np.searchsorted(ladder, magnitude), 1, len(ladder) - 1)
    nearer_above = ladder[above] - magnitude < magnitude - ladder[above - 1]
    code = order[np.where(nearer_above, above, above - 1)]
    return np.where(sample < 0, code ^ 0x80, code).astype(np.uint8)


_ULAW_DECODE = _ulaw_outputs()
_ALAW_DECODE = _alaw_outputs()
_ULAW_PAIRS = _pairs(_ULAW_DECODE)
_ALAW_PAIRS = _pairs(_ALAW_DECODE)
_ULAW_ENCODE = _nearest_codes(_ULAW_DECODE)
_ALAW_ENCODE = _nearest_codes(_ALAW_DECODE)


def decode_ulaw(codes: Octets) -> Samples:
    """int16[n] of the µ-law bytes uint8[n] (PCMU)."""
    return _decode(codes, _ULAW_DECODE, _ULAW_PAIRS)


def decode_alaw(codes: Octets) -> Samples:
    """int16[n] of the A-law bytes uint8[n] (PCMA)."""
    return _decode(codes, _ALAW_DECODE, _ALAW_PAIRS)


def _decode(codes: Octets, outputs: Samples, pairs: NDArray[np.uint32]) -> Samples:
    """Two bytes at a time: half of the look-ups."""
    even = len(codes) // 2 * 2
    if even < _FEW or not codes.flags.c_contiguous:
        return outputs[codes]
    samples: Samples = np.empty(len(codes), np.int16)
    np.take(pairs, codes[:even].view(np.uint16), out=samples[:even].view(np.uint32), mode="wrap")
    samples[even:] = outputs[codes[even:]]
    return samples


def encode_ulaw(samples: Samples) -> Octets:
    """µ-law bytes uint8[n] (PCMU) of int16[n]."""
    return _ULAW_ENCODE[samples.view(np.uint16)]


def encode_alaw(samples: Samples) -> Octets:
    """A-law bytes uint8[n] (PCMA) of int16[n]."""
    return _ALAW_ENCODE[samples.view(np.uint16)]
