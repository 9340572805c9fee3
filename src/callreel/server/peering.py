"""From the settings' peers to those that signalling knows."""

from __future__ import annotations

import ipaddress

from callreel.base.errors import UsageError
from callreel.base.ids import parse_id
from callreel.calls.model import Account
from callreel.server.settings import Settings
from callreel.server.sip_settings import PeerSettings, TrunkSettings, begins_with
from callreel.service.accounts import AccountService
from callreel.signalling.peers import Peer
from callreel.signalling.users import User


async def configured_peers(
    settings: Settings, first: Account, accounts: AccountService
) -> list[Peer]:
    """The configured peers, and this machine itself. Raises ``UsageError``."""
    peers = [await _peer(one, first, accounts) for one in settings.peers]
    peers += [await _peer(one, first, accounts) for one in settings.trunks if one.addresses]
    if settings.accept_loopback:
        peers.append(
            Peer(
                name="loopback",
                networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
                account_id=first.id,
                record=settings.loopback_record.request,
                our_side=None,
            )
        )
    return peers


async def configured_users(
    settings: Settings, first: Account, accounts: AccountService
) -> list[User]:
    """The phones that may register. Raises ``UsageError``."""
    return [
        User(
            name=one.name,
            account_id=await account_of(one.name, one.account_sid, first, accounts),
            password=one.password,
            record=begins_with(one.record, one.retention_days),
        )
        for one in settings.users
    ]


def takes_calls_of(settings: Settings, first: Account) -> dict[str, list[str]]:
    """Whose calls the settings give to each account, by account id, in words."""
    found: dict[str, list[str]] = {}
    named = [
        *((f"peer {one.name}", one.account_sid) for one in settings.peers),
        *((f"trunk {one.name}", one.account_sid) for one in settings.trunks),
        *((f"user {one.name}", one.account_sid) for one in settings.users),
        *((f"number {one.number}", one.account_sid) for one in settings.numbers),
    ]
    for name, sid in named:
        id_ = first.id if sid is None else parse_id(sid) or ""
        found.setdefault(id_, []).append(name)
    if settings.accept_loopback:
        found.setdefault(first.id, []).append("this machine")
    return found


async def _peer(
    one: PeerSettings | TrunkSettings, first: Account, accounts: AccountService
) -> Peer:
    return Peer(
        name=one.name,
        networks=tuple(ipaddress.ip_network(text, strict=False) for text in one.addresses),
        account_id=await account_of(one.name, one.account_sid, first, accounts),
        record=begins_with(one.record, one.retention_days),
        our_side=one.our_side if isinstance(one, PeerSettings) else None,
        srtp=one.srtp,
    )


async def account_of(name: str, sid: str | None, first: Account, accounts: AccountService) -> str:
    """The id of the account that ``name`` is of. Raises ``UsageError``."""
    if sid is None:
        return first.id
    found = await accounts.get(parse_id(sid) or "")
    if found is None:
        raise UsageError(f"{name}: there is no account {sid}")
    return found.id
