"""What a media worker is told when it is started: one JSON argument."""

from __future__ import annotations

import ipaddress
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from callreel.base.errors import UsageError

END_SIGNAL = signal.SIGUSR1
"""Ends a worker that runs under a supervisor. Such a one ignores SIGTERM and SIGINT: service
managers send those to every process at once, while calls have still to be ended in order."""

LISTEN_FD = "CALLREEL_LISTEN_FD"
"""Environment: the listening Unix socket for control processes."""
SUPERVISOR_FD = "CALLREEL_SUPERVISOR_FD"
"""Environment: the socket to the supervisor, which keeps our media sockets. May be absent."""
GENERATION = "CALLREEL_GENERATION"
"""Environment: how often this worker was started, 1 for the first time. May be absent."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one media worker."""

    bind_host: str
    """Numeric address for media sockets; ``::`` takes IPv4 as well."""
    port_low: int
    """First RTP port of this worker's slice."""
    port_high: int
    """Last port of the slice, inclusive."""
    journal_root: Path
    """Folder of journals."""
    sweep_ms: int = 350
    """How often sockets are emptied."""
    media_timeout_ms: int = 0
    """After how long nothing from a peer of a bridged or attended call is reported; 0: never."""
    memory_reserve_mib: int = 0
    """New calls are refused while less memory than this is free; 0: never."""
    index: int = 0
    """Which worker this is, from 0."""
    log_format: str = "text"
    """``text`` or ``json``."""
    workers: int = 1
    """How many there are: the supervisor must hold the sockets of all within one limit."""

    def to_argv(self) -> list[str]:
        """The command that starts this worker."""
        value = {**asdict(self), "journal_root": str(self.journal_root)}
        return [sys.executable, "-m", "callreel.capture.worker", json.dumps(value)]


def settings_from_argument(argument: str) -> WorkerSettings:
    """Reads the argument that ``to_argv`` made. Raises ``UsageError``."""
    try:
        value = json.loads(argument)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        settings = WorkerSettings(**{**value, "journal_root": Path(value["journal_root"])})
        ipaddress.ip_address(settings.bind_host)
        _check_numbers(value)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"worker settings: {error}") from error
    if not 20 <= settings.sweep_ms <= 5000:
        raise UsageError("worker settings: the sweep's period must be from 20 to 5000 ms")
    return settings


def _check_numbers(value: Mapping[str, Any]) -> None:
    for name in (
        *("port_low", "port_high", "sweep_ms", "media_timeout_ms"),
        *("memory_reserve_mib", "index", "workers"),
    ):
        number = value.get(name, 1)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"{name} must be a whole number")


def slice_ports(low: int, high: int, workers: int) -> Sequence[tuple[int, int]]:
    """A port range cut into one slice a worker, each beginning with an even port.

    Raises ``UsageError`` if it is too narrow.
    """
    first = low + low % 2
    pairs = (high - first + 1) // 2
    if workers < 1 or pairs < workers:
        raise UsageError(f"RTP ports {low}-{high} are too few for {workers} media workers")
    share, extra = divmod(pairs, workers)
    slices = []
    for index in range(workers):
        size = share + (index < extra)
        slices.append((first, first + 2 * size - 1))
        first += 2 * size
    return slices
