"""What the kernel's drop counter means: overflow, or a stranger refused. Pure.

``SO_RXQ_OVFL`` gives, with each datagram, how many were dropped on the socket before it was
queued. The one counter counts two very different things: datagrams lost because the queue was
full, which is our fault and a hole in the recording, and datagrams that our own filter refused,
which is the filter's purpose. They are told apart so:

- A full queue stays full until it is drained. Between two datagrams of one drain, both queued
  before it, the queue was not full: the counter's increments there are refusals.
- Increments between the last datagram of a drain and the first of the next are overflow if that
  former drain found the queue near full (at least half of the buffer: the estimate of what a
  datagram costs the kernel is rough), and refusals otherwise.
- While nothing is kept everything is refused: the counter is read anew when keeping starts.

The counter is 32 bits wide and wraps.
"""

from __future__ import annotations

_WRAP = 1 << 32
_NEAR_FULL = 0.5
"""Of the buffer."""
_OVERHEAD_BYTES = 640
"""What a queued datagram costs beside its own bytes (832 were measured for 172 of G.711)."""


class DropCounter:
    """The drops of one socket. ``buffer_bytes`` is what ``SO_RCVBUF`` reads."""

    __slots__ = ("_buffer_bytes", "fill", "near_full", "overflowed", "refused", "total")

    def __init__(self, buffer_bytes: int) -> None:
        self._buffer_bytes = buffer_bytes
        self.total = 0
        """The kernel's counter when it was last looked at."""
        self.near_full = False
        """Whether the last drain found the queue so: what is dropped after it is overflow."""
        self.fill = 0.0
        """What part of the buffer the last drain found used; 1 if something was lost since the one
        before it."""
        self.overflowed = 0
        """Datagrams lost because the queue was full."""
        self.refused = 0
        """Datagrams that the filter, or a wrong checksum, kept out."""

    def restart(self, total: int) -> None:
        """Keeping starts: ``total`` is the counter now, all of it of no interest."""
        self.total = total
        self.near_full = False

    def take_over(self, total: int, *, queued_bytes: int) -> None:
        """A former worker last saw ``total``; so much is in the queue that it left behind."""
        self.total = total
        self.near_full = queued_bytes >= _NEAR_FULL * self._buffer_bytes

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was ever dropped and the queue was not near full of late: then a
        datagram without a count says nothing new."""
        return self.total == 0 and not self.near_full

    def drained(self, first: int, last: int, *, datagrams: int, length_bytes: int) -> None:
        """A drain's first and last datagram carried these counts; how much it took out."""
        lost = self._boundary(first)
        self.refused += self._advance(last)
        queued_bytes = datagrams * _OVERHEAD_BYTES + length_bytes
        fill = queued_bytes / self._buffer_bytes
        self.near_full = fill >= _NEAR_FULL
        self.fill = 1.0 if lost else fill

    def drained_quietly(self, datagrams: int, length_bytes: int) -> None:
        """The same where nothing was dropped since: both counts are :attr:`total`."""
        fill = (datagrams * _OVERHEAD_BYTES + length_bytes) / self._buffer_bytes
        self.fill = fill
        self.near_full = fill >= _NEAR_FULL

    def read(self, total: int) -> None:
        """The counter was read from the socket itself, with no datagram at hand."""
        self._boundary(total)

    def _advance(self, total: int) -> int:
        """Go on to a count; by how much it is more. A count from before the last one is passed
        over: a datagram that was queued before the counter was read carries it."""
        more = (total - self.total) % _WRAP
        if more >= _WRAP // 2:
            return 0
        self.total = total
        return more

    def _boundary(self, total: int) -> bool:
        """Between two drains; whether something was lost."""
        more = self._advance(total)
        if self.near_full:
            self.overflowed += more
            return more > 0
        self.refused += more
        return False
