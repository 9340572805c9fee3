from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest

from callreel.audio.tone import tone
from callreel.render.wav import HEADER_BYTES, WavFormat, WavWriter


def written(frames: int, channels: int = 1, limit_bytes: int = 2**32 - 1) -> bytes:
    file = io.BytesIO()
    writer = WavWriter(file, rate_hz=8000, channels=channels, limit_bytes=limit_bytes)
    voice = tone(440, frames)
    samples = np.stack([voice] * channels, axis=1)
    for start in range(0, frames, 77):
        writer.write(samples[start : start + 77])
    writer.finish()
    assert writer.size_bytes == len(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2])
def test_the_standard_library_reads_it(channels: int) -> None:
    with wave.open(io.BytesIO(written(1000, channels))) as file:
        assert file.getparams()[:4] == (channels, 2, 8000, 1000)
        samples = np.frombuffer(file.readframes(1000), "<i2").reshape(-1, channels)
    assert (samples == tone(440, 1000)[:, None]).all()


def test_rf64_begins_where_riff_can_no_more() -> None:
    # EBU Tech 3306 §3: the sizes move into ds64, and the 32-bit ones say so.
    frames = 500
    size = HEADER_BYTES + frames * 2
    just = written(frames, limit_bytes=size - 8)
    over = written(frames, limit_bytes=size - 9)
    assert just[:4] == b"RIFF"
    assert just[12:20] == b"JUNK" + struct.pack("<I", 28)
    assert over[:4] == b"RF64"
    assert over[4:8] == b"\xff" * 4
    assert over[12:20] == b"ds64" + struct.pack("<I", 28)
    assert struct.unpack("<QQQI", over[20:48]) == (size - 8, frames * 2, frames, 0)
    assert over[72:80] == b"data" + b"\xff" * 4
    assert over[HEADER_BYTES:] == just[HEADER_BYTES:]


def test_the_end_can_be_cut_off_again() -> None:
    file = io.BytesIO()
    writer = WavWriter(file, rate_hz=8000, channels=1)
    writer.write(tone(440, 900)[:, None])
    writer.cut(300)
    writer.finish()
    assert file.getvalue() == written(300)


def test_frames_of_another_shape_are_refused() -> None:
    writer = WavWriter(io.BytesIO(), rate_hz=8000, channels=2)
    with pytest.raises(ValueError, match="channels"):
        writer.write(np.zeros((5, 1), np.int16))


class Counted(io.BytesIO):
    """A file of which only the beginning is kept: what would be more than memory holds."""

    KEPT = 4096

    def __init__(self) -> None:
        super().__init__()
        self.at = self.length = 0

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        if self.at < self.KEPT:
            super().seek(self.at)
            super().write(view[: self.KEPT - self.at])
        self.at += len(view)
        self.length = max(self.length, self.at)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset if whence == 0 else self.length + offset
        return self.at


def test_past_four_gibibytes_the_sizes_are_right() -> None:
    file = Counted()
    writer = WavWriter(file, rate_hz=48_000, channels=2)
    minutes = np.zeros((48_000 * 60 * 10, 2), np.int16)
    for _ in range(40):  # six hours and forty minutes
        writer.write(minutes)
    writer.finish()
    frames = 40 * len(minutes)
    assert file.length == writer.size_bytes == HEADER_BYTES + frames * 4 > 2**32
    head = file.getvalue()
    assert (head[:4], head[12:16]) == (b"RF64", b"ds64")
    assert struct.unpack("<QQQ", head[20:44]) == (file.length - 8, frames * 4, frames)
    about = WavFormat.read(io.BytesIO(head))
    assert (about.frames, about.channels, about.rate_hz) == (frames, 2, 48_000)
