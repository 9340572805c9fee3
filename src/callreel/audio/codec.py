"""Decoders by the names that SDP gives them. What is not here cannot be decoded."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from callreel.audio import g711

Octets = NDArray[np.uint8]
Samples = NDArray[np.int16]

COMFORT_NOISE = "CN"
"""Silence descriptors (RFC 3389): not decoded, heard as silence."""
TELEPHONE_EVENT = "TELEPHONE-EVENT"
"""DTMF (RFC 4733): counted, heard as silence."""


class Decoder(Protocol):
    """Turns payloads of one stream into samples, one channel. May keep state between calls."""

    @property
    def rate_hz(self) -> int:
        """Sampling rate of what comes out; not always the RTP clock's (G.722)."""
        ...

    def sample_counts(self, payload_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples that payloads of these lengths hold; int64[n]."""
        ...

    def decode(self, payloads: Octets, payload_bytes: NDArray[np.int64]) -> Samples:
        """The samples of payloads that lie one after the other; int16[sum of sample counts]."""
        ...


class UlawDecoder:
    """PCMU (RFC 3551 §4.5.14)."""

    rate_hz = g711.RATE_HZ

    def sample_counts(self, payload_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One a byte."""
        return payload_bytes

    def decode(self, payloads: Octets, payload_bytes: NDArray[np.int64]) -> Samples:
        """By table."""
        return g711.decode_ulaw(payloads)


class AlawDecoder:
    """PCMA (RFC 3551 §4.5.14)."""

    rate_hz = g711.RATE_HZ

    def sample_counts(self, payload_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One a byte."""
        return payload_bytes

    def decode(self, payloads: Octets, payload_bytes: NDArray[np.int64]) -> Samples:
        """By table."""
        return g711.decode_alaw(payloads)


class L16Decoder:
    """L16, one channel: 16-bit samples in network order (RFC 3551 §4.5.11)."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz

    @property
    def rate_hz(self) -> int:
        """As signalled."""
        return self._rate_hz

    def sample_counts(self, payload_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One every two bytes; an odd last byte is none."""
        return payload_bytes // 2

    def decode(self, payloads: Octets, payload_bytes: NDArray[np.int64]) -> Samples:
        """Bytes swapped, an odd last byte of a payload left out."""
        odd = payload_bytes % 2 == 1
        if odd.any():
            payloads = np.delete(payloads, np.cumsum(payload_bytes)[odd] - 1)
        return payloads.view(">i2").astype(np.int16)


def decoder_for(name: str, clock_rate_hz: int, channels: int = 1) -> Decoder | None:
    """A new decoder for a codec as SDP names it (any case), or None if there is none."""
    if channels != 1:
        return None
    match name.upper():
        case "PCMU" if clock_rate_hz == g711.RATE_HZ:
            return UlawDecoder()
        case "PCMA" if clock_rate_hz == g711.RATE_HZ:
            return AlawDecoder()
        case "L16" if clock_rate_hz > 0:
            return L16Decoder(clock_rate_hz)
        case _:
            return None
