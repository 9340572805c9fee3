from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from callreel.audio.level import rms_of
from callreel.audio.tone import tone
from callreel.render.trimming import Trimmer

Samples = NDArray[np.int16]

RATE = 8000
FRAME = 160


def hiss(seconds: float, level_dbfs: float, seed: int = 1) -> Samples:
    """White noise, as a line makes it or as comfort noise is made."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (noise * rms_of(level_dbfs)).astype(np.int16)


def quiet(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def speech(seconds: float, level_dbfs: float = -20.0) -> Samples:
    return tone(440, round(seconds * RATE), level_dbfs=level_dbfs)


def joined(*pieces: Samples) -> Samples:
    return np.concatenate(pieces)


def trimmed(*channels: Samples, silence_dbfs: float = -50.0, rate_hz: int = RATE) -> Trimmer:
    frames = np.stack(channels, axis=1)
    trimmer = Trimmer(rate_hz=rate_hz, channels=len(channels), silence_dbfs=silence_dbfs)
    for part in np.split(frames, range(7000, len(frames), 7000)):
        trimmer.push(part)
    trimmer.push(frames[:0], last=True)
    return trimmer


def kept(trimmer: Trimmer) -> tuple[float, float]:
    """From when to when, seconds."""
    start = trimmer.cut_start / RATE
    return start, start + trimmer.sound_end / RATE


@pytest.mark.parametrize(
    "silence",
    [
        quiet(2),
        hiss(2, -56),
        hiss(2, -60) + 300,  # a line with an offset
        (np.tile([8, -8], RATE)).astype(np.int16),  # what A-law makes of silence
    ],
    ids=["nothing", "hiss", "offset", "a-law"],
)
def test_hiss_comfort_noise_and_an_offset_are_silence(silence: Samples) -> None:
    voice = joined(silence, speech(3), silence)
    assert kept(trimmed(voice)) == pytest.approx((2, 5), abs=0.02)
    assert trimmed(silence).sound_end == 0


def test_hiss_louder_than_the_threshold_is_not_until_the_threshold_says_so() -> None:
    noisy = joined(hiss(2, -42), speech(3), hiss(2, -42))
    assert kept(trimmed(noisy)) == (0, 7)
    assert kept(trimmed(noisy, silence_dbfs=-35)) == pytest.approx((2, 5), abs=0.02)


def test_quiet_speech_is_speech() -> None:
    voice = joined(hiss(2, -60), speech(3, -44), hiss(2, -60))
    assert kept(trimmed(voice)) == pytest.approx((2, 5), abs=0.02)
    assert trimmed(speech(3, -57)).sound_end == 0


def test_a_click_is_no_speech_and_two_are_none() -> None:
    click = quiet(1)
    click[4000:4040] = 20_000
    click[4700:4720] = -20_000
    voice = joined(click, speech(2), click)
    assert kept(trimmed(voice)) == pytest.approx((1, 3), abs=0.02)
    assert trimmed(click).sound_end == 0
    # Nor are clicks of two parties one after the other.
    other = np.roll(click, 400)
    assert trimmed(click, other).sound_end == 0


def test_a_short_word_is_speech() -> None:
    voice = joined(quiet(1), speech(0.1), quiet(1))
    assert kept(trimmed(voice)) == pytest.approx((1, 1.1), abs=0.02)


def test_words_begin_and_end_quietly() -> None:
    soft, far = speech(0.15, -53), speech(1, -53)
    voice = joined(quiet(1), soft, speech(1), soft, quiet(1))
    assert kept(trimmed(voice)) == pytest.approx((1, 2.3), abs=0.02)
    # But not for ever.
    voice = joined(far, speech(1), far)
    assert kept(trimmed(voice)) == pytest.approx((0.8, 2.2), abs=0.02)


def test_two_channels_are_cut_only_where_both_are_silent() -> None:
    one = joined(hiss(3, -60), speech(1), hiss(6, -60))
    other = joined(hiss(5, -60, 2), speech(2), hiss(3, -60, 2))
    assert kept(trimmed(one, other)) == pytest.approx((3, 7), abs=0.02)


def test_silence_between_words_stays() -> None:
    assert kept(trimmed(joined(quiet(1), speech(1), quiet(30), speech(1), quiet(1)))) == (
        pytest.approx((1, 33), abs=0.02)
    )


def test_at_other_rates_it_is_the_same() -> None:
    voice = joined(*(np.repeat(p, 6) for p in (hiss(2, -60), speech(3), hiss(2, -60))))
    start, end = kept(trimmed(voice, rate_hz=48_000))
    assert (start / 6, end / 6) == pytest.approx((2, 5), abs=0.02)


@given(
    st.lists(st.tuples(st.sampled_from([0, 3, 60, 4000]), st.integers(1, 1500)), max_size=12),
    st.lists(st.integers(1, 2500), min_size=1),
)
def test_trimming_does_not_depend_on_how_it_is_fed(
    runs: list[tuple[int, int]], sizes: list[int]
) -> None:
    signs = np.resize([1, -1], sum(n for _, n in runs))
    levels = np.array([v for v, n in runs for _ in range(n)], np.int16) * signs.astype(np.int16)
    levels = levels.reshape(-1, 1)

    def trim(pieces: list[Samples]) -> tuple[Samples, int]:
        trimmer = Trimmer(rate_hz=RATE, channels=1, silence_dbfs=-50)
        out = [trimmer.push(piece) for piece in pieces]
        out.append(trimmer.push(levels[:0], last=True))
        return np.concatenate(out)[: trimmer.sound_end], trimmer.cut_start

    whole, cut_start = trim([levels])
    pieces = np.split(levels, np.unique(np.minimum(np.cumsum(sizes), len(levels))).tolist())
    fed, cut_start_fed = trim(pieces)
    assert (whole == fed).all()
    assert cut_start == cut_start_fed
    assert (levels[cut_start : cut_start + len(whole)] == whole).all()
    # Whatever is loud for a tenth of a second is kept.
    loud = (np.abs(levels[:, 0]) == 4000).astype(int)
    edges = np.flatnonzero(np.diff(loud, prepend=0, append=0)).reshape(-1, 2)
    for start, end in edges.tolist():
        if end - start >= 5 * FRAME:
            assert cut_start <= start + FRAME
            assert cut_start + len(whole) >= end - FRAME
