from __future__ import annotations

import math

import numpy as np
import pytest

from callreel.audio.level import dbfs, frame_rms, rms_of
from callreel.audio.mixing import mix, saturate
from callreel.audio.tone import silence, tone


def test_mixing_saturates_instead_of_wrapping() -> None:
    loud = np.array([30000, -30000, 5], np.int16)
    assert mix(loud, loud).tolist() == [32767, -32768, 10]
    assert mix(loud).tolist() == loud.tolist()
    assert saturate(np.array([[40000, 1]], np.int32)).tolist() == [[32767, 1]]
    with pytest.raises(ValueError, match="nothing"):
        mix()


def test_a_tone_has_the_level_and_the_frequency_it_was_asked_for() -> None:
    samples = tone(1000, 8000, level_dbfs=-20)
    assert dbfs(float(frame_rms(samples, 8000)[0])) == pytest.approx(-20, abs=0.01)
    assert int(np.abs(np.fft.rfft(samples.astype(np.float64))).argmax()) == 1000
    joined = np.concatenate((tone(440, 100), tone(440, 60, start_sample=100)))
    assert (joined == tone(440, 160)).all()


def test_levels_by_frame_and_channel() -> None:
    left, right = np.full(330, 1000, np.int16), silence(330)
    rms = frame_rms(np.column_stack((left, right)), 160)
    assert rms.shape == (3, 2)
    assert rms[:, 0].tolist() == [1000, 1000, 1000]
    assert rms[:, 1].tolist() == [0, 0, 0]
    assert frame_rms(silence(0), 160).shape == (0,)
    assert dbfs(0) == -math.inf
    assert dbfs(rms_of(-50)) == pytest.approx(-50)
    assert dbfs(32768) == 0
