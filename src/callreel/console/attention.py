"""What needs somebody's attention, in words; pure."""

from __future__ import annotations

from dataclasses import dataclass

from callreel.console.services import MachineState
from callreel.console.words import counted, size

_LITTLE = 0.10
_VERY_LITTLE = 0.03
_MANY_WAITING = 50
_NEARLY_FULL = 0.9

_PARTS = {
    "database": "The database does not answer",
    "workers": "A media worker does not answer",
    "sip": "SIP is not listening",
}


@dataclass(frozen=True, slots=True)
class Matter:
    """Something to know of."""

    text: str
    """What it is and what to do."""
    grave: bool = False
    """Whether recordings are being lost, or soon will be."""


def matters(state: MachineState, *, given_up: int, more_given_up: bool) -> list[Matter]:
    """The gravest first. ``given_up``: webhooks of this account that nobody tries any more."""
    found = [
        Matter(
            f"{_PARTS.get(part, part)} ({word}). It is restarted by itself; if this stays, look "
            "into the server's log.",
            grave=True,
        )
        for part, word in state.parts.items()
        if word != "ok"
    ]
    found += [
        Matter(f"Media worker {one.number} does not answer; its calls go on once it is back.", True)
        for one in state.workers
        if one.pid is None
    ]
    for disk in state.disks:
        share = disk.free_bytes / disk.total_bytes if disk.total_bytes else 1.0
        if share < _LITTLE:
            found.append(
                Matter(
                    f"The disk with the {disk.holds} has {size(disk.free_bytes)} left. Free some "
                    "room: a full disk keeps nothing.",
                    grave=share < _VERY_LITTLE,
                )
            )
    if state.max_calls and state.calls >= _NEARLY_FULL * state.max_calls:
        found.append(
            Matter(
                f"{state.calls} of {state.max_calls} calls are in use; beyond that new ones are "
                "refused. max_calls is the setting."
            )
        )
    if state.max_streams and state.streams >= _NEARLY_FULL * state.max_streams:
        found.append(
            Matter(
                f"{state.streams} of {state.max_streams} media ports are in use; beyond that new "
                "calls are refused. rtp_ports is the setting."
            )
        )
    if state.rendering >= _MANY_WAITING:
        found.append(
            Matter(f"{counted(state.rendering, 'recording')} wait to be rendered: that takes long.")
        )
    if given_up:
        number = f"More than {given_up:,}" if more_given_up else f"{given_up:,}"
        found.append(
            Matter(
                f"{number} of your webhooks {'was' if number == '1' else 'were'} given up: their "
                "receiver did not take them. Webhooks shows why, and sends them again."
            )
        )
    found += [Matter(one[:1].upper() + one[1:] + ".") for one in state.warnings]
    return sorted(found, key=lambda one: not one.grave)
