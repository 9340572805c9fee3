"""MP3 by LAME, with the tag that tells players how long it is.

LAME comes by ``lameenc``: its build of the library is three times as fast as that in PyAV's wheel,
but it leaves the tag to us. All frames have one length: the bit rate is constant and the sampling
rates of our files divide it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import lameenc
import numpy as np
from numpy.typing import NDArray

from callreel.render.wav import WavFormat

BIT_RATES = {8000: 32_000, 16_000: 48_000, 48_000: 64_000}
"""A channel, by sampling rate. Of speech sampled at 8 kHz 32 kbit/s is transparent, and a fourth of
the WAV."""
LAME_QUALITY = 7
"""0 best, 9 fastest. 7 costs half of the default, 5, and is not told from it on calls."""

_ENCODER_DELAY = 576
"""Samples that LAME puts before the first one (its documentation, ``lame_get_encoder_delay``)."""
_LAME = b"LAME3.100"


def bit_rate(rate_hz: int, channels: int) -> int:
    """Bits a second of a file."""
    return BIT_RATES[rate_hz] * channels


def write_mp3(chunks: Iterator[NDArray[np.int16]], about: WavFormat, file: BinaryIO) -> None:
    """Encode interleaved samples into an empty, seekable file. Raises ``ValueError``."""
    if about.rate_hz not in BIT_RATES:
        raise ValueError(f"{about.rate_hz} Hz cannot be encoded")
    encoder = lameenc.Encoder()
    encoder.set_bit_rate(bit_rate(about.rate_hz, about.channels) // 1000)
    encoder.set_in_sample_rate(about.rate_hz)
    encoder.set_out_sample_rate(about.rate_hz)
    encoder.set_channels(about.channels)
    encoder.set_quality(LAME_QUALITY)
    encoder.silence()
    frame_bytes = _frame_bytes(about)
    file.write(bytes(frame_bytes))  # where the tag goes
    header = b""
    size = 0
    for chunk in chunks:
        data = encoder.encode(chunk.tobytes())
        header = header or bytes(data[:4])
        size += file.write(data)
    data = encoder.flush() if about.frames else b""
    header = header or bytes(data[:4])
    size += file.write(data)
    file.seek(0)
    if size:
        file.write(info_tag(header, size, about))
    else:
        file.truncate()


def _frame_bytes(about: WavFormat) -> int:
    slots = 144 if about.rate_hz > 24_000 else 72  # MPEG-1, or one of its lower halves
    return slots * bit_rate(about.rate_hz, about.channels) // about.rate_hz


def info_tag(header: bytes, size: int, about: WavFormat) -> bytes:
    """The frame that goes before the others: Xing's tag named ``Info``, for a constant bit rate,
    and LAME's part of it with what to leave out at both ends.

    ``header`` is another frame's first four bytes, ``size`` the length of all of them.
    """
    frame_bytes = _frame_bytes(about)
    frames = size // frame_bytes
    samples = 1152 if about.rate_hz > 24_000 else 576
    padding = min(max(frames * samples - about.frames - _ENCODER_DELAY, 0), 0xFFF)
    long = about.rate_hz > 24_000
    side_info = (32 if long else 17) if about.channels == 2 else (17 if long else 9)
    whole = size + frame_bytes
    tag = header + bytes(side_info)
    tag += struct.pack(">4sIII", b"Info", 0xF, frames, whole)
    tag += bytes(percent * 256 // 100 for percent in range(100))
    tag += struct.pack(">I", 100 - LAME_QUALITY)
    kbit = min(bit_rate(about.rate_hz, about.channels) // 1000, 255)
    tag += _LAME + struct.pack(">BBIHHBB", 1, 0, 0, 0, 0, 0, kbit)
    tag += (_ENCODER_DELAY << 12 | padding).to_bytes(3, "big")
    # No checksum of the music: none of the players looks at it.
    tag += struct.pack(">BBHIH", 0, 0, 0, whole, 0)
    tag += struct.pack(">H", _crc16(tag))
    return tag.ljust(frame_bytes, b"\0")


def _crc16(data: bytes) -> int:
    """CRC-16 as LAME's tag wants it: polynomial 0x8005, bits reflected."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
