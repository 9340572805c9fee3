"""FFmpeg's decoders, through PyAV."""

from __future__ import annotations

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

from callreel.audio.codec import OPUS_RATE_HZ, Int64, Octets, Samples, opus_ticks


class Frames:
    """A decoder of FFmpeg for frames of one size, as many to a payload as there are."""

    def __init__(self, name: str, *, rate_hz: int, frame_bytes: int, frame_samples: int) -> None:
        self._context = _context(name, rate_hz)
        self._frame_bytes = frame_bytes
        self._frame_samples = frame_samples

    def decode(self, payloads: Octets, payload_bytes: Int64) -> Samples:
        """The samples of whole frames; what is left over at the end of a payload is left out."""
        over = payload_bytes % self._frame_bytes
        if over.any():
            # What is no whole frame, such as a silence descriptor behind the last one.
            at = np.arange(len(payloads)) - np.repeat(
                np.cumsum(payload_bytes) - payload_bytes, payload_bytes
            )
            payloads = payloads[at < np.repeat(payload_bytes - over, payload_bytes)]
        frames = len(payloads) // self._frame_bytes
        if frames == 0:
            return np.zeros(0, np.int16)
        # All at once: FFmpeg takes a frame after the other off the packet.
        heard = _decoded(self._context, payloads.tobytes())
        return _fitted(heard, frames * self._frame_samples)


class Opus:
    """Opus (RFC 6716, RFC 7587), a packet at a time, both channels heard in one.

    Discontinuous transmission is what libopus makes of the packets that come: its own noise. The
    redundancy that a packet may carry for the one before (FEC) is passed over.
    """

    def __init__(self) -> None:
        self._context = _context("libopus", OPUS_RATE_HZ)

    def decode(self, payloads: Octets, payload_bytes: Int64) -> Samples:
        """The samples, as many as the packets' first bytes say."""
        start = np.cumsum(payload_bytes) - payload_bytes
        ticks = opus_ticks(payloads, start, payload_bytes)
        data = payloads.tobytes()
        pieces = [
            _fitted(_decoded(self._context, data[at : at + size]), count)
            for at, size, count in zip(
                start.tolist(), payload_bytes.tolist(), ticks.tolist(), strict=True
            )
            if count
        ]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def _context(name: str, rate_hz: int) -> AudioCodecContext:
    context = av.CodecContext.create(name, "r")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate = rate_hz
    context.layout = "mono"
    context.thread_count = 1
    return context


def _decoded(context: AudioCodecContext, data: bytes) -> Samples:
    try:
        frames = context.decode(av.Packet(data))
    except (FFmpegError, ValueError):
        return np.zeros(0, np.int16)
    pieces = [frame.to_ndarray()[0] for frame in frames]
    if not pieces:
        return np.zeros(0, np.int16)
    whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return whole.astype(np.int16, copy=False)


def _fitted(samples: Samples, count: int) -> Samples:
    """So many samples, silence for what is missing."""
    if len(samples) == count:
        return samples
    fitted = np.zeros(count, np.int16)
    fitted[: len(samples)] = samples[:count]
    return fitted
