"""Time as a value that somebody hands in. The real clock lives in ``server``."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where shells take the time from. Cores are given ``now`` as an argument instead."""

    def monotonic(self) -> float:
        """Seconds of arrival time: never jumps, has no relation to the calendar."""
        ...

    def now(self) -> datetime:
        """Wall time, timezone-aware, UTC."""
        ...
