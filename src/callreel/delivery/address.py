"""Which addresses webhooks may be sent to, asked once a name has been resolved. No I/O.

A program's callback URL must not make the server speak to the cloud's metadata service or to the
network at large. Private networks and the machine itself are allowed by default: callreel is run
by those whose programs live there.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from callreel.base.errors import UsageError

_Network = IPv4Network | IPv6Network

ALWAYS_DENIED: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("169.254.0.0/16", "link-local"),
    ("100.100.100.200/32", "a cloud's metadata service"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("192.0.0.192/32", "a cloud's metadata service"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("fe80::/10", "link-local"),
    ("fd00:ec2::254/128", "a cloud's metadata service"),
    ("fd20:ce::254/128", "a cloud's metadata service"),
    ("ff00::/8", "multicast"),
)
"""Denied unless a network that contains them is allowed by name."""

PRIVATE: tuple[tuple[str, str], ...] = (
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "private"),
    ("127.0.0.0/8", "loopback"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "private"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
    ("fec0::/10", "private"),
)
"""Denied where :attr:`AddressPolicy.deny_private` says so."""

_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


def _networks(table: tuple[tuple[str, str], ...]) -> tuple[tuple[_Network, str], ...]:
    return tuple((ip_network(text), reason) for text, reason in table)


_DENIED_NETWORKS = _networks(ALWAYS_DENIED)
_PRIVATE_NETWORKS = _networks(PRIVATE)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What an operator allows."""

    deny_private: bool = False
    """Deny private networks and loopback as well: for servers whose programs are not trusted."""
    allow: tuple[str, ...] = ()
    """Networks allowed whatever else is said, ``10.1.2.0/24``."""
    deny: tuple[str, ...] = ()
    """Networks denied besides."""

    def __post_init__(self) -> None:
        for text in (*self.allow, *self.deny):
            try:
                ip_network(text)
            except ValueError as error:
                raise UsageError(f"not a network for the address policy: {error}") from None

    def refusal(self, address: str) -> str | None:
        """Why a numeric address is denied, or None where it is allowed."""
        try:
            found = ip_address(address)
        except ValueError:
            return "not a numeric address"
        for candidate in _meanings(found):
            if any(candidate in network for network in map(ip_network, self.allow)):
                continue
            denied = _DENIED_NETWORKS + (_PRIVATE_NETWORKS if self.deny_private else ())
            denied += tuple((ip_network(text), "denied by setting") for text in self.deny)
            for network, reason in denied:
                if candidate in network:
                    return reason
        return None


def _meanings(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, and the IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64)."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.scope_id is not None:
        address = IPv6Address(int(address))
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    meanings: list[IPv4Address | IPv6Address] = [address]
    if address.sixtofour is not None:
        meanings.append(address.sixtofour)
    if any(address in network for network in _TRANSLATED):
        meanings.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return meanings
