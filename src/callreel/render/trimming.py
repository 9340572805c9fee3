"""Cutting silence off both ends while the audio goes by. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callreel.audio.level import FRAME_MS, frame_rms, rms_of


class Trimmer:
    """Tells silence from sound by frames of 20 ms: silent is what is silent in every channel.

    The start is cut as it comes. Silence inside must go out before it is known whether it is the
    end, so the end is for the writer to cut, back to :attr:`sound_end`.
    """

    def __init__(self, *, rate_hz: int, channels: int, silence_dbfs: float) -> None:
        self._frame = rate_hz * FRAME_MS // 1000
        self._threshold = rms_of(silence_dbfs)
        self._rest: NDArray[np.int16] = np.zeros((0, channels), np.int16)
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
        self._rest = frames[whole:].copy()
        frames = frames[:whole]
        loud = np.flatnonzero((frame_rms(frames, self._frame) >= self._threshold).any(axis=1))
        if not self._started:
            head = int(loud[0]) * self._frame if len(loud) else whole
            self.cut_start += head
            self._started = len(loud) > 0
        else:
            head = 0
        if len(loud):
            end = min((int(loud[-1]) + 1) * self._frame, whole)
            self.sound_end = self._passed + end - head
        self._passed += whole - head
        return frames[head:]
