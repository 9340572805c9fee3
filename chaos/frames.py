"""Audio that says which packet it is: frames of G.711 that are found again in a file. Pure.

A frame of 20 ms is sixteen words of ten mu-law codes: a mark that occurs nowhere else, then nine
codes of four bits: the voice (2), the frame's number (5), the word's place in the frame (1) and a
check (1). So every word of a file says where it belongs, to the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callreel.audio.g711 import decode_ulaw

FRAME_SAMPLES = 160
WORD_SAMPLES = 10
WORDS = FRAME_SAMPLES // WORD_SAMPLES
VOICES = 256
MOST_FRAMES = 1 << 20
SHIFT_SAMPLES = 8
"""A millisecond."""
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
    displaced: int
    """Words that are not where the first one says they should be, give or take ``SHIFT_SAMPLES``:
    each worker has an anchor of its own between the two clocks of arrival."""
    shifts: int
    """How often the place changed from one word to the next."""
    repeated: int
    """Words that are there more than once."""
    foreign: int
    """Words of another voice."""
    stray: int
    """Samples that are neither silent nor part of any word."""


def find(samples: NDArray[np.int16], voice: int, frames: int) -> Found:
    """Look for the first ``frames`` frames of a voice in a channel; int16[n]."""
    codes = _CODE_OF[samples.view(np.uint16)]
    marks = np.flatnonzero(codes[: max(0, len(codes) - WORD_SAMPLES + 1)] == _MARK)
    words = codes[marks[:, None] + np.arange(1, WORD_SAMPLES)].astype(np.int64) - _FIRST
    sane = ((words >= 0) & (words < 16)).all(axis=1)
    sane &= (words[:, :-1].sum(axis=1) & 15) == words[:, -1]
    marks, words = marks[sane], words[sane]
    voices = words[:, 0] * 16 + words[:, 1]
    numbers = words[:, 2:7] @ np.array([65536, 4096, 256, 16, 1])
    places = words[:, 7]
    mine = (voices == voice % VOICES) & (numbers < frames)
    at = numbers[mine] * WORDS + places[mine]
    bases = marks[mine] - at * WORD_SAMPLES
    counts = np.bincount(at, minlength=frames * WORDS).reshape(frames, WORDS)
    there: NDArray[np.bool_] = counts > 0
    first = bases[0] if len(bases) else 0
    return Found(
        whole=np.all(there, axis=1),
        touched=np.any(there, axis=1),
        displaced=int((np.abs(bases - first) > SHIFT_SAMPLES).sum()),
        shifts=int(np.count_nonzero(np.diff(bases))),
        repeated=int((counts > 1).sum()),
        foreign=int((~mine).sum()),
        stray=int((codes != _SILENT).sum()) - WORD_SAMPLES * len(marks),
    )
