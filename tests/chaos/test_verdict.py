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
from chaos.frames import CONCEALED_SAMPLES, FRAME_SAMPLES, find, frame
from chaos.verdict import Verdict, is_stalled, line
from numpy.typing import NDArray

from callreel.audio.concealment import conceal
from callreel.audio.g711 import decode_ulaw

FRAMES = 200
BEGIN_NS = 1_000_000_000_000
SENT = BEGIN_NS + np.arange(FRAMES, dtype=np.int64) * 20_000_000
VOICES = (7, 8)
BEGIN = 37
"""The sample that a voice begins with."""
NOTHING_TO_TELL = {"gaps": {"listed": []}, "reanchored": 0, "concealed_ms": 0}


def spoken(voice: int, *, without: range = range(0), at: int = BEGIN) -> NDArray[np.int16]:
    """A channel with a voice's frames from some sample on, some of them silent."""
    codes = bytearray(b"\xff" * (at + FRAMES * FRAME_SAMPLES))
    for number in range(FRAMES):
        if number not in without:
            start = at + number * FRAME_SAMPLES
            codes[start : start + FRAME_SAMPLES] = frame(voice, number)
    return decode_ulaw(np.frombuffer(bytes(codes), np.uint8))


def wav_of(*channels: NDArray[np.int16]) -> bytes:
    found = io.BytesIO()
    most = max(map(len, channels))
    channels = tuple(np.pad(one, (0, most - len(one))) for one in channels)
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
        "streams": [NOTHING_TO_TELL | {"track": track} for track in ("inbound", "outbound")],
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
    assert (found.shifts, found.repeated, found.foreign, found.stray) == (0, 0, 0, 0)
    torn = spoken(7)
    torn[37 + 5 * FRAME_SAMPLES + 80] = 0
    assert not find(torn, 7, FRAMES).whole[5]
    assert find(torn, 7, FRAMES).touched[5]
    assert find(spoken(9), 7, FRAMES).foreign == 16 * FRAMES
    moved = np.concatenate([spoken(7)[: 37 + 100 * FRAME_SAMPLES], np.zeros(20, np.int16),
                            spoken(7)[37 + 100 * FRAME_SAMPLES :]])  # fmt: skip
    found = find(moved, 7, FRAMES)
    assert ((found.bases != BEGIN).sum(), found.shifts) == (16 * (FRAMES - 100), 1)
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
        (range(80, 100), [at(100, Accident.RENDERER)], 0.4, True),
        (range(80, 100), [at(99, Accident.RENDERER), at(110)], 0.4, False),
        (range(80, 130), [at(100), at(130, Accident.EVERYTHING)], 0.4, False),
        (range(86, 110), [at(100), at(130, Accident.EVERYTHING)], 0.28, False),
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


# What is made up beside a gap

GONE = range(50, 60)
HOLE = BEGIN + GONE.start * FRAME_SAMPLES
NAMED = {"start_ms": HOLE // 8 + 1, "length_ms": 200}


def filled(length: int, begins: int = HOLE) -> NDArray[np.int16]:
    """A channel with a gap, and what the renderer makes up put somewhere."""
    samples = spoken(7, without=GONE)
    samples[begins : begins + length] = conceal(samples[:HOLE], length, 8000)
    return samples


def heard(samples: NDArray[np.int16], *gaps: dict[str, int], told_ms: int = 60) -> list[str]:
    """What a verdict blames, of a worker that died."""
    told = NOTHING_TO_TELL | {"gaps": {"listed": list(gaps)}, "concealed_ms": told_ms}
    streams = [told | {"track": "inbound"}, NOTHING_TO_TELL | {"track": "outbound"}]
    return judged(samples, [at(60)], streams=streams, journal={"segments": 2}).wrong


def test_what_is_made_up_where_a_gap_is_told_of_is_allowed() -> None:
    samples = filled(CONCEALED_SAMPLES)
    # The very bytes that were once taken for words in a wrong place: the last one, four times.
    words = find(samples, 7, FRAMES)
    assert (int((words.bases != BEGIN).sum()), words.repeated, words.shifts) == (4, 1, 5)
    assert words.stray == 440
    assert heard(samples, NAMED) == []


def test_what_is_made_up_elsewhere_or_for_longer_or_untold_is_not() -> None:
    samples = filled(CONCEALED_SAMPLES)
    assert any("twice" in text for text in heard(samples))
    assert any("nobody said" in text for text in heard(samples, NAMED | {"start_ms": 2000}))
    assert any("ms are told of" in text for text in heard(samples, NAMED, told_ms=40))
    late = filled(CONCEALED_SAMPLES, HOLE + FRAME_SAMPLES)
    assert any("nobody said" in text for text in heard(late, NAMED))
    # A packet that is there twice is none of it, even right behind the gap's beginning.
    again = spoken(7, without=GONE)
    again[HOLE : HOLE + FRAME_SAMPLES] = again[HOLE - FRAME_SAMPLES : HOLE]
    assert any("twice" in text for text in heard(again, NAMED))


def test_a_hole_of_a_step_is_filled_as_often_as_the_report_says() -> None:
    cut = BEGIN + 100 * FRAME_SAMPLES
    samples = np.insert(spoken(7), cut, conceal(spoken(7)[:cut], 48, 8000))
    assert find(samples, 7, FRAMES).stray > 0
    assert find(samples, 7, FRAMES, moves=1).stray == 0


# Where the load was late


def test_what_the_load_was_late_moves_is_not_blamed() -> None:
    moved = np.insert(spoken(7), BEGIN + 100 * FRAME_SAMPLES, np.zeros(10 * 40, np.int16))
    assert any("displaced" in text for text in judged(moved, []).wrong)
    sent = SENT.copy()
    sent[100:] += 50_000_000
    take = replace(TAKE, sent_ns=[sent, SENT], ending_ns=int(sent[-1]) + 1)
    verdict = judged(moved, [], take)
    assert (verdict.wrong, verdict.late) == ([], 1)


def test_a_load_that_was_late_for_a_moment_is_judged() -> None:
    everything = np.arange(FRAMES)
    sent = SENT.copy()
    sent[100:125] += 500_000_000
    assert not is_stalled(sent, everything)
    assert np.ptp(line(sent, everything)) < 1_000_000
    # Of what was recorded, it was late all the time, or late for good.
    assert not is_stalled(sent, np.arange(100, 125))
    assert is_stalled(sent, np.concatenate([np.arange(20), np.arange(100, 125)]))


def test_tracks_that_are_not_in_step_are_blamed() -> None:
    assert judged(spoken(7, at=BEGIN + 150), []).wrong == []
    assert any("ms apart" in text for text in judged(spoken(7, at=BEGIN + 180), []).wrong)
