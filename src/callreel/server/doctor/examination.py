"""All that is looked at, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from callreel.server.doctor import audio, capacity, data, machine, network, speech
from callreel.server.doctor.finding import Finding, fail
from callreel.server.settings import Settings

Check = Callable[[Settings], Iterable[Finding]]
"""Looks at one thing with the settings of a server. May block; leaves nothing behind."""

CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", machine.python),
    ("clock", machine.clock),
    ("data folder", data.folder),
    ("free space", data.free_space),
    ("database", data.database),
    ("ports", network.listening),
    ("media ports", network.media_ports),
    ("capacity", capacity.capacity),
    ("receive buffers", machine.receive_buffers),
    ("codecs", audio.codecs),
    ("outputs", audio.encoders),
    ("speech", speech.engines),
)
"""Each with the name under which it is told that it could not be done."""


def examine(settings: Settings, checks: Sequence[tuple[str, Check]] = CHECKS) -> Iterator[Finding]:
    """What is found, as it is found. A check that breaks is a finding, and the rest goes on."""
    for name, check in checks:
        try:
            yield from check(settings)
        except Exception as error:
            yield fail(
                name,
                f"could not be looked at: {type(error).__name__}: {error}",
                "this is a fault of callreel's, or of what it is installed on: please report it",
            )
