"""What is doubtful about settings that could be used as they are. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from callreel.server.dialling import default_trunk
from callreel.server.problems import Place, Problem, Severity
from callreel.server.settings import Settings
from callreel.server.sip_settings import RouteSettings
from callreel.signalling.planning import API
from callreel.signalling.routing import NUMBER, plain_number

_ANYBODY = 2
"""A network with a shorter prefix than this is the whole of an address family, or half of it."""


def review(settings: Settings) -> list[Problem]:
    """Warnings and notes, in the order of the file's tables."""
    sources = callers(settings)
    return [
        *_networks(settings),
        *_trunks(settings),
        *_users(settings),
        *_routes(settings, sources),
        *_ways_out(settings, [one for one in sources if one != API]),
    ]


def callers(settings: Settings) -> list[str]:
    """Everybody who may call, as routes name them: peers, trunks, ``user:NAME``, ``loopback``,
    ``api``."""
    found = [one.name for one in settings.peers]
    found += [one.name for one in settings.trunks if one.addresses]
    found += [f"user:{one.name}" for one in settings.users]
    return found + (["loopback"] if settings.accept_loopback else []) + [API]


def callers_of(route: RouteSettings, everybody: Sequence[str]) -> frozenset[str]:
    """Those whose calls a route is for."""
    if not route.from_:
        return frozenset(everybody)
    return frozenset(
        one
        for one in everybody
        if one in route.from_ or (one.startswith("user:") and "users" in route.from_)
    )


def in_order(routes: Sequence[RouteSettings]) -> list[int]:
    """The routes' places in the file, in the order in which they are tried."""

    def weight(number: int) -> tuple[bool, int, bool]:
        route = routes[number]
        return (route.user is not None, len(route.prefix or ""), bool(route.from_))

    return sorted(range(len(routes)), key=weight, reverse=True)


def _warning(message: str, *place: str | int) -> Problem:
    return Problem(message, place, Severity.WARNING)


def _note(message: str, *place: str | int) -> Problem:
    return Problem(message, place, Severity.NOTE)


# Who may call


def _networks(settings: Settings) -> Iterator[Problem]:
    """Networks that are two peers' at once, or everybody's."""
    owners: dict[str, str] = {}
    tables: list[tuple[Place, str, list[str]]] = [
        *((("peers", n), one.name, one.addresses) for n, one in enumerate(settings.peers)),
        *((("trunks", n), one.name, one.addresses) for n, one in enumerate(settings.trunks)),
    ]
    for place, name, addresses in tables:
        for text in addresses:
            network = ipaddress.ip_network(text, strict=False)
            owner = owners.setdefault(str(network), name)
            if owner != name:
                yield _warning(
                    f"{text} is an address of {owner} too: its calls are {owner}'s",
                    *place,
                    "addresses",
                )
            if network.prefixlen < _ANYBODY:
                yield _warning(
                    f"{text}: whoever can reach this server may call as {name}",
                    *place,
                    "addresses",
                )


def _trunks(settings: Settings) -> Iterator[Problem]:
    targets = {target for route in settings.routes for target in route.to}
    by_number = any(target.startswith("trunk:") and NUMBER in target for target in targets)
    for number, one in enumerate(settings.trunks):
        if by_number or f"trunk:{one.name}" in targets or one.name == default_trunk(settings):
            continue
        if one.addresses:
            yield _note("no route goes to it: it only sends calls here", "trunks", number)
        else:
            yield _warning(
                "no route goes to it, and it has no addresses to send calls from: it is of no use",
                "trunks",
                number,
            )
    for number, one in enumerate(settings.trunks):
        if one.register_ and not one.addresses:
            yield _warning(
                "it is registered with, but has no addresses: the calls that it then sends are "
                "refused",
                "trunks",
                number,
            )


def _users(settings: Settings) -> Iterator[Problem]:
    for number, one in enumerate(settings.users):
        if one.password.casefold() in (one.name.casefold(), (one.number or "").casefold()):
            yield _warning("the password is the name or the number", "users", number, "password")
        for dialled in filter(None, (one.name, one.number)):
            if plain_number(dialled) != dialled:
                key = "name" if dialled == one.name else "number"
                yield _unreachable(dialled, "users", number, key)


# Where calls go


def _routes(settings: Settings, everybody: Sequence[str]) -> Iterator[Problem]:
    routes = settings.routes
    taken: dict[tuple[str | None, str | None], set[str]] = {}
    shadows: dict[int, Problem] = {}
    for number in in_order(routes):
        route = routes[number]
        served = callers_of(route, everybody)
        earlier = taken.setdefault((route.user, route.prefix), set())
        if not served:
            who = ", ".join(route.from_) or "anybody"
            shadows[number] = _warning(
                f"it is for calls of {who}, from where none can come", "routes", number
            )
        elif served <= earlier:
            shadows[number] = _warning(
                "it can never be chosen: routes for the same number and callers come first",
                "routes",
                number,
            )
        earlier |= served
    for number, route in enumerate(routes):
        if number in shadows:
            yield shadows[number]
        for key, dialled in (("user", route.user), ("prefix", route.prefix)):
            if dialled and plain_number(dialled) != dialled:
                yield _unreachable(dialled, "routes", number, key)
        yield from _targets(settings, number, route, everybody)


def _targets(
    settings: Settings, number: int, route: RouteSettings, everybody: Sequence[str]
) -> Iterator[Problem]:
    served = callers_of(route, everybody)
    for target in route.to:
        kind, _, name = target.partition(":")
        if kind == "trunk" and name in served and not route.from_ and route.user is None:
            yield _warning(
                f"calls from {name} go back to it: say with from whose calls may go there",
                "routes",
                number,
                "to",
            )
        if kind == "user" and NUMBER in name and not settings.users:
            yield _warning("there are no users", "routes", number, "to")
    repeated = {target for target in route.to if route.to.count(target) > 1}
    for target in sorted(repeated):
        yield _warning(f"{target} is there more than once", "routes", number, "to")


def _unreachable(dialled: str, *place: str | int) -> Problem:
    plain = plain_number(dialled)
    return _warning(
        f"what is dialled is compared without separators: {dialled!r} never fits, {plain!r} does",
        *place,
    )


def _ways_out(settings: Settings, everybody: Sequence[str]) -> Iterator[Problem]:
    """Callers that no route is for, and phones that nobody can call."""
    if not settings.routes and not settings.users:
        return
    served = {one for route in settings.routes for one in callers_of(route, everybody)}
    places: list[tuple[str, Place]] = [
        *((one.name, ("peers", number)) for number, one in enumerate(settings.peers)),
        *((one.name, ("trunks", number)) for number, one in enumerate(settings.trunks)),
        *((f"user:{one.name}", ("users", number)) for number, one in enumerate(settings.users)),
    ]
    reached = "users alone" if settings.users else "nobody, though it can be recorded (SIPREC)"
    for name, place in places:
        if name in everybody and name not in served:
            yield _note(f"no route is for its calls: it reaches {reached}", *place)
    for number, user in enumerate(settings.users):
        for key, dialled in (("name", user.name), ("number", user.number)):
            if dialled is not None and _goes_elsewhere(settings, user.name, dialled, everybody):
                yield _warning(
                    f"{dialled!r} reaches somebody else, since routes come first: give it a route "
                    f"of its own, user = {dialled!r}, to = ['user:{user.name}']",
                    "users",
                    number,
                    key,
                )


def _goes_elsewhere(settings: Settings, user: str, dialled: str, everybody: Sequence[str]) -> bool:
    """Whether no call to this name or number reaches the user that it belongs to."""
    left = set(everybody)
    for number in in_order(settings.routes):
        route = settings.routes[number]
        if route.user is not None:
            suits = dialled == route.user
        else:
            suits = dialled.startswith(route.prefix or "")
        if not suits:
            continue
        taken = left & callers_of(route, everybody)
        leads_there = any(one in (f"user:{user}", f"user:{NUMBER}") for one in route.to)
        if taken and leads_there:
            return False
        left -= taken
    return not left
