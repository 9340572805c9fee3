from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from callreel.audio.tone import tone
from callreel.base.errors import MachineError
from callreel.render.mp3 import encode_mp3
from callreel.render.wav import WavWriter
from callreel.testing.ears import dominant_hz

RATE = 8000


def make_wav(path: Path, channels: int, seconds: int = 4, *, limit_bytes: int = 2**32 - 1) -> Path:
    voices = [tone(hz, seconds * RATE) for hz in (440, 1000)[:channels]]
    with path.open("wb+") as file:
        writer = WavWriter(file, rate_hz=RATE, channels=channels, limit_bytes=limit_bytes)
        writer.write(np.stack(voices, axis=1))
        writer.finish()
    return path


def decode(path: Path) -> NDArray[np.int16]:
    """int16[n, channels]"""
    pieces = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16p")
        for frame in container.decode(audio=0):
            assert isinstance(frame, AudioFrame)
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
    return np.concatenate(pieces, axis=1).T.astype(np.int16)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("limit_bytes", [2**32 - 1, 1000])
def test_what_was_in_the_wav_is_in_the_mp3(tmp_path: Path, channels: int, limit_bytes: int) -> None:
    wav = make_wav(tmp_path / "in.wav", channels, limit_bytes=limit_bytes)
    encode_mp3(wav, tmp_path / "out.mp3")
    samples = decode(tmp_path / "out.mp3")
    assert samples.shape[1] == channels
    assert len(samples) == pytest.approx(4 * RATE, abs=0.2 * RATE)
    for channel, hz in enumerate((440, 1000)[:channels]):
        assert dominant_hz(samples[RATE : 3 * RATE, channel], RATE) == pytest.approx(hz, abs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "out.mp3"]


def test_the_same_wav_gives_the_same_bytes(tmp_path: Path) -> None:
    wav = make_wav(tmp_path / "in.wav", 2)
    encode_mp3(wav, tmp_path / "one.mp3")
    encode_mp3(wav, tmp_path / "two.mp3")
    one = (tmp_path / "one.mp3").read_bytes()
    assert one == (tmp_path / "two.mp3").read_bytes()
    assert len(one) == pytest.approx(4 * 64_000 / 8, rel=0.1)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio here" * 100])
def test_what_is_no_wav_is_refused_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.wav").write_bytes(content)
    with pytest.raises(MachineError):
        encode_mp3(tmp_path / "in.wav", tmp_path / "out.mp3")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_missing_file_or_folder_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        encode_mp3(tmp_path / "in.wav", tmp_path / "out.mp3")
    wav = make_wav(tmp_path / "in.wav", 1)
    with pytest.raises(MachineError):
        encode_mp3(wav, tmp_path / "nowhere" / "out.mp3")


@pytest.mark.peer
def test_ffprobe_accepts_it(tmp_path: Path) -> None:
    if which("ffprobe") is None:
        pytest.skip("ffmpeg is not installed")
    encode_mp3(make_wav(tmp_path / "in.wav", 2), tmp_path / "out.mp3")
    keys = "stream=codec_name,sample_rate,channels"
    probe = ["ffprobe", "-v", "error", "-show_entries", keys, "-of", "csv=p=0"]
    told = subprocess.run(
        [*probe, str(tmp_path / "out.mp3")], capture_output=True, check=True, text=True
    )
    assert told.stdout.strip() == "mp3,8000,2"
    assert told.stderr == ""
