"""Where a URI's host is to be found (RFC 3263): what to ask the DNS, and in what order to try
what it answers. No I/O; randomness is handed in.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable, Sequence

from callreel.base.errors import PeerError
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.values import URI

MAX_SERVERS = 16
"""SRV records of one name that are used."""
MAX_FLOWS = 32
"""Ways to one host that are tried."""
AVOID_SECONDS = 30.0
"""A host that failed is tried last for this long."""
_MAX_AVOIDED = 1_024

_SERVICES = {
    "SIP+D2U": Transport.UDP,
    "SIP+D2T": Transport.TCP,
    "SIPS+D2T": Transport.TLS,
}
_SRV_PREFIX = {
    Transport.UDP: "_sip._udp.",
    Transport.TCP: "_sip._tcp.",
    Transport.TLS: "_sips._tcp.",
}


def default_port(transport: Transport) -> int:
    """The port where nothing names one (RFC 3261 §19.1.2)."""
    return 5061 if transport is Transport.TLS else 5060


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a URI says about where its host is. ``maddr`` is not followed: a URI of a peer could
    send our requests to anybody with it.
    """

    host: str
    """A name in lower case, or an IP address without brackets."""

    port: int | None
    """The port, if it names one."""

    transport: Transport | None
    """The transport, if it is settled without asking the DNS."""

    secure: bool
    """True for ``sips``: TLS and nothing else."""

    is_address: bool
    """True if ``host`` is an IP address."""

    @classmethod
    def of(cls, uri: URI, transport: Transport | None = None) -> Target:
        """Read ``uri``; ``transport`` wins over its parameter. Raises PeerError (416)."""
        named = (uri.parameters.get("transport") or "").upper()
        if uri.scheme not in ("sip", "sips") or named not in ("", "UDP", "TCP", "TLS"):
            raise PeerError(
                f"{uri}: only sip: and sips: over UDP, TCP and TLS are spoken", status=416
            )
        secure = uri.scheme == "sips"
        chosen = transport or (Transport(named) if named else None)
        if secure:
            if chosen is Transport.UDP:
                raise PeerError(f"{uri}: sips: needs TLS", status=416)
            chosen = Transport.TLS
        host = uri.host.strip("[]").rstrip(".").lower()
        try:
            host = str(ipaddress.ip_address(host))
            is_address = True
        except ValueError:
            is_address = False
        if chosen is None and (is_address or uri.port is not None):
            chosen = Transport.UDP
        return cls(host, uri.port, chosen, secure, is_address)

    def flow(
        self, address: str, port: int | None = None, transport: Transport | None = None
    ) -> Flow:
        """The flow to ``address``; over TLS it has to show the certificate of our host."""
        chosen = transport or self.transport or Transport.UDP
        return Flow(
            chosen,
            address,
            port or self.port or default_port(chosen),
            domain=self.host if chosen is Transport.TLS else None,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Naptr:
    """A NAPTR record (RFC 3403 §4)."""

    order: int
    """Lower ones first, and others only if none of these will do."""
    preference: int
    """Lower ones first among equals."""
    flags: str
    """``s``: the replacement is the name of an SRV record."""
    service: str
    """``SIP+D2U`` and the like."""
    replacement: str
    """Where to look next."""


@dataclasses.dataclass(frozen=True, slots=True)
class Srv:
    """An SRV record (RFC 2782)."""

    priority: int
    """Lower ones first."""
    weight: int
    """How large a share among those of the same priority."""
    port: int
    """Where the service listens."""
    target: str
    """The name of the host; empty: the service is decidedly not there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A transport of a domain, and the SRV name of its servers."""

    transport: Transport
    """How."""
    name: str
    """What to ask for SRV records."""


def services_by_naptr(
    records: Iterable[Naptr], target: Target, spoken: Sequence[Transport]
) -> list[Service]:
    """The services that a domain prefers, best first (RFC 3263 §4.1); empty: nothing usable."""
    usable: list[Service] = []
    for record in sorted(records, key=lambda one: (one.order, one.preference)):
        transport = _SERVICES.get(record.service.upper())
        if transport is None or record.flags.lower() != "s" or transport not in spoken:
            continue
        if target.secure and transport is not Transport.TLS:
            continue
        service = Service(transport, record.replacement.rstrip(".").lower())
        if service.name and service not in usable:
            usable.append(service)
    return usable


def services_by_name(target: Target, spoken: Sequence[Transport]) -> list[Service]:
    """The SRV names to ask for without NAPTR records, in our order of preference.

    TLS only where the URI asks for it: a name that answers there too must not change what is used.
    """
    if target.transport is not None:
        transports: Sequence[Transport] = [target.transport]
    else:
        transports = [one for one in (Transport.UDP, Transport.TCP) if one in spoken]
    return [Service(one, _SRV_PREFIX[one] + target.host) for one in transports]


def order_servers(records: Iterable[Srv], fraction: Callable[[], float]) -> list[Srv]:
    """SRV records in the order in which to try them (RFC 2782): by priority, then drawn by
    weight. ``fraction`` gives random numbers from 0 up to 1.
    """
    ordered: list[Srv] = []
    left = sorted(records, key=lambda one: (one.priority, one.weight))
    left = [one for one in left if one.target.rstrip(".")]
    while left:
        group = [one for one in left if one.priority == left[0].priority]
        del left[: len(group)]
        while group:
            # Those of weight 0 stand first and are drawn only by a 0, as the RFC has it.
            total = sum(one.weight for one in group)
            drawn = min(int(fraction() * (total + 1)), total)
            running = 0
            for position, one in enumerate(group):
                running += one.weight
                if running >= drawn:
                    ordered.append(group.pop(position))
                    break
    return ordered[:MAX_SERVERS]


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """The names in a hosts file (hosts(5)), in lower case, with their addresses."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            plain = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        for name in names:
            addresses = found.setdefault(name.rstrip(".").lower(), [])
            if plain not in addresses:
                addresses.append(plain)
    return {name: tuple(addresses) for name, addresses in found.items()}


class Reachability:
    """Who failed lately. Times: monotonic seconds."""

    def __init__(self, *, avoid_seconds: float = AVOID_SECONDS) -> None:
        self._avoid_seconds = avoid_seconds
        self._until: dict[Flow, float] = {}

    def failed(self, flow: Flow, *, now: float) -> None:
        """A request over ``flow`` got no answer, could not be sent, or was answered 503."""
        if len(self._until) >= _MAX_AVOIDED:
            self._until = {one: until for one, until in self._until.items() if until > now}
        if len(self._until) < _MAX_AVOIDED:
            self._until[flow.unbound] = now + self._avoid_seconds

    def succeeded(self, flow: Flow) -> None:
        """A request over ``flow`` was answered."""
        self._until.pop(flow.unbound, None)

    def sort(self, flows: Iterable[Flow], *, now: float) -> list[Flow]:
        """Those that failed last, otherwise in the order given."""
        return sorted(flows, key=lambda flow: self._until.get(flow.unbound, now) > now)
