"""From the settings' trunks, users and routes to where calls go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from callreel.base.ids import parse_id
from callreel.calls.model import Account
from callreel.server.settings import Settings
from callreel.server.sip_settings import RouteSettings, TrunkSettings, begins_with
from callreel.signalling.bridge import Source
from callreel.signalling.destinations import Trunk
from callreel.signalling.means import Dialplan
from callreel.signalling.peers import Peer
from callreel.signalling.routing import Route, Routes
from callreel.signalling.users import User
from callreel.wire.sip.digest_client import DigestClient
from callreel.wire.sip.values import URI


def dialplan(settings: Settings, clients: Mapping[str, DigestClient], first: Account) -> Dialplan:
    """Where calls go, as configured. ``clients`` answer the challenges of trunks, by name; what
    names no account is of the ``first``.
    """
    users = {one.name: one.name for one in settings.users}
    users |= {one.number: one.name for one in settings.users if one.number is not None}
    return Dialplan(
        routes=Routes([_route(one) for one in settings.routes], users),
        trunks={one.name: _trunk(one, clients.get(one.name)) for one in settings.trunks},
        srtp={one.name: one.srtp for one in settings.users},
        default_trunk=default_trunk(settings),
        account_trunks={
            first.id if one.account_sid is None else parse_id(one.account_sid) or "": one.trunk
            for one in settings.accounts
            if one.trunk is not None
        },
        dial_uris=settings.dial_uris,
    )


def sources(settings: Settings, peers: Sequence[Peer], users: Sequence[User]) -> dict[str, Source]:
    """Whose calls may come in, by name."""
    trunks = {one.name: one for one in settings.trunks}
    behind_nat = {one.name for one in settings.peers if one.nat}
    protected = {one.name: one.srtp for one in settings.users}
    numbers = {one.name: one.number or one.name for one in settings.users}
    found = {}
    for peer in peers:
        trunk = trunks.get(peer.name)
        found[peer.name] = Source(
            peer.name,
            peer.account_id,
            peer.record,
            trusted=trunk is not None and trunk.identity,
            nat=peer.name in behind_nat,
            srtp=peer.srtp,
            own_user=trunk.username if trunk is not None and trunk.register_ else None,
        )
    for user in users:
        name = f"user:{user.name}"
        found[name] = Source(
            name,
            user.account_id,
            user.record,
            number=numbers[user.name],
            nat=True,
            srtp=protected[user.name],
        )
    return found


def default_trunk(settings: Settings) -> str | None:
    """The trunk for numbers that programs and documents call and no route takes, if any."""
    if settings.default_trunk is None and len(settings.trunks) == 1:
        return settings.trunks[0].name
    return settings.default_trunk or None


def _trunk(one: TrunkSettings, client: DigestClient | None) -> Trunk:
    return Trunk(
        name=one.name,
        uri=URI.parse(one.uri),
        client=client,
        from_domain=one.from_domain,
        caller=one.caller,
        identity=one.identity,
        srtp=one.srtp,
    )


def _route(one: RouteSettings) -> Route:
    return Route(
        to=tuple(one.to),
        prefix=one.prefix or "",
        user=one.user,
        sources=frozenset(one.from_),
        strip=one.strip,
        prepend=one.prepend,
        at_once=one.ring == "at-once",
        ring_seconds=one.ring_seconds,
        record=begins_with(one.record, one.retention_days),
    )
