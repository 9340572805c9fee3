"""Where a call goes: routes by number, user and source, and the targets they name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

from callreel.base.errors import UsageError
from callreel.calls.model import RecordingRequest

MAX_TARGETS = 16
NUMBER = "{number}"
"""Stands in a target for what was dialled, after ``strip`` and ``prepend``."""
_SEPARATORS = re.compile(r"[ ().\-]")
_SAFE = "-_.!~*'()&=+$,"
_NUMBER_LIKE = re.compile(r"\+?[0-9*#]+")


class TargetKind(Enum):
    """What a target names."""

    TRUNK = "trunk"
    """A carrier or PBX of the configuration."""
    USER = "user"
    """A phone that has registered."""
    URI = "sip"
    """An address that is called as it stands."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that a call is sent to."""

    kind: TargetKind
    """What ``name`` is."""
    name: str
    """Of the trunk or user; or the URI."""
    number: str
    """What is dialled there."""

    def __str__(self) -> str:
        return self.name if self.kind is TargetKind.URI else f"{self.kind.value}:{self.name}"


@dataclass(frozen=True, slots=True)
class Route:
    """What calls it is for, and where they go."""

    to: tuple[str, ...]
    """``trunk:NAME``, ``user:NAME`` or a ``sip:`` URI; ``{number}`` stands for what was dialled."""
    prefix: str = ""
    """How the dialled number begins; empty: any."""
    user: str | None = None
    """The dialled user, exactly; wins over every prefix."""
    sources: frozenset[str] = frozenset()
    """Names of the peers, trunks and users (``user:NAME``, or ``users`` for all) whose calls it is
    for; empty: everybody's."""
    strip: int = 0
    """So many characters are taken off the front of the number."""
    prepend: str = ""
    """Then this is put there."""
    at_once: bool = False
    """Whether all targets ring together; else one after the other."""
    ring_seconds: float = 30.0
    """How long each may ring before the next is tried."""
    record: RecordingRequest | None = None
    """The recording that each call begins with, if any."""

    def suits(self, dialled: str, source: str) -> bool:
        """Whether it is for a call."""
        if self.sources and source not in self.sources:
            kind = source.partition(":")[0]
            if not (kind == "user" and "users" in self.sources):
                return False
        if self.user is not None:
            return dialled == self.user
        return dialled.startswith(self.prefix)

    @property
    def weight(self) -> tuple[bool, int, int]:
        """The greatest wins: by user, then the longest prefix, then the one that names sources."""
        return (self.user is not None, len(self.prefix), bool(self.sources))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried for one call."""

    targets: tuple[Target, ...]
    """In order."""
    at_once: bool
    """Whether all of them ring together."""
    ring_seconds: float
    """How long each may ring."""
    record: RecordingRequest | None
    """The recording that the call begins with, if any."""


class Routes:
    """The configured routes. ``users`` maps what may be dialled to a user's name: a phone can be
    called by that where no route says otherwise.
    """

    def __init__(self, routes: Sequence[Route], users: Mapping[str, str]) -> None:
        # Sorting is stable: of equals, the one that was written first.
        self._routes = sorted(routes, key=lambda route: route.weight, reverse=True)
        self._users = dict(users)

    def find(self, dialled: str, source: str) -> Plan | None:
        """What is to be done with a call from ``source`` (a peer, a trunk, or ``user:NAME``)."""
        number = plain_number(dialled)
        for route in self._routes:
            if route.suits(number, source):
                sent = route.prepend + number[route.strip :]
                return Plan(
                    targets=tuple(parse_target(text, sent) for text in route.to),
                    at_once=route.at_once,
                    ring_seconds=route.ring_seconds,
                    record=route.record,
                )
        name = self._users.get(number)
        if name is None:
            return None
        target = Target(TargetKind.USER, name, number)
        return Plan((target,), at_once=False, ring_seconds=30.0, record=None)


def plain_number(dialled: str) -> str:
    """A number without the separators that people write (RFC 3966 §5.1.1); a name as it is.

    >>> plain_number("+1 (555) 010-0"), plain_number("alice.b")
    ('+15550100', 'alice.b')
    """
    bare = _SEPARATORS.sub("", dialled)
    return bare if _NUMBER_LIKE.fullmatch(bare) else dialled


def parse_target(text: str, number: str) -> Target:
    """Read a target of a route. Raises ``UsageError``."""
    kind, colon, name = text.partition(":")
    if colon and name:
        if kind in ("sip", "sips"):
            # Escaped, so that nothing that is dialled becomes another part of the URI.
            return Target(TargetKind.URI, text.replace(NUMBER, quote(number, safe=_SAFE)), number)
        if kind in (TargetKind.TRUNK.value, TargetKind.USER.value):
            return Target(TargetKind(kind), name.replace(NUMBER, number), number)
    raise UsageError(f"{text!r} is no target: want trunk:NAME, user:NAME or a sip: URI")
