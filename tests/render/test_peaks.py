from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from callreel.base.errors import MachineError
from callreel.render import peaks
from callreel.render.peaks import MOST_BUCKETS, draw_peaks, peaks_of
from callreel.render.wav import WavWriter


def a_wav(path: Path, frames: np.ndarray[tuple[int, int], np.dtype[np.int16]]) -> Path:
    with path.open("wb+") as file:
        writer = WavWriter(file, rate_hz=8000, channels=frames.shape[1])
        writer.write(frames)
        writer.finish()
    return path


def test_each_bucket_is_its_loudest_sample(tmp_path: Path) -> None:
    frames = np.zeros((8000, 2), np.int16)
    frames[100, 0], frames[7999, 1] = -32768, 16384
    found = peaks_of(a_wav(tmp_path / "a.wav", frames))
    assert (found["duration_ms"], found["bucket_samples"], found["rate_hz"]) == (1000, 80, 8000)
    first, second = found["channels"]
    assert len(first) == len(second) == 100
    assert (first[1], sum(first)) == (1000, 1000)
    assert (second[99], sum(second)) == (500, 500)


def test_it_does_not_depend_on_how_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(1).integers(-9000, 9000, (50_001, 1)).astype(np.int16)
    whole = peaks_of(a_wav(tmp_path / "a.wav", frames))
    monkeypatch.setattr(peaks, "_CHUNK_FRAMES", 777)
    assert peaks_of(tmp_path / "a.wav") == whole


def test_the_longest_recording_has_no_more_buckets(tmp_path: Path) -> None:
    frames = np.zeros((80 * MOST_BUCKETS + 1, 1), np.int16)
    found = peaks_of(a_wav(tmp_path / "a.wav", frames))
    assert len(found["channels"][0]) <= MOST_BUCKETS
    assert found["bucket_samples"] == 81


def test_it_is_kept_as_json_and_what_is_no_wav_is_refused(tmp_path: Path) -> None:
    draw_peaks(a_wav(tmp_path / "a.wav", np.ones((8, 2), np.int16)), tmp_path / "a.peaks")
    assert json.loads((tmp_path / "a.peaks").read_text())["version"] == 1
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(MachineError):
        draw_peaks(tmp_path / "b.wav", tmp_path / "b.peaks")
