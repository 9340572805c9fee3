"""Chaos's own judgement: frames found again to the sample, and a lack laid at the right door."""

from __future__ import annotations

import hashlib
import io
import wave
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from chaos.accident import Accident, Happened
from chaos.conversation import Pause, Take
from chaos.frames import FRAME_SAMPLES, find, frame
from chaos.verdict import Verdict
from numpy.typing import NDArray

from callreel.audio.g711 import decode_ulaw

FRAMES = 200
BEGIN_NS = 1_000_000_000_000
SENT = BEGIN_NS + np.arange(FRAMES, dtype=np.int64) * 20_000_000
VOICES = (7, 8)


def spoken(voice: int, *, without: range = range(0), at: int = 37) -> NDArray[np.int16]:
    """A channel with a voice's frames from some sample on, some of them silent."""
    codes = bytearray(b"\xff" * (at + FRAMES * FRAME_SAMPLES))
    for number in range(FRAMES):
        if number not in without:
            start = at + number * FRAME_SAMPLES
            codes[start : start + FRAME_SAMPLES] = frame(voice, number)
    return decode_ulaw(np.frombuffer(bytes(codes), np.uint8))


def wav_of(*channels: NDArray[np.int16]) -> bytes:
    found = io.BytesIO()
    with wave.open(found, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.stack(channels, axis=1).astype("<i2").tobytes())
    return found.getvalue()


def judged(
    left: NDArray[np.int16], happened: list[Happened], take: Take | None = None, **report: Any
) -> Verdict:
    wav = wav_of(left, spoken(VOICES[1]))
    said = {
        "sha256": hashlib.sha256(wav).hexdigest(),
        "end_reason": "stopped",
        "journal": {"segments": 1},
    }
    verdict = Verdict()
    verdict.judge("one", take or TAKE, said | report, wav, happened)
    return verdict


TAKE = Take(
    0,
    bridged=False,
    voices=VOICES,
    sent_ns=[SENT, SENT],
    started_ns=BEGIN_NS,
    ending_ns=int(SENT[-1]) + 1,
    ended_ns=int(SENT[-1]) + 2,
)


def at(frame_number: int, kind: Accident = Accident.WORKER) -> Happened:
    return Happened(kind, int(SENT[frame_number]) + 1_000_000, 1)


def test_every_frame_is_found_where_it_is() -> None:
    found = find(spoken(7, without=range(50, 60)), 7, FRAMES)
    assert list(np.flatnonzero(~found.whole)) == list(range(50, 60))
    assert (found.displaced, found.repeated, found.foreign, found.stray) == (0, 0, 0, 0)
    torn = spoken(7)
    torn[37 + 5 * FRAME_SAMPLES + 80] = 0
    assert not find(torn, 7, FRAMES).whole[5]
    assert find(torn, 7, FRAMES).touched[5]
    assert find(spoken(9), 7, FRAMES).foreign == 16 * FRAMES
    moved = np.concatenate([spoken(7)[: 37 + 100 * FRAME_SAMPLES], np.zeros(20, np.int16),
                            spoken(7)[37 + 100 * FRAME_SAMPLES :]])  # fmt: skip
    found = find(moved, 7, FRAMES)
    assert (found.displaced, found.shifts) == (16 * (FRAMES - 100), 1)
    noisy = spoken(7, without=range(50, 60))
    noisy[37 + 55 * FRAME_SAMPLES] = 1000
    assert find(noisy, 7, FRAMES).stray == 1


def test_what_is_all_there_is_not_blamed() -> None:
    verdict = judged(spoken(7), [at(50)])
    assert verdict.wrong == []
    assert verdict.frames > 2 * FRAMES - 20


@pytest.mark.parametrize(
    ("without", "happened", "lost_s", "broken"),
    [
        (range(80, 100), [at(100)], 0.4, False),
        (range(60, 100), [at(100)], 0.8, True),
        (range(80, 100), [at(20, Accident.CONTROL)], 0.4, True),
        (range(80, 130), [at(100), at(130, Accident.EVERYTHING)], 0.4, False),
    ],
)
def test_a_lack_is_laid_at_the_right_door(
    without: range, happened: list[Happened], lost_s: float, broken: bool
) -> None:
    verdict = judged(spoken(7, without=without), happened)
    assert max(verdict.lost_s.values()) == pytest.approx(lost_s, abs=0.021)
    assert bool(verdict.wrong) is broken


def test_what_was_said_in_a_pause_must_not_be_there() -> None:
    pause = Pause(*(int(SENT[number]) for number in (50, 52, 100, 102)))
    take = replace(TAKE, pauses=[pause])
    assert judged(spoken(7, without=range(50, 103)), [], take).wrong
    kept = judged(spoken(7), [], take)
    assert any("of a pause were kept" in text for text in kept.wrong)


def test_what_cannot_be_played_is_said_to_be_so() -> None:
    verdict = Verdict()
    junk = b"RIFF"
    report = {"sha256": hashlib.sha256(junk).hexdigest()}
    verdict.judge("one", TAKE, report, junk, [])
    verdict.judge("two", TAKE, {"sha256": "0"}, wav_of(spoken(7), spoken(8)), [])
    assert verdict.unplayable == 2
