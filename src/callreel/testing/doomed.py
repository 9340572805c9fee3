"""Jobs for a process pool that come to grief, or tell how their process is set up."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def die_once(marker: Path) -> str:
    """Kill the process the first time, and be done the second."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die(counter: Path) -> None:
    """Kill the process every time, an ``x`` in the file for each."""
    with counter.open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def about_me() -> tuple[int, int, int, bool]:
    """Process id, niceness, scheduling policy, and whether Ctrl-C is ignored."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    niceness, policy = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    return os.getpid(), niceness, policy, ignored
