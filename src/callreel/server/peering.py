"""From the settings' peers to those that signalling knows."""

from __future__ import annotations

import ipaddress

from callreel.base.errors import UsageError
from callreel.base.ids import parse_id
from callreel.calls.model import Account
from callreel.server.settings import PeerSettings, Settings
from callreel.service.accounts import AccountService
from callreel.signalling.peers import Peer


async def configured_peers(
    settings: Settings, first: Account, accounts: AccountService
) -> list[Peer]:
    """The configured peers, and this machine itself. Raises ``UsageError``."""
    peers = [await _peer(one, first, accounts) for one in settings.peers]
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


def takes_calls_of(settings: Settings, first: Account) -> dict[str, list[str]]:
    """Whose calls the settings give to each account, by account id, in words."""
    found: dict[str, list[str]] = {}
    for one in settings.peers:
        id_ = first.id if one.account_sid is None else parse_id(one.account_sid) or ""
        found.setdefault(id_, []).append(f"peer {one.name}")
    if settings.accept_loopback:
        found.setdefault(first.id, []).append("this machine")
    return found


async def _peer(one: PeerSettings, first: Account, accounts: AccountService) -> Peer:
    account = first
    if one.account_sid is not None:
        found = await accounts.get(parse_id(one.account_sid) or "")
        if found is None:
            raise UsageError(f"peer {one.name}: there is no account {one.account_sid}")
        account = found
    return Peer(
        name=one.name,
        networks=tuple(ipaddress.ip_network(text, strict=False) for text in one.addresses),
        account_id=account.id,
        record=one.record.request,
        our_side=one.our_side,
    )
