"""When what is played is due: a frame every 20 ms, none skipped. Pure.

Frames are numbered from the beginning of the monotonic clock: *tick* ``n`` is due at ``n`` times 20
ms. So all workers of a machine agree on them, and whoever succeeds one knows where it would be.
"""

from __future__ import annotations

from callreel.audio.encoding import FRAME_MS

FRAME_NS = FRAME_MS * 1_000_000
BURST = 10
"""Ticks made up for at one go. Whoever was away for longer makes up for the rest so many at a time,
a frame apart: ten times as fast as it passes, and no peer's buffer overflows."""


class Pace:
    """Counts ticks. Times: monotonic nanoseconds."""

    __slots__ = ("_made_up", "_rest_until_ns", "tick")

    def __init__(self, now_ns: int) -> None:
        self.tick = 0
        """The next one."""
        self._made_up = 0
        self._rest_until_ns = 0
        self.begin(now_ns)

    def begin(self, now_ns: int) -> None:
        """Nobody was played to until now: nothing is missing."""
        self.tick = now_ns // FRAME_NS + 1
        self._made_up = 0
        self._rest_until_ns = 0

    @property
    def deadline_ns(self) -> int:
        """When the next tick is due."""
        return max(self.tick * FRAME_NS, self._rest_until_ns)

    def is_due(self, now_ns: int) -> bool:
        """Whether the next tick's frames are to go out now."""
        if self.tick * FRAME_NS > now_ns:
            self._made_up = 0
            return False
        return now_ns >= self._rest_until_ns

    def done(self, now_ns: int) -> None:
        """They are out."""
        self.tick += 1
        self._made_up += 1
        if self._made_up >= BURST:
            self._made_up = 0
            self._rest_until_ns = now_ns + FRAME_NS
