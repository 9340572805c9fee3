"""Peers behind network address translation: what they say of themselves is not where they are.

For those that are known to be (registered phones, peers with ``nat = true``) the address that their
packets come from counts, where the one that they name is private (RFC 1918, RFC 4193). Pure.
"""

from __future__ import annotations

import ipaddress

from callreel.wire.sip.flow import Flow
from callreel.wire.sip.values import URI


def is_elsewhere(named: str, seen: str) -> bool:
    """Whether a named address cannot be reached, and the peer is at the one that is seen.

    >>> is_elsewhere("192.168.1.7", "203.0.113.9"), is_elsewhere("203.0.113.9", "203.0.113.9")
    (True, False)
    """
    try:
        address, source = ipaddress.ip_address(named.strip("[]")), ipaddress.ip_address(seen)
    except ValueError:
        return False
    if address == source or address.is_loopback or not address.is_private:
        return False
    return not source.is_private or address.is_link_local


def reachable_target(target: str, flow: Flow) -> str:
    """A Contact as our requests are sent to it: by ``flow``, where what it names is elsewhere."""
    try:
        uri = URI.parse(target)
    except ValueError:
        return target
    if not is_elsewhere(uri.host, flow.host):
        return target
    at = URI(
        scheme=uri.scheme,
        user=uri.user,
        host=flow.host,
        port=flow.port,
        parameters=uri.parameters,
    )
    return str(at)
