"""How much memory the machine can still give, and the least that must be left for a new call.

A call that is refused costs one call; a machine that runs out of memory costs all of them.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from callreel.base.errors import CapacityError

_LOOK_NS = 500_000_000
"""What was read is good for so long: calls that come in a crowd cost one look."""
_ROOT = Path("/sys/fs/cgroup")


def free_of_machine(meminfo: str) -> int | None:
    """Bytes that new work may have, of what ``/proc/meminfo`` says; None if it does not."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def free_of_group(limit: str, used: str, stat: str) -> int | None:
    """The same of a control group (v2), of what its ``memory.max``, ``memory.current`` and
    ``memory.stat`` say; None if it has no limit. File pages count as free: they can be dropped.
    """
    if not limit.strip().isdigit() or not used.strip().isdigit():
        return None
    found = re.search(r"^inactive_file (\d+)$", stat, re.MULTILINE)
    return int(limit) - int(used) + (0 if found is None else int(found[1]))


def free_bytes() -> int | None:
    """What the machine, and the control groups that we are in, can still give; None if nobody
    says."""
    found = [free_of_machine(_read(Path("/proc/meminfo")))]
    own = re.search(r"^0::/(.*)$", _read(Path("/proc/self/cgroup")), re.MULTILINE)
    if own is not None:
        folder = _ROOT / own[1]
        while folder.is_relative_to(_ROOT):
            names = ("memory.max", "memory.current", "memory.stat")
            found.append(free_of_group(*(_read(folder / name) for name in names)))
            folder = folder.parent
    known = [one for one in found if one is not None]
    return min(known) if known else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


class MemoryGuard:
    """Refuses what is new while less than ``reserve_bytes`` are free. 0: never."""

    def __init__(self, reserve_bytes: int) -> None:
        self._reserve_bytes = reserve_bytes
        self._looked_ns = -_LOOK_NS
        self._free: int | None = None

    def check(self) -> None:
        """Raises ``CapacityError``."""
        if not self._reserve_bytes:
            return
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._looked_ns, self._free = now_ns, free_bytes()
        if self._free is not None and self._free < self._reserve_bytes:
            raise CapacityError(
                f"{max(0, self._free) >> 20} MiB of memory are left, and "
                f"{self._reserve_bytes >> 20} must stay free",
                hint="more memory, or a smaller memory_reserve_mib",
            )
