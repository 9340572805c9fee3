"""What the settings mean, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from callreel.server.dialling import default_trunk
from callreel.server.review import in_order
from callreel.server.settings import Settings
from callreel.server.sip_settings import RecordPolicy, RouteSettings
from callreel.signalling.planning import API
from callreel.signalling.routing import NUMBER

_USERS = "a user's name or number: to that user's phones"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Sentences, a line each."""

    who_may_call: tuple[str, ...]
    """Peers, trunks and users."""
    where_calls_go: tuple[str, ...]
    """Those that come in: the routes in the order in which they are tried."""
    what_programs_may_call: tuple[str, ...]
    """Programs and documents: the routes that are theirs, and what else, as it is tried."""
    what_is_recorded: tuple[str, ...]
    """Without anybody asking, and what else."""


def explain(settings: Settings) -> Explanation:
    """Put into words what matters most."""
    return Explanation(
        who_may_call=tuple(_who(settings)),
        where_calls_go=tuple(_where(settings)),
        what_programs_may_call=tuple(_programs(settings)),
        what_is_recorded=tuple(_recorded(settings)),
    )


def _who(settings: Settings) -> list[str]:
    found = []
    for peer in settings.peers:
        found.append(f"{peer.name} (peer), from {_and(peer.addresses)}{_of(peer.account_sid)}")
    for trunk in settings.trunks:
        if not trunk.addresses:
            found.append(f"{trunk.name} (trunk) may not: it has no addresses")
            continue
        believed = ", and is believed who calls" if trunk.identity else ""
        whose = _of(trunk.account_sid)
        found.append(f"{trunk.name} (trunk), from {_and(trunk.addresses)}{believed}{whose}")
    for user in settings.users:
        shows = f", as {user.number}" if user.number else ""
        found.append(f"{user.name} (user), by password{shows}{_of(user.account_sid)}")
    if settings.accept_loopback:
        found.append("this machine (loopback), from 127.0.0.0/8 and ::1")
    answer = "gets no answer" if settings.refuse_silently else "gets 403"
    if settings.users:
        found.append("anybody else is challenged for a user's password")
    else:
        found.append(f"anybody else {answer}" if found else f"nobody: everybody {answer}")
    if settings.max_calls:
        found.append(f"at most {settings.max_calls} calls at once; more get 503")
    return found


def _where(settings: Settings) -> list[str]:
    if not settings.routes and not settings.users:
        return ["nowhere: only recording sessions (SIPREC) are taken"]
    routes = [settings.routes[number] for number in in_order(settings.routes)]
    lines = [_route(route) for route in routes if set(route.from_) != {API}]
    if settings.users:
        lines.append(_USERS)
    lines.append("anything else is refused with 404; recording sessions (SIPREC) are always taken")
    return lines


def _programs(settings: Settings) -> list[str]:
    lines = []
    routes = [settings.routes[number] for number in in_order(settings.routes)]
    lines += [_route(route) for route in routes if API in route.from_]
    if any(not route.from_ for route in routes):
        lines.append("what a route for everybody fits: as above")
    if settings.users:
        lines.append(_USERS)
    trunk = default_trunk(settings)
    if trunk is not None:
        lines.append(f"numbers that no route fits: to trunk {trunk}")
    if settings.dial_uris:
        lines.append("SIP URIs: as they stand")
    return lines or ["nothing"]


def _route(route: RouteSettings) -> str:
    if route.user is not None:
        dialled = f"{route.user!r}"
    else:
        dialled = f"{route.prefix}…" if route.prefix else "any number"
    whose = f" from {_and([_name(one) for one in route.from_])}" if route.from_ else ""
    changed = ""
    if route.strip:
        changed += f", less its first {route.strip}"
    if route.prepend:
        changed += f", with {route.prepend} before it"
    targets = [_target(one) for one in route.to]
    if len(targets) == 1:
        to = targets[0]
    else:
        to = (
            " and ".join(targets) + " at once"
            if route.ring == "at-once"
            else (", then ".join(targets))
        )
    recorded = "" if route.record is RecordPolicy.ON_DEMAND else f"; recorded, {route.record.value}"
    return f"{dialled}{whose}{changed}: to {to}; rings {route.ring_seconds:g} s{recorded}"


def _target(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind not in ("trunk", "user"):
        return text
    return f"the {kind} that was dialled" if name == NUMBER else f"{kind} {name}"


def _name(source: str) -> str:
    if source == "loopback":
        return "this machine"
    if source == API:
        return "programs"
    return source.replace("user:", "user ").replace("users", "any user")


def _recorded(settings: Settings) -> list[str]:
    found = []
    for kind, table in (
        ("peer", settings.peers),
        ("trunk", settings.trunks),
        ("user", settings.users),
    ):
        for one in table:
            if one.record is not RecordPolicy.ON_DEMAND:
                found.append(f"every call from {kind} {one.name}, {one.record.value}")
    if settings.accept_loopback and settings.loopback_record is not RecordPolicy.ON_DEMAND:
        found.append(f"every call from this machine, {settings.loopback_record.value}")
    found += [
        f"every call by the route for {one.user or (one.prefix or 'any number')!r}, "
        f"{one.record.value}"
        for one in settings.routes
        if one.record is not RecordPolicy.ON_DEMAND
    ]
    rest = "any other call" if found else "any call"
    return [*found, f"{rest} when a program asks for it (API)"]


def _of(account_sid: str | None) -> str:
    return f"; account {account_sid}" if account_sid else ""


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
