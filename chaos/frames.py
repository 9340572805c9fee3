"""Audio that says which packet it is: frames of G.711 that are found again in a file. Pure.

A frame of 20 ms is sixteen words of ten mu-law codes: a mark that occurs nowhere else, then nine
codes of four bits: the voice (2), the frame's number (5), the word's place in the frame (1) and a
check (1). So every word of a file says where it belongs, to the sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callreel.audio.g711 import decode_ulaw

FRAME_SAMPLES = 160
WORD_SAMPLES = 10
WORDS = FRAME_SAMPLES // WORD_SAMPLES
VOICES = 256
MOST_FRAMES = 1 << 20
CONCEALED_SAMPLES = 480
"""60 ms: so much is made up behind the last packet before a gap, and no more."""
MOVED_SAMPLES = 96
"""12 ms: a hole of so much may be left where the audio was put back in step, and is made up."""
_FULL_SAMPLES = 80
"""10 ms: so long what is made up repeats words unchanged; from then on it fades."""
_NEAR_SAMPLES = 8
"""A report tells places to the millisecond."""
_MARK = 0x00
_FIRST = 0x10
_SILENT = 0xFF
_STRAY = 0xFE


def _inverse() -> NDArray[np.uint8]:
    """The code of each sample value; ``_STRAY`` where no code gives it."""
    table = np.full(1 << 16, _STRAY, np.uint8)
    values = decode_ulaw(np.arange(256, dtype=np.uint8))
    table[values.view(np.uint16)] = np.arange(256)
    table[0] = _SILENT
    return table


_CODE_OF = _inverse()


def frame(voice: int, number: int) -> bytes:
    """The payload of a voice's frame; both are taken modulo what fits."""
    voice, number = voice % VOICES, number % MOST_FRAMES
    head = [voice >> 4, voice & 15, *((number >> shift) & 15 for shift in (16, 12, 8, 4, 0))]
    octets = bytearray()
    for place in range(WORDS):
        nibbles = [*head, place]
        nibbles.append(sum(nibbles) & 15)
        octets.append(_MARK)
        octets += bytes(_FIRST + nibble for nibble in nibbles)
    return bytes(octets)


@dataclass(frozen=True, slots=True)
class Found:
    """What one channel of a file holds of one voice."""

    whole: NDArray[np.bool_]
    """Which of the voice's frames are there with all their samples; bool[frames]."""
    touched: NDArray[np.bool_]
    """Which are there with any; bool[frames]."""
    numbers: NDArray[np.int64]
    """The frame of each word, in order of the file; int64[words]."""
    bases: NDArray[np.int64]
    """Where the voice's first frame would begin by each word, samples; int64[words]."""
    shifts: int
    """How often the place changed from one word to the next."""
    repeated: int
    """Words that are there more than once."""
    foreign: int
    """Words of another voice."""
    stray: int
    """Samples that are neither silent, nor part of any word, nor made up where that is allowed."""
    concealed: int
    """Samples, not silent, that were made up where that is allowed."""


def find(
    samples: NDArray[np.int16],
    voice: int,
    frames: int,
    *,
    gaps: Iterable[int] = (),
    moves: int = 0,
) -> Found:
    """Look for the first ``frames`` frames of a voice in a channel; int16[n].

    ``gaps`` says where gaps begin by the report, samples: right behind the last packet before one,
    and up to the next, ``CONCEALED_SAMPLES`` may be made up. ``moves`` is how often the audio was
    put back in step: so many holes up to ``MOVED_SAMPLES`` may be filled.
    """
    codes = _CODE_OF[samples.view(np.uint16)]
    marks = np.flatnonzero(codes[: max(0, len(codes) - WORD_SAMPLES + 1)] == _MARK)
    words = codes[marks[:, None] + np.arange(1, WORD_SAMPLES)].astype(np.int64) - _FIRST
    sane = ((words >= 0) & (words < 16)).all(axis=1)
    sane &= (words[:, :-1].sum(axis=1) & 15) == words[:, -1]
    marks, words = marks[sane], words[sane]
    voices = words[:, 0] * 16 + words[:, 1]
    numbers = words[:, 2:7] @ np.array([65536, 4096, 256, 16, 1])
    places = words[:, 7]
    made_up = np.zeros(len(codes), np.bool_)
    said = np.ones(len(marks), np.bool_)
    for start, end in _holes(marks, numbers, places, np.array(sorted(gaps), np.int64), moves):
        made_up[start:end] = True
        # The last words before are heard again; whole packets never are.
        said &= (marks < start) | (marks >= min(end, start + _FULL_SAMPLES))
    marks, voices, numbers, places = marks[said], voices[said], numbers[said], places[said]
    mine = (voices == voice % VOICES) & (numbers < frames)
    at = numbers[mine] * WORDS + places[mine]
    counts = np.bincount(at, minlength=frames * WORDS).reshape(frames, WORDS)
    there: NDArray[np.bool_] = counts > 0
    bases = marks[mine] - at * WORD_SAMPLES
    heard = codes != _SILENT
    heard[marks[:, None] + np.arange(WORD_SAMPLES)] = False
    return Found(
        whole=np.all(there, axis=1),
        touched=np.any(there, axis=1),
        numbers=numbers[mine],
        bases=bases,
        shifts=int(np.count_nonzero(np.diff(bases))),
        repeated=int((counts > 1).sum()),
        foreign=int((~mine).sum()),
        stray=int((heard & ~made_up).sum()),
        concealed=int((heard & made_up).sum()),
    )


def _holes(
    marks: NDArray[np.int64],
    numbers: NDArray[np.int64],
    places: NDArray[np.int64],
    gaps: NDArray[np.int64],
    moves: int,
) -> list[tuple[int, int]]:
    """Where something may be made up: from the end of a frame up to where a later one begins."""
    found: list[tuple[int, int]] = []
    begins = np.flatnonzero(places == 0)
    ends = np.flatnonzero(places == WORDS - 1)
    follows = np.searchsorted(marks, marks[ends] + WORD_SAMPLES)
    goes_on = np.append(marks, -1)[follows] == marks[ends] + WORD_SAMPLES
    goes_on &= np.append(numbers, -1)[follows] == numbers[ends] + 1
    for last in ends[~goes_on].tolist():
        start = int(marks[last]) + WORD_SAMPLES
        later = begins[(marks[begins] >= start) & (numbers[begins] > numbers[last])]
        if len(later) == 0 or (found and start < found[-1][1]):
            continue
        end = int(marks[later[0]])
        if bool((np.abs(gaps - start) <= _NEAR_SAMPLES).any()):
            found.append((start, min(end, start + CONCEALED_SAMPLES)))
        elif moves > 0 and start < end <= start + MOVED_SAMPLES:
            found.append((start, end))
            moves -= 1
    return found
