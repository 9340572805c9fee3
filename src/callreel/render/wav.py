"""Writing WAV a chunk at a time: RIFF, or RF64 (EBU Tech 3306) once it outgrows 32 bits.

Right behind ``WAVE`` lies a JUNK chunk as big as the ds64 chunk that RF64 needs in its place, so
that nothing has to move when the file has turned out too big.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<4sI4s 4sIQQQI 4sIHHIIHH 4sI")
HEADER_BYTES = _HEADER.size
_DS64_BYTES = 28
_FMT_BYTES = 16
_PCM = 1
_BIG = 0xFFFFFFFF
MAX_RIFF_BYTES = _BIG


@dataclass(frozen=True, slots=True)
class WavFormat:
    """What the header of a WAV says that :class:`WavWriter` wrote."""

    rate_hz: int
    """Samples a second."""
    channels: int
    """1 or 2."""
    frames: int
    """Samples a channel."""

    @classmethod
    def read(cls, file: BinaryIO) -> WavFormat:
        """Read the header; the file then stands at the first sample. Raises ``ValueError``."""
        header = file.read(HEADER_BYTES)
        if len(header) != HEADER_BYTES:
            raise ValueError("it is too short for a WAV")
        (riff, _, wave, _, _, _, long_bytes, _, _, _, _, _, channels, rate_hz, _, block_bytes,
         bits, _, data_bytes) = _HEADER.unpack(header)  # fmt: skip
        if riff not in (b"RIFF", b"RF64") or wave != b"WAVE" or bits != 16 or not channels:
            raise ValueError("it is no WAV of 16-bit samples")
        long = riff == b"RF64"
        return cls(rate_hz, channels, (long_bytes if long else data_bytes) // block_bytes)


class WavWriter:
    """16-bit PCM into a seekable file that is empty. ``limit_bytes`` is where RIFF ends."""

    def __init__(
        self, file: BinaryIO, *, rate_hz: int, channels: int, limit_bytes: int = MAX_RIFF_BYTES
    ) -> None:
        self._file = file
        self._rate_hz = rate_hz
        self._channels = channels
        self._limit_bytes = limit_bytes
        self.frames = 0
        """Samples a channel written so far."""
        file.write(self._header())

    @property
    def size_bytes(self) -> int:
        """Of the file so far."""
        return HEADER_BYTES + self.frames * self._channels * 2

    def write(self, frames: NDArray[np.int16]) -> None:
        """Append int16[n, channels]."""
        if frames.shape[1:] != (self._channels,):
            raise ValueError("frames have another number of channels than the file")
        self._file.write(np.ascontiguousarray(frames, "<i2").data)
        self.frames += len(frames)

    def cut(self, frames: int) -> None:
        """Keep only the first so many samples a channel."""
        self.frames = min(self.frames, frames)
        self._file.seek(self.size_bytes)
        self._file.truncate()

    def finish(self) -> None:
        """Write the header anew, with the length."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(0, 2)

    def _header(self) -> bytes:
        block_bytes = self._channels * 2
        data_bytes = self.frames * block_bytes
        riff_bytes = self.size_bytes - 8
        big = riff_bytes > self._limit_bytes
        return _HEADER.pack(
            b"RF64" if big else b"RIFF",
            _BIG if big else riff_bytes,
            b"WAVE",
            b"ds64" if big else b"JUNK",
            _DS64_BYTES,
            riff_bytes if big else 0,
            data_bytes if big else 0,
            self.frames if big else 0,
            0,
            b"fmt ",
            _FMT_BYTES,
            _PCM,
            self._channels,
            self._rate_hz,
            self._rate_hz * block_bytes,
            block_bytes,
            16,
            b"data",
            _BIG if big else data_bytes,
        )
