"""Cutting silence off both ends while the audio goes by. Pure.

What counts is the level measured in frames of 20 ms: comfort noise and the hiss of a line are
silence. A frame is **loud** from the threshold on, **soft** from 4 dB below it. Sound begins where
3 frames of 5 are loud, so that a click is none; soft frames that lead up to it or away from it
belong to it, up to 200 ms: words begin and end quietly. Channels are judged each for itself, and
what is sound in one is sound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callreel.audio.level import FRAME_MS, frame_level, rms_of

SOFT_DB = 4.0
"""How far below the threshold a word may begin and end."""
WINDOW_FRAMES = 5
LOUD_FRAMES = 3
"""So many of the window have to be loud."""
SOFT_FRAMES = 10
"""For so long soft frames belong to what they lead to."""

_REACH = SOFT_FRAMES + WINDOW_FRAMES - 1
"""How many frames to either side bear on one."""

Bools = NDArray[np.bool_]


class Trimmer:
    """Passes on what lies between the first sound and the last.

    The start is cut as it comes. Silence inside must go out before it is known whether it is the
    end, so the end is for the writer to cut, back to :attr:`sound_end`.
    """

    def __init__(self, *, rate_hz: int, channels: int, silence_dbfs: float) -> None:
        self._frame = rate_hz * FRAME_MS // 1000
        self._loud = rms_of(silence_dbfs)
        self._soft = rms_of(silence_dbfs - SOFT_DB)
        self._rest: NDArray[np.int16] = np.zeros((0, channels), np.int16)
        """Samples of which it is not known yet what they are."""
        self._before: NDArray[np.float64] = np.zeros((0, channels))
        """Levels of the frames right before those."""
        self._started = False
        self._passed = 0
        self.cut_start = 0
        """Samples a channel cut off at the start so far."""
        self.sound_end = 0
        """Behind the last sound in what has been passed on, samples a channel."""

    def push(self, frames: NDArray[np.int16], *, last: bool = False) -> NDArray[np.int16]:
        """Take int16[n, channels]; what is to be written now, of the same shape."""
        if len(self._rest):
            frames = np.concatenate((self._rest, frames))
        whole = len(frames) if last else len(frames) // self._frame * self._frame
        levels = np.concatenate((self._before, frame_level(frames[:whole], self._frame)))
        known = len(self._before)
        decided = len(levels) if last else max(known, len(levels) - _REACH)
        sound = np.flatnonzero(self._is_sound(levels)[known:decided])
        taken = whole if last else (decided - known) * self._frame
        self._rest = frames[taken:].copy()
        self._before = levels[max(0, decided - _REACH) : decided]
        frames = frames[:taken]

        head = 0
        if not self._started:
            head = int(sound[0]) * self._frame if len(sound) else taken
            self.cut_start += head
            self._started = len(sound) > 0
        if len(sound):
            end = min((int(sound[-1]) + 1) * self._frame, taken)
            self.sound_end = self._passed + end - head
        self._passed += taken - head
        return frames[head:]

    def _is_sound(self, levels: NDArray[np.float64]) -> Bools:
        """Which frames are sound; bool[n] of float64[n, channels]."""
        loud, soft = levels >= self._loud, levels >= self._soft
        sound = loud & _near(_windows(loud) >= LOUD_FRAMES)
        for _ in range(SOFT_FRAMES):
            beside = np.zeros_like(sound)
            beside[1:] |= sound[:-1]
            beside[:-1] |= sound[1:]
            sound = sound | (soft & beside)
        return np.asarray(sound.any(axis=1), np.bool_)


def _windows(loud: Bools) -> NDArray[np.int64]:
    """How many frames are loud from each on, in a window's length; int64[n, channels]."""
    total = np.zeros((len(loud) + 1, loud.shape[1]), np.int64)
    np.cumsum(loud, axis=0, out=total[1:])
    ends = np.minimum(np.arange(len(loud)) + WINDOW_FRAMES, len(loud))
    counts: NDArray[np.int64] = total[ends] - total[:-1]
    return counts


def _near(starts: Bools) -> Bools:
    """Whether a frame is in a window that begins at one of these."""
    near = starts.copy()
    for back in range(1, WINDOW_FRAMES):
        near[back:] |= starts[:-back]
    return near
