"""How many calls this machine can take at once, by what it has, and what to raise. Pure but for
:func:`capacity`.

What a call costs was measured; ``docs/performance.md`` has the commands.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from callreel.capture.memory import free_bytes
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings

SOCKETS_A_CALL = 4
"""Two streams, or two legs, of RTP and RTCP."""
FILES_A_CALL = SOCKETS_A_CALL + 1
"""A journal besides."""
FILES_BESIDES = 256
"""Of all workers and the supervisor that are no call's."""
MEMORY_A_CALL_BYTES = 64 * 1024
"""All our processes (``make bench ARGS=memory``)."""
QUEUED_A_CALL_BYTES = 2 * 26 * 832
"""What waits in the kernel at 50 packets a second and stream, swept every 500 ms."""
RECORDED_MS = 2.0
"""CPU for a second of a call that is recorded, rendering included (``make bench ARGS=calls``)."""
BRIDGED_MS = 2.8
"""The same of one that is passed on (``make bench ARGS=bridged``)."""
BUSY = 0.7
"""How much of its cores a machine may be busy with calls and still be in time."""
FEW_CALLS = 200
"""Fewer at once than this is told as a warning."""
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is."""

    files: int
    """The hard limit of open files of a process."""
    workers: int
    """Media workers."""
    ports: int
    """UDP ports for media."""
    memory_bytes: int | None
    """Free, less what must stay free; None if nobody says."""
    udp_bytes: int | None
    """That the kernel gives to all UDP sockets together; None if it does not say."""
    cores: int
    """Processors that we may use."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one thing is enough for."""

    calls: int
    """At once, of two streams or two legs, all recorded."""
    of: str
    """The thing, with how much of it there is."""
    advice: str
    """How to have more."""


def limits_of(machine: Machine) -> Sequence[Limit]:
    """What each thing is enough for, the scarcest first."""
    by_sockets = max(0, machine.files - FILES_BESIDES) // SOCKETS_A_CALL
    by_files = machine.workers * (max(0, machine.files - FILES_BESIDES) // FILES_A_CALL)
    found = [
        Limit(
            min(by_sockets, by_files),
            f"{machine.files} open files",
            "raise the limit: LimitNOFILE= of the service, ulimit -Hn",
        ),
        Limit(machine.ports // SOCKETS_A_CALL, f"{machine.ports} media ports", "widen rtp_ports"),
        Limit(
            int(1000 * BUSY * machine.cores / RECORDED_MS),
            f"{machine.cores} cores",
            "more cores, or rendering with fewer render_workers",
        ),
    ]
    if machine.memory_bytes is not None:
        found.append(
            Limit(
                max(0, machine.memory_bytes) // (MEMORY_A_CALL_BYTES + QUEUED_A_CALL_BYTES),
                f"{max(0, machine.memory_bytes) >> 20} MiB of free memory",
                "more memory, or a smaller memory_reserve_mib",
            )
        )
    if machine.udp_bytes is not None:
        found.append(
            Limit(
                machine.udp_bytes // QUEUED_A_CALL_BYTES,
                f"{machine.udp_bytes >> 20} MiB of the kernel's memory for UDP",
                "raise net.ipv4.udp_mem",
            )
        )
    return sorted(found, key=lambda limit: limit.calls)


def capacity_finding(machine: Machine, max_calls: int) -> Finding:
    """What a machine can take, with ``max_calls`` as it is set (0: no limit)."""
    scarcest, *others = limits_of(machine)
    passed_on = int(1000 * BUSY * machine.cores / BRIDGED_MS)
    text = (
        f"about {scarcest.calls} recorded calls at once ({min(scarcest.calls, passed_on)} if they "
        f"are passed on), by {scarcest.of}; "
        + ", ".join(f"{limit.of}: {limit.calls}" for limit in others)
    )
    if scarcest.calls < 1:
        return fail("capacity", text, scarcest.advice)
    if max_calls > scarcest.calls:
        return warn("capacity", f"{text}; max_calls is {max_calls}", scarcest.advice)
    if scarcest.calls < FEW_CALLS:
        return warn("capacity", text, scarcest.advice)
    return ok("capacity", text)


def capacity(settings: Settings) -> Iterator[Finding]:
    """How many calls this machine can take."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low, high = settings.port_range
    free = free_bytes()
    reserve = settings.memory_reserve_mib << 20
    yield capacity_finding(
        Machine(
            files=1 << 20 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20),
            workers=settings.worker_count,
            ports=high - low + 1,
            memory_bytes=None if free is None else free - reserve,
            udp_bytes=_udp_bytes(),
            cores=len(os.sched_getaffinity(0)),
        ),
        settings.max_calls,
    )


def _udp_bytes() -> int | None:
    try:
        # The pressure mark: beyond it the kernel begins to refuse.
        return int(Path("/proc/sys/net/ipv4/udp_mem").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
