"""Who may send calls here, and what is done with them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from callreel.calls.model import RecordingRequest
from callreel.signalling.security import SrtpPolicy

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Peer:
    """A session border controller, PBX or trunk."""

    name: str
    """Shown in logs and with its calls."""
    networks: tuple[Network, ...]
    """Where its SIP comes from."""
    account_id: str
    """Whose its calls are."""
    record: RecordingRequest | None
    """The recording that each call begins with; None: nothing is kept until the API asks."""
    our_side: str | None
    """AoR or domain of ours, see ``parties``."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """What may protect the media of its calls."""


class PeerDirectory:
    """The configured peers. An address belongs to the peer with the narrowest network."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.replace(peers)

    def replace(self, peers: Sequence[Peer]) -> None:
        """Go by these from now on: the configuration was read anew."""
        entries = [(network, peer) for peer in peers for network in peer.networks]
        self._entries = sorted(entries, key=lambda entry: -entry[0].prefixlen)

    def find(self, host: str) -> Peer | None:
        """The peer at a numeric address, or None."""
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        for network, peer in self._entries:
            if address.version == network.version and address in network:
                return peer
        return None

    def named(self, name: str) -> Peer | None:
        """The peer of that name, or None."""
        return next((peer for _, peer in self._entries if peer.name == name), None)

    def may_speak(self, host: str) -> bool:
        """Whether SIP from this address is read at all."""
        return self.find(host) is not None
