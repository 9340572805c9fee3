"""How full the disk is, as steps of a ladder. No I/O: whoever looks at the disk tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_MIB = 1024 * 1024
_WARNING_BYTES, _WARNING_SHARE = 10_240 * _MIB, 0.10
_RESERVE_BYTES, _RESERVE_SHARE = 2_048 * _MIB, 0.03
_BACK = 1.1
"""A step is left again once there is so much more than it takes to enter it."""


class Step(Enum):
    """Where the disk stands."""

    AMPLE = "ample"
    LOW = "low"
    """Less than the warning: somebody should see to it."""
    OUT = "out"
    """Less than the reserve: it is left to the recordings that run, and to finishing them."""


@dataclass(frozen=True, slots=True)
class Marks:
    """From where on the disk is low, and out."""

    warning_bytes: int
    """Below it: low."""
    reserve_bytes: int
    """Below it: out."""

    @classmethod
    def of(cls, total_bytes: int, *, warning_mb: int | None, reserve_mb: int | None) -> Marks:
        """As configured; where not, a share of the filesystem and no more than some gibibytes."""
        warning = min(_WARNING_BYTES, round(total_bytes * _WARNING_SHARE))
        reserve = min(_RESERVE_BYTES, round(total_bytes * _RESERVE_SHARE))
        return cls(
            warning if warning_mb is None else warning_mb * _MIB,
            reserve if reserve_mb is None else reserve_mb * _MIB,
        )


@dataclass(slots=True)
class Backlog:
    """How many webhooks are owed and not delivered; told from time to time."""

    owed: int = 0
    """When it was last looked at."""
    most: int = 0
    """From there on no recording is begun that would owe more. 0: no limit."""

    @property
    def is_full(self) -> bool:
        """Whether there are as many as there may be."""
        return 0 < self.most <= self.owed


class Room:
    """What there is, on the filesystem that has least of it."""

    def __init__(self) -> None:
        self.step = Step.AMPLE
        """Where it stands."""
        self.free_bytes = 0
        """Free when it was last looked at."""
        self.total_bytes = 0
        """Of the filesystem."""
        self.place = ""
        """Which it is, for people."""

    def saw(self, place: str, free_bytes: int, total_bytes: int, marks: Marks) -> bool:
        """Take what was seen; whether the step has changed."""
        self.place, self.free_bytes, self.total_bytes = place, free_bytes, total_bytes
        before, self.step = self.step, _step(self.step, free_bytes, marks)
        return self.step is not before

    @property
    def text(self) -> str:
        """For people: how much is free where."""
        free, total = self.free_bytes / 1e9, self.total_bytes / 1e9
        return f"{free:.2f} of {total:.1f} GB are free in {self.place}"


def _step(now: Step, free_bytes: int, marks: Marks) -> Step:
    """Down at a mark, up again only some way above it: nothing is to flutter."""
    out_below = marks.reserve_bytes * (_BACK if now is Step.OUT else 1.0)
    low_below = marks.warning_bytes * (_BACK if now is not Step.AMPLE else 1.0)
    if free_bytes < out_below:
        return Step.OUT
    return Step.LOW if free_bytes < low_below else Step.AMPLE
