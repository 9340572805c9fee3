"""From one sampling rate to another, a piece at a time, without drift. Pure.

A windowed-sinc filter in as many phases as the ratio needs (a polyphase filter). Its coefficients
are whole numbers, small enough that every sum of products is exact in a float64: the order of the
additions, and with it the machine, makes no difference.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Samples = NDArray[np.int16]

HALF_TAPS = 32
"""Samples on either side that one is made from, at the lower of the two rates."""
_SCALE = 1 << 15
_KAISER_BETA = 9.0
_ROWS = 1024
_PASSED = 0.92
"""Of half the lower rate: 3.7 kHz of telephony."""


class Resampler:
    """One channel, from ``from_hz`` to ``to_hz``.

    Sample ``k`` of what comes out belongs to the instant of sample ``k · from_hz / to_hz`` of what
    went in; so many samples go in, ``ceil(n · to_hz / from_hz)`` come out once it is finished.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._half = HALF_TAPS * max(1, -(-self._down // self._up))
        self._phases = _phases(self._up, self._down, self._half)
        # What is before the first sample is silence.
        self._kept: NDArray[np.float64] = np.zeros(self._half - 1)
        self._taken = 0
        self._made = 0

    @property
    def lookahead(self) -> int:
        """How many samples have to be there behind an instant before its sample comes out."""
        return self._half + 1

    def push(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take int16[n]; the samples that can be told by now, the rest only with ``last``."""
        self._taken += len(samples)
        tail = np.zeros(self._half if last else 0)
        kept: NDArray[np.float64] = np.concatenate((self._kept, samples, tail), dtype=np.float64)
        first = self._taken + len(tail) - len(kept)  # which sample kept[0] is
        if last:
            end = -(-self._taken * self._up // self._down)
        else:
            # Output k leans on samples up to k·down//up + half.
            end = max(self._made, -(-(self._taken - self._half) * self._up // self._down))
        out = np.empty(end - self._made, np.int16)
        for at in range(min(self._up, len(out))):
            number = self._made + at
            phase = number * self._down % self._up
            base = number * self._down // self._up - (self._half - 1) - first
            count = len(out[at :: self._up])
            taps = self._phases[phase]
            sums = _products(kept[base:], taps, self._down, count)
            out[at :: self._up] = np.clip(np.rint(sums / _SCALE), -32768, 32767)
        self._made = end
        needed = end * self._down // self._up - (self._half - 1)
        self._kept = kept[max(0, needed - first) :]
        return out


def _products(
    samples: NDArray[np.float64], taps: NDArray[np.float64], step: int, count: int
) -> NDArray[np.float64]:
    """The filter laid on the samples at every ``step``-th place, so many times; float64[count]."""
    if step == 1:
        dense: NDArray[np.float64] = np.correlate(samples[: count - 1 + len(taps)], taps, "valid")
        return dense
    windows = sliding_window_view(samples, len(taps))[::step]
    sums: NDArray[np.float64] = np.empty(count)
    for at in range(0, count, _ROWS):
        rows = windows[at : min(at + _ROWS, count)]
        sums[at : at + len(rows)] = np.ascontiguousarray(rows) @ taps
    return sums


def _phases(up: int, down: int, half: int) -> NDArray[np.float64]:
    """The filter for each phase, whole numbers that sum to the scale; float64[up, 2 · half]."""
    cutoff = _PASSED * min(1.0, up / down)
    offset = np.arange(-(half - 1), half + 1) - np.arange(up)[:, None] / up
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offset / half) ** 2, 0, None)))
    taps: NDArray[np.float64] = np.sinc(offset * cutoff) * window
    taps = np.rint(taps / taps.sum(axis=1, keepdims=True) * _SCALE)
    # What rounding took or gave goes to the largest: steady values stay what they are.
    rows = np.arange(up)
    taps[rows, np.argmax(taps, axis=1)] += _SCALE - taps.sum(axis=1)
    return taps
