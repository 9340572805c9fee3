"""Codecs by the names that SDP gives them: how long payloads last, and what is heard in them.

A :class:`Format` is what was agreed; it tells lengths of any packets at once and keeps nothing. A
:class:`Decoder` hears one sender in order and may keep state. G.711 and L16 are tables and bytes
swapped; the others are in ``ffmpeg``, which is loaded when the first of them is asked for:
signalling asks for formats alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from callreel.audio import g711

Octets = NDArray[np.uint8]
Samples = NDArray[np.int16]
Int64 = NDArray[np.int64]

COMFORT_NOISE = "CN"
"""Silence descriptors (RFC 3389): not decoded, heard as silence."""
TELEPHONE_EVENT = "TELEPHONE-EVENT"
"""DTMF (RFC 4733): counted, heard as silence."""

G729_FRAME_BYTES = 10
"""10 ms (RFC 3551 §4.5.6). Two bytes behind the last are a silence descriptor of Annex B."""
G729_FRAME_SAMPLES = 80
GSM_FRAME_BYTES = 33
"""20 ms (RFC 3551 §4.5.8)."""
GSM_FRAME_SAMPLES = 160
OPUS_RATE_HZ = 48_000
_MAX_OPUS_TICKS = 5760
_MAX_RATE_HZ = 192_000
_MAX_L16_CHANNELS = 2


class Decoder(Protocol):
    """Turns payloads of one sender into samples, one channel. May keep state between calls."""

    def decode(self, payloads: Octets, payload_bytes: Int64) -> Samples:
        """The samples of payloads that lie one after the other; int16[samples of all].

        What cannot be decoded is silence, as long as :meth:`Format.ticks` says.
        """
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """A codec as it was agreed on. Two that are equal decode alike."""

    name: str
    """As SDP names it, upper case."""
    clock_rate_hz: int
    """Of its RTP timestamps."""
    channels: int = 1
    """In the payload; all are heard in one."""

    @property
    def rate_hz(self) -> int:
        """Sampling rate of what is decoded: a multiple of the RTP clock's. G.722's is twice it,
        by an error that can no longer be mended (RFC 3551 §4.5.2)."""
        return self.clock_rate_hz * self.samples_a_tick

    @property
    def samples_a_tick(self) -> int:
        """Samples decoded for one tick of the RTP clock."""
        return 2 if self.name == "G722" else 1

    @property
    def is_stateless(self) -> bool:
        """Whether payloads may be decoded in any order, and again."""
        return self.name in ("PCMU", "PCMA", "L16")

    def ticks(self, octets: Octets, start: Int64, payload_bytes: Int64) -> Int64:
        """How long payloads last, in ticks of the RTP clock: those at ``octets[start]``; int64[n].

        0 for what holds no audio, such as a silence descriptor of G.729.
        """
        match self.name:
            case "L16":
                return payload_bytes // (2 * self.channels)
            case "G729":
                return payload_bytes // G729_FRAME_BYTES * G729_FRAME_SAMPLES
            case "GSM":
                return payload_bytes // GSM_FRAME_BYTES * GSM_FRAME_SAMPLES
            case "OPUS":
                return opus_ticks(octets, start, payload_bytes)
            case _:  # one byte a tick: G.711, and G.722
                return payload_bytes

    def decoder(self) -> Decoder:
        """A new decoder."""
        match self.name:
            case "PCMU":
                return _Table(g711.decode_ulaw)
            case "PCMA":
                return _Table(g711.decode_alaw)
            case "L16":
                return _L16(self.channels)
        from callreel.audio import ffmpeg

        match self.name:
            case "G722":
                return ffmpeg.Frames("g722", rate_hz=self.rate_hz, frame_bytes=1, frame_samples=2)
            case "G729":
                return ffmpeg.Frames(
                    "g729",
                    rate_hz=self.rate_hz,
                    frame_bytes=G729_FRAME_BYTES,
                    frame_samples=G729_FRAME_SAMPLES,
                )
            case "GSM":
                return ffmpeg.Frames(
                    "gsm",
                    rate_hz=self.rate_hz,
                    frame_bytes=GSM_FRAME_BYTES,
                    frame_samples=GSM_FRAME_SAMPLES,
                )
            case _:
                return ffmpeg.Opus()


def format_for(name: str, clock_rate_hz: int, channels: int = 1) -> Format | None:
    """The format of a codec as SDP names it (any case), or None if it cannot be decoded."""
    known = Format(name.upper(), clock_rate_hz, channels)
    match known.name:
        case "PCMU" | "PCMA" | "G722" | "G729" | "GSM":
            return known if (clock_rate_hz, channels) == (8000, 1) else None
        case "OPUS":
            # Always signalled as two channels, whatever is sent (RFC 7587 §7); one is some
            # senders' mistake.
            fits = clock_rate_hz == OPUS_RATE_HZ and channels in (1, 2)
            return Format("OPUS", OPUS_RATE_HZ, 2) if fits else None
        case "L16":
            fits = 0 < clock_rate_hz <= _MAX_RATE_HZ and 1 <= channels <= _MAX_L16_CHANNELS
            return known if fits else None
        case _:
            return None


def opus_ticks(octets: Octets, start: Int64, payload_bytes: Int64) -> Int64:
    """How long Opus packets last at 48 kHz, by their first bytes (RFC 6716 §3.1); int64[n].

    0 for what is no Opus: empty, or longer than 120 ms.
    """
    last = max(len(octets) - 1, 0)
    if len(octets) == 0 or len(start) == 0:
        return np.zeros(len(start), np.int64)
    toc = octets[np.minimum(start, last)].astype(np.int64)
    ticks = _OPUS_FRAME_TICKS[toc >> 3]
    code = toc & 3
    told = octets[np.minimum(start + 1, last)].astype(np.int64) & 63
    frames = np.where(code == 3, np.where(payload_bytes > 1, told, 0), np.minimum(code + 1, 2))
    ticks = ticks * frames
    return np.where((payload_bytes > 0) & (ticks <= _MAX_OPUS_TICKS), ticks, 0)


_OPUS_FRAME_TICKS = np.array(
    [*((480, 960, 1920, 2880) * 3), *((480, 960) * 2), *((120, 240, 480, 960) * 4)], np.int64
)
"""By the configuration number of RFC 6716, table 2."""


class _Table:
    """G.711: a byte is a sample."""

    def __init__(self, decode: Callable[[Octets], Samples]) -> None:
        self._decode = decode

    def decode(self, payloads: Octets, payload_bytes: Int64) -> Samples:
        return self._decode(payloads)


class _L16:
    """16-bit samples in network order (RFC 3551 §4.5.11), channels interleaved."""

    def __init__(self, channels: int) -> None:
        self._channels = channels

    def decode(self, payloads: Octets, payload_bytes: Int64) -> Samples:
        """Bytes swapped; what is left over at the end of a payload is left out."""
        over = payload_bytes % (2 * self._channels)
        if over.any():
            ends = np.cumsum(payload_bytes)
            keep = np.ones(len(payloads), np.bool_)
            for end, left in zip(ends[over > 0].tolist(), over[over > 0].tolist(), strict=True):
                keep[end - left : end] = False
            payloads = payloads[keep]
        samples = payloads.view(">i2").astype(np.int16)
        if self._channels == 1:
            return samples
        both: NDArray[np.int32] = samples.reshape(-1, self._channels).sum(axis=1, dtype=np.int32)
        heard: Samples = (both // self._channels).astype(np.int16)
        return heard
