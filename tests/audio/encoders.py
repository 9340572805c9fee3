"""Encoders that are not ours: the ``ffmpeg`` command, and bcg729 for G.729."""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import subprocess
from pathlib import Path
from shutil import which

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Samples = NDArray[np.int16]

SPEECH = Path(__file__).parents[2] / "src" / "callreel" / "demo" / "speech" / "caller.flac"


def _ffmpeg(data: bytes, *arguments: str) -> bytes:
    program = which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    command = [program, "-v", "error", "-bitexact", *arguments, "pipe:1"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def speech(rate_hz: int, seconds: float = 6.0, channels: int = 1) -> Samples:
    """Somebody who speaks; int16[n], or int16[n, channels]: then one a second after the other."""
    raw = _ffmpeg(
        b"", "-i", str(SPEECH), "-ac", "1", "-ar", str(rate_hz), "-t", str(seconds), "-f", "s16le"
    )
    one = np.frombuffer(raw, "<i2")
    if channels == 1:
        return one
    return np.stack([np.roll(one, k * rate_hz) for k in range(channels)], axis=1)


def _pcm(samples: Samples, rate_hz: int) -> tuple[bytes, list[str]]:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    about = ["-f", "s16le", "-ar", str(rate_hz), "-ac", str(channels), "-i", "pipe:0"]
    return samples.astype("<i2").tobytes(), about


def encode_raw(samples: Samples, rate_hz: int, codec: str, container: str) -> bytes:
    """What a codec without a container makes of samples."""
    data, about = _pcm(samples, rate_hz)
    return _ffmpeg(data, *about, "-c:a", codec, "-f", container)


def decode_raw(data: bytes, rate_hz: int, container: str) -> Samples:
    """The same back again, by the same program."""
    about = [] if container in ("gsm", "g722") else ["-ar", str(rate_hz)]
    return np.frombuffer(
        _ffmpeg(data, "-f", container, *about, "-i", "pipe:0", "-f", "s16le"), "<i2"
    )


def encode_opus(samples: Samples, *options: str) -> tuple[list[bytes], bytes]:
    """Opus packets of samples at 48 kHz, and the Ogg file that they were in."""
    data, about = _pcm(samples, 48_000)
    ogg = _ffmpeg(data, *about, "-c:a", "libopus", *options, "-f", "ogg")
    with av.open(io.BytesIO(ogg), "r") as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    return packets, ogg


def decode_opus(ogg: bytes) -> Samples:
    """One channel of an Ogg file, 48 kHz."""
    raw = _ffmpeg(ogg, "-c:a", "libopus", "-i", "pipe:0", "-ac", "1", "-f", "s16le")
    return np.frombuffer(raw, "<i2")


class Bcg729:
    """Belledonne's G.729: encoder with annex B, and decoder."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("bcg729")
        if name is None:
            pytest.skip("libbcg729 is not installed")
        self._library = ctypes.CDLL(name)
        for made in ("initBcg729EncoderChannel", "initBcg729DecoderChannel"):
            getattr(self._library, made).restype = ctypes.c_void_p

    def encode(self, samples: Samples, *, vad: bool = False) -> list[bytes]:
        """A frame for every 10 ms: 10 bytes, with ``vad`` also 2 or none."""
        channel = ctypes.c_void_p(self._library.initBcg729EncoderChannel(ctypes.c_uint8(vad)))
        frames = []
        for at in range(0, len(samples) - 79, 80):
            voice = (ctypes.c_int16 * 80)(*samples[at : at + 80].tolist())
            out, size = (ctypes.c_uint8 * 16)(), ctypes.c_uint8(0)
            self._library.bcg729Encoder(channel, voice, out, ctypes.byref(size))
            frames.append(bytes(out)[: size.value])
        self._library.closeBcg729EncoderChannel(channel)
        return frames

    def decode(self, frames: list[bytes]) -> Samples:
        """What its own decoder hears."""
        channel = ctypes.c_void_p(self._library.initBcg729DecoderChannel())
        pieces = []
        for frame in frames:
            out = (ctypes.c_int16 * 80)()
            data = (ctypes.c_uint8 * len(frame))(*frame)
            self._library.bcg729Decoder(
                channel,
                data,
                ctypes.c_uint8(len(frame)),
                ctypes.c_uint8(not frame),
                ctypes.c_uint8(len(frame) == 2),
                ctypes.c_uint8(0),
                out,
            )
            pieces.append(np.array(out, np.int16))
        self._library.closeBcg729DecoderChannel(channel)
        return np.concatenate(pieces)


def snr_db(heard: Samples, wanted: Samples) -> float:
    """How far what differs lies below what was wanted."""
    n = min(len(heard), len(wanted))
    signal = wanted[:n].astype(np.float64)
    noise = heard[:n] - signal
    power = float(np.sum(noise**2))
    return float("inf") if power == 0 else float(10 * np.log10(np.sum(signal**2) / power))
