from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from callreel.audio.tone import silence, tone
from callreel.testing.ears import dominant_hz, tone_spans

RATE = 8000


def assert_spans(samples: NDArray[np.int16], hz: float, wanted: list[tuple[float, float]]) -> None:
    found = tone_spans(samples, RATE, hz)
    assert np.array(found) == pytest.approx(np.array(wanted), abs=0.003)


def test_a_tone_is_found_where_it_is() -> None:
    parts = [silence(4000), tone(440, 8000), silence(2000), tone(440, 1600), tone(1000, 4000)]
    samples = np.concatenate(parts)
    assert_spans(samples, 440, [(0.5, 1.5), (1.75, 1.95)])
    assert_spans(samples, 1000, [(1.95, 2.45)])
    assert tone_spans(samples, RATE, 700) == []
    assert tone_spans(silence(0), RATE, 700) == []


def test_two_tones_at_once_are_both_found() -> None:
    samples = tone(440, 8000) // 2 + tone(1000, 8000) // 2
    assert_spans(samples, 440, [(0, 1)])
    assert_spans(samples, 1000, [(0, 1)])


def test_a_short_hole_is_bridged_and_a_click_is_no_tone() -> None:
    samples = np.concatenate((tone(440, 4000), silence(80), tone(440, 4000)))
    assert len(tone_spans(samples, RATE, 440)) == 1
    assert tone_spans(np.concatenate((silence(800), tone(440, 100))), RATE, 440) == []


@pytest.mark.parametrize("hz", [100.0, 440.0, 1633.0, 3400.0])
def test_the_strongest_frequency(hz: float) -> None:
    assert dominant_hz(tone(hz, 4000), RATE) == pytest.approx(hz, abs=1)
    assert dominant_hz(silence(100), RATE) == 0
