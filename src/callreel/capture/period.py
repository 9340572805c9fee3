"""How often sockets are emptied: as seldom as the bound allows, sooner when they fill. Pure.

The cost of a packet falls with the number taken at once, and what is not swept yet is what a crash
can lose. So the bound is what was asked for, and idle or usual sockets are swept at it. Where
receive buffers are small (``net.core.rmem_max``) or streams are fat, a buffer could be full before
the sweep comes: then it comes sooner.
"""

from __future__ import annotations

SHORTEST_NS = 20_000_000
"""Nothing is gained below the length of a packet."""
FULL = 0.4
"""Of the fullest receive buffer: from here on the next sweep comes sooner."""
EMPTY = 0.15
"""And below this it may come later."""
_SHORTER = 2
_LONGER = 5 / 4


class SweepPeriod:
    """The period until the next sweep. ``bound_ns`` is the longest there may be."""

    def __init__(self, bound_ns: int) -> None:
        self._bound_ns = bound_ns
        self.ns = bound_ns
        """Nanoseconds from one sweep to the next."""

    def swept(self, fullest: float) -> None:
        """A sweep is over. ``fullest`` is what part of its receive buffer the fullest socket had
        used; 1 where packets were lost."""
        if fullest >= FULL:
            self.ns = max(min(SHORTEST_NS, self._bound_ns), self.ns // _SHORTER)
        elif fullest < EMPTY and self.ns < self._bound_ns:
            self.ns = min(self._bound_ns, int(self.ns * _LONGER))
