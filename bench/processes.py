"""What the processes of a server use: CPU time and memory, from the kernel."""

from __future__ import annotations

import ctypes
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_ROLES = (
    ("-m callreel.server ", "control"),
    ("callreel.capture.worker", "worker"),
    ("multiprocessing.spawn", "render"),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process had used when it was looked at."""

    role: str
    """``supervisor``, ``control``, ``worker``, ``render`` or ``other``."""
    cpu_s: float
    """User and system time since it began."""
    rss_bytes: int
    """Resident now."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All processes of a server at one instant."""

    by_pid: Mapping[int, Usage]
    """By process id."""
    at: float
    """When; monotonic seconds."""

    def since(self, earlier: Snapshot) -> dict[str, float]:
        """CPU seconds by role since an earlier snapshot; 0 for a role that nobody has."""
        used: defaultdict[str, float] = defaultdict(float)
        for pid, usage in self.by_pid.items():
            before = earlier.by_pid.get(pid)
            used[usage.role] += usage.cpu_s - (before.cpu_s if before else 0.0)
        return used

    def rss_mib(self) -> dict[str, list[float]]:
        """Resident memory by role, one figure a process, in MiB. What processes share counts for
        each."""
        found: dict[str, list[float]] = {}
        for usage in self.by_pid.values():
            found.setdefault(usage.role, []).append(usage.rss_bytes / 2**20)
        return found


def snapshot(supervisor_pid: int) -> Snapshot:
    """Look at a server's processes."""
    found = {}
    for pid in _family(supervisor_pid):
        try:
            role = "supervisor" if pid == supervisor_pid else _role(pid)
            found[pid] = Usage(role, cpu_s(pid), _rss_bytes(pid))
        except OSError:  # it has just ended
            continue
    return Snapshot(found, time.monotonic())


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, in nanosecond steps. Raises ``OSError``."""
    clock = ctypes.c_int()
    if _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(f"no process {pid}")
    return time.clock_gettime(clock.value)


def waited_s(pid: int) -> float:
    """How long a process's first thread was ready to run so far, and had no core. Raises
    ``OSError``; 0 where the kernel does not say.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (FileNotFoundError, IndexError):
        return 0.0


def _family(root: int) -> Iterable[int]:
    """A process and all that descend from it."""
    yield root
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{root}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield from _family(child)


def _role(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return next((role for part, role in _ROLES if part in command), "other")


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
