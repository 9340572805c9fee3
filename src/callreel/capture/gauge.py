"""How a worker keeps up: how long sweeps take, and how late what arrived is on the disk. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_WINDOW_NS = 30_000_000_000


class Gauge:
    """Figures of one worker since its start; the longest ones of the last half minute or so."""

    def __init__(self) -> None:
        self._sweeps = 0
        self._sweep_ns = 0
        self._longest = Longest()
        self._behind = Longest()

    def swept(self, due_ns: int, begun_ns: int, ended_ns: int) -> None:
        """A part of a sweep is done, its journals written."""
        self._sweeps += 1
        self._sweep_ns += ended_ns - begun_ns
        self._longest.saw(ended_ns - begun_ns, ended_ns)
        self._behind.saw(ended_ns - due_ns, ended_ns)

    def told(
        self, now_ns: int, *, packets: int, dropped: int, journals: int
    ) -> Mapping[str, float]:
        """``packets`` kept ever, ``dropped`` by the kernel on streams that are open, ``journals``
        that are open; ``sweeps`` ever and the seconds they took; of late, the longest of them and
        how far behind its due time one was written at most."""
        return {
            "packets": packets,
            "dropped": dropped,
            "journals": journals,
            "sweeps": self._sweeps,
            "sweep_seconds": self._sweep_ns / 1e9,
            "sweep_longest_seconds": self._longest.since(now_ns) / 1e9,
            "behind_longest_seconds": self._behind.since(now_ns) / 1e9,
        }


class Longest:
    """The largest of what was seen within the last window, and up to another one before."""

    def __init__(self) -> None:
        self._began_ns = 0
        self._now = self._before = 0

    def saw(self, value: int, now_ns: int) -> None:
        """One more."""
        self._turn(now_ns)
        self._now = max(self._now, value)

    def since(self, now_ns: int) -> int:
        """The largest."""
        self._turn(now_ns)
        return max(self._now, self._before)

    def _turn(self, now_ns: int) -> None:
        windows = (now_ns - self._began_ns) // _WINDOW_NS
        if windows:
            self._before = self._now if windows == 1 else 0
            self._now = 0
            self._began_ns = now_ns
