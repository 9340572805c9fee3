"""What may happen to a server: which of its processes are killed, and how often."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum


class Accident(Enum):
    """Who dies."""

    CONTROL = "control"
    WORKER = "media worker"
    RENDERER = "renderer"
    CONTROL_AND_WORKER = "control and a worker"
    WORKERS = "all media workers"
    ALL_BUT_SUPERVISOR = "all but the supervisor"
    SUPERVISOR = "supervisor"
    EVERYTHING = "everything at once"


WEIGHTS = {
    Accident.CONTROL: 15,
    Accident.WORKER: 38,
    Accident.RENDERER: 24,
    Accident.CONTROL_AND_WORKER: 5,
    Accident.WORKERS: 8,
    Accident.ALL_BUT_SUPERVISOR: 2,
    Accident.SUPERVISOR: 3,
    Accident.EVERYTHING: 5,
}
"""How often each happens, of a hundred."""

ENDS_THE_SERVER = frozenset({Accident.SUPERVISOR, Accident.EVERYTHING})
"""After which somebody has to start the server again: its calls are over."""

HITS_WORKERS = frozenset(set(Accident) - {Accident.CONTROL, Accident.RENDERER})
"""In which media workers die, or are told to end."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One accident."""

    kind: Accident
    """Who died."""
    at_ns: int
    """Wall time just before the first was killed."""
    killed: int
    """Processes killed."""


def choose(random_: random.Random) -> Accident:
    """The next accident."""
    return random_.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


FIRST = (Accident.WORKER, Accident.CONTROL, Accident.RENDERER, Accident.EVERYTHING)
"""What a short run begins with, so that it has seen each."""


def comes_at_once(random_: random.Random) -> bool:
    """Whether the next one happens while the last is still being recovered from."""
    return random_.random() < 0.25
