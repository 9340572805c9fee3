from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from shutil import which

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from callreel.audio.tone import tone
from callreel.base.errors import MachineError
from callreel.calls.rendering import Encoding
from callreel.render.encoding import encode
from callreel.render.wav import WavWriter
from callreel.testing.ears import dominant_hz, tone_strength

RATE = 8000


def make_wav(
    path: Path,
    channels: int,
    seconds: float = 4,
    *,
    rate_hz: int = RATE,
    limit_bytes: int = 2**32 - 1,
) -> Path:
    voices = [tone(hz, round(seconds * rate_hz), rate_hz=rate_hz) for hz in (440, 1000)[:channels]]
    with path.open("wb+") as file:
        writer = WavWriter(file, rate_hz=rate_hz, channels=channels, limit_bytes=limit_bytes)
        writer.write(np.stack(voices, axis=1))
        writer.finish()
    return path


def decode(path: Path, rate_hz: int = RATE) -> NDArray[np.int16]:
    """int16[n, channels]"""
    pieces = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16p", rate=rate_hz)
        for frame in container.decode(audio=0):
            assert isinstance(frame, AudioFrame)
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
        pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    return np.concatenate(pieces, axis=1).T.astype(np.int16)


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
def test_what_was_in_the_wav_is_in_the_file(
    tmp_path: Path, channels: int, encoding: Encoding, rate_hz: int
) -> None:
    wav = make_wav(tmp_path / "in.wav", channels, rate_hz=rate_hz)
    out = tmp_path / f"out.{encoding.value}"
    encode(wav, out, encoding)
    samples = decode(out, rate_hz)
    # Neither longer nor shorter: players are told what the encoder put before and behind it.
    assert samples.shape == (4 * rate_hz, channels)
    for channel, hz in enumerate((440, 1000)[:channels]):
        middle = samples[rate_hz : 3 * rate_hz, channel]
        assert dominant_hz(middle, rate_hz) == pytest.approx(hz, abs=2)
        strength = [tone_strength(middle, rate_hz, each)[100:-100] for each in (hz, 1440 - hz)]
        assert strength[0].mean() == pytest.approx(8240, rel=0.1)
        assert strength[1].max() < 0.04 * 8240  # what of the other party is heard in it
        if encoding is Encoding.FLAC:
            wanted = tone(hz, 4 * rate_hz, rate_hz=rate_hz)[rate_hz : 3 * rate_hz]
            assert (middle == wanted).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", out.name]


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("seconds", [0, 0.05, 1.25])
def test_short_ones_are_as_long_as_they_are(
    tmp_path: Path, encoding: Encoding, seconds: float
) -> None:
    wav = make_wav(tmp_path / "in.wav", 1, seconds, limit_bytes=10)
    encode(wav, tmp_path / "out", encoding)
    if seconds:
        assert len(decode(tmp_path / "out")) == round(seconds * RATE)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_the_same_wav_gives_the_same_bytes(tmp_path: Path, encoding: Encoding) -> None:
    wav = make_wav(tmp_path / "in.wav", 2)
    encode(wav, tmp_path / "one", encoding)
    # In another process too, since dice are thrown once for each.
    script = (
        "import sys, pathlib\n"
        "from callreel.calls.rendering import Encoding\n"
        "from callreel.render.encoding import encode\n"
        "encode(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), Encoding(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, str(wav), str(tmp_path / "two"), encoding.value]
    subprocess.run(command, check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_mp3_is_a_fourth_of_the_wav(tmp_path: Path) -> None:
    encode(make_wav(tmp_path / "in.wav", 2), tmp_path / "out", Encoding.MP3)
    assert (tmp_path / "out").stat().st_size == pytest.approx(4 * 64_000 / 8, rel=0.1)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_memory_does_not_grow_with_the_file(tmp_path: Path, encoding: Encoding) -> None:
    def peak(minutes: int) -> int:
        wav = tmp_path / f"{minutes}.wav"
        voice = tone(440, 60 * 8000)[:, None]
        with wav.open("wb+") as file:
            writer = WavWriter(file, rate_hz=8000, channels=1)
            for _ in range(minutes):
                writer.write(voice)
            writer.finish()
        encode(wav, tmp_path / "out", encoding)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = peak(1)
    # KiB; eleven minutes more are 10,300. What the allocator takes besides is a matter of luck.
    assert peak(12) - first < 5000


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio here" * 100])
def test_what_is_no_wav_is_refused_and_leaves_nothing(
    tmp_path: Path, content: bytes, encoding: Encoding
) -> None:
    (tmp_path / "in.wav").write_bytes(content)
    with pytest.raises(MachineError):
        encode(tmp_path / "in.wav", tmp_path / "out", encoding)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_wav_that_ends_early_is_refused(tmp_path: Path, encoding: Encoding) -> None:
    wav = make_wav(tmp_path / "in.wav", 1)
    wav.write_bytes(wav.read_bytes()[:-100])
    with pytest.raises(MachineError):
        encode(wav, tmp_path / "out", encoding)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_missing_file_or_folder_is_the_machines_fault(tmp_path: Path, encoding: Encoding) -> None:
    with pytest.raises(MachineError):
        encode(tmp_path / "in.wav", tmp_path / "out", encoding)
    wav = make_wav(tmp_path / "in.wav", 1)
    with pytest.raises(MachineError):
        encode(wav, tmp_path / "nowhere" / "out", encoding)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        (Encoding.MP3, "mp3,8000,2,4.176000"),  # in whole frames
        (Encoding.FLAC, "flac,8000,2,4.000000"),
        (Encoding.OPUS, "opus,48000,2,4.006500"),
    ],
)
def test_ffprobe_accepts_it_and_knows_how_long_it_is(
    tmp_path: Path, encoding: Encoding, told: str
) -> None:
    if which("ffprobe") is None:
        pytest.skip("ffmpeg is not installed")
    out = tmp_path / f"out.{encoding.value}"
    encode(make_wav(tmp_path / "in.wav", 2), out, encoding)
    keys = "stream=codec_name,sample_rate,channels,duration"
    probe = ["ffprobe", "-v", "error", "-show_entries", keys, "-of", "csv=p=0"]
    found = subprocess.run([*probe, str(out)], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == told
    assert found.stderr == ""
