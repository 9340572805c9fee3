"""The two clocks of arrival: the kernel stamps in wall time, we reckon in monotonic time."""

from __future__ import annotations

import time
from dataclasses import dataclass

_TRIES = 5
_STEP_NS = 1_000_000
_SUSPECT_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Instant:
    """One instant on both clocks."""

    mono_ns: int
    """Monotonic clock."""
    wall_ns: int
    """Wall clock."""


class Anchor:
    """How far wall time is from monotonic time, and how far it was before the clock was set.

    Slewing changes both clocks alike; only setting the clock moves one against the other. So one
    difference is used for all until it is off by a millisecond: then stamps taken before and after
    the instant compare exactly.
    """

    __slots__ = ("_suspect_until_ns", "before_ns", "offset_ns")

    def __init__(self) -> None:
        self.offset_ns = _measure()
        """Wall time minus monotonic time."""
        self.before_ns = self.offset_ns
        """The same, before the clock was last set."""
        self._suspect_until_ns = 0

    def now(self) -> Instant:
        """This instant."""
        mono_ns = time.monotonic_ns()
        return Instant(mono_ns, mono_ns + self.offset_ns)

    def check(self) -> bool:
        """Look whether the clock was set; True if so."""
        offset_ns = _measure()
        if abs(offset_ns - self.offset_ns) < _STEP_NS:
            return False
        self.before_ns, self.offset_ns = self.offset_ns, offset_ns
        self._suspect_until_ns = time.monotonic_ns() + _SUSPECT_NS
        return True

    def is_suspect(self, mono_ns: int) -> bool:
        """Whether stamps from before the clock was set may still turn up in a queue."""
        return mono_ns < self._suspect_until_ns


def _measure() -> int:
    """Wall minus monotonic time, from the least disturbed of a few readings."""
    best: tuple[int, int] | None = None
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        reading = (after - before, wall - (before + after) // 2)
        best = reading if best is None else min(best, reading)
    assert best is not None
    return best[1]
