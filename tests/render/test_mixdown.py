from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from callreel.audio.mixing import mix
from callreel.audio.tone import tone
from callreel.base.errors import MachineError
from callreel.render import mixdown
from callreel.render.mixdown import mix_down
from callreel.render.wav import HEADER_BYTES, WavFormat, WavWriter


def a_dual_file(path: Path, frames: int, *, limit_bytes: int = 2**32 - 1) -> tuple[bytes, bytes]:
    first, second = tone(440, frames, level_dbfs=-6.0), tone(880, frames, level_dbfs=-6.0)
    with path.open("wb+") as file:
        writer = WavWriter(file, rate_hz=8000, channels=2, limit_bytes=limit_bytes)
        writer.write(np.stack([first, second], axis=1))
        writer.finish()
    return first.tobytes(), second.tobytes()


@pytest.mark.parametrize("limit_bytes", [2**32 - 1, 100])
def test_the_sum_of_the_channels_saturated(
    tmp_path: Path, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixdown, "_CHUNK_FRAMES", 999)
    first, second = a_dual_file(tmp_path / "dual.wav", 5000, limit_bytes=limit_bytes)
    mix_down(tmp_path / "dual.wav", tmp_path / "mono.wav")
    with wave.open(str(tmp_path / "mono.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 5000)
        samples = np.frombuffer(file.readframes(5000), "<i2")
    voices = np.frombuffer(first, np.int16), np.frombuffer(second, np.int16)
    assert (samples == mix(*voices)).all()
    assert abs(samples).max() == 32767, "loud enough that it had to saturate"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("size", [0, 10, HEADER_BYTES, HEADER_BYTES + 401])
def test_a_damaged_file_is_an_error_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    path = tmp_path / "dual.wav"
    a_dual_file(path, 500)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(MachineError, match="mix a recording down"):
        mix_down(path, tmp_path / "mono.wav")
    assert [one.name for one in tmp_path.iterdir()] == ["dual.wav"]


def test_what_is_no_wav_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"ID3" + bytes(500))
    with path.open("rb") as file, pytest.raises(ValueError, match="no WAV"):
        WavFormat.read(file)
