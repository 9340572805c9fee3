"""Where we listen, and by what address a peer reaches us: Via, Contact, and the socket to use."""

from __future__ import annotations

import ipaddress

from callreel.signalling.streams import Streams
from callreel.signalling.transport import UdpSocket, routed_host
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import format_hostport


class Addressing:
    """Our side of every flow. ``public_host`` replaces the bound address, for peers of its own
    address family; a name is for all of them.
    """

    def __init__(self, streams: Streams, *, user: str, public_host: str | None) -> None:
        self.udp: list[UdpSocket] = []
        """The sockets for datagrams."""
        self.listeners: dict[Transport, list[tuple[str, int]]] = {
            Transport.TCP: [],
            Transport.TLS: [],
        }
        """What is bound for connections."""
        self._streams = streams
        self._user = user
        self._public_host = public_host

    @property
    def is_listening(self) -> bool:
        """Whether requests can reach us."""
        return bool(self.udp or any(self.listeners.values()))

    @property
    def spoken(self) -> list[Transport]:
        """The transports that we can send over: connections can always be opened."""
        return [*([Transport.UDP] if self.udp else []), Transport.TCP, Transport.TLS]

    def is_ours(self, host: str, port: int) -> bool:
        """Whether what is sent there comes back to us. Names but our public one are not looked
        up."""
        bound = [udp.local for udp in self.udp]
        bound += [one for listeners in self.listeners.values() for one in listeners]
        hosts = {one for one, its_port in bound if its_port == port}
        if not hosts or host == self._public_host or host in hosts:
            return bool(hosts)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return bool(hosts & {"", "0.0.0.0", "::"}) and routed_host(host, port) == host

    def reaches(self, flow: Flow) -> bool:
        """True if we listen in the address family of ``flow``, or listen nowhere at all."""
        if flow.transport is Transport.UDP:
            return self.udp_for(flow) is not None
        hosts = [udp.local[0] for udp in self.udp]
        hosts += [host for bound in self.listeners.values() for host, _ in bound]
        return not hosts or any(_same_family(host, flow.host) for host in hosts)

    def contact(self, flow: Flow, user: str | None = None, *, secure: bool = False) -> str:
        """Our URI for the peer at the other end of ``flow``.

        ``secure`` is for a peer that used a ``sips:`` URI: ours must be one too (§8.1.1.8).
        """
        where = f"{user or self._user}@{self.sent_by(flow)}"
        if secure and flow.transport is Transport.TLS:
            return f"sips:{where}"
        suffix = "" if flow.transport is Transport.UDP else f";transport={flow.transport.lower()}"
        return f"sip:{where}{suffix}"

    def sent_by(self, flow: Flow) -> str:
        """Our ``host:port`` as the peer at the other end of ``flow`` should see it."""
        host = flow.local[0] if flow.local else ""
        port = flow.local[1] if flow.local else 0
        if flow.transport is Transport.UDP:
            if not port:
                udp = self.udp_for(flow)
                host, port = udp.local if udp else ("", 5060)
        else:
            connection = self._streams.find(flow)
            host, port = connection.local if connection else (host, port)
            port = self._listening_port(flow, host) or port
        if self._is_public_for(flow) and self._public_host:
            host = self._public_host
        elif host in ("", "0.0.0.0", "::"):
            host = routed_host(flow.host, flow.port)
        return format_hostport(host, port)

    def udp_for(self, flow: Flow) -> UdpSocket | None:
        """The socket for ``flow``: the one it names, else the first that speaks its family."""
        family = [udp for udp in self.udp if _same_family(udp.local[0], flow.host)]
        for udp in family:
            if udp.local == flow.local:
                return udp
        return family[0] if family else None

    def _listening_port(self, flow: Flow, host: str) -> int | None:
        """Where the peer can connect to us: at the same address if possible."""
        bound = self.listeners[flow.transport]
        family = [one for one in bound if _same_family(one[0], flow.host)]
        exact = [one for one in family if one[0] == host]
        return next((port for _, port in (*exact, *family)), None)

    def _is_public_for(self, flow: Flow) -> bool:
        try:
            ipaddress.ip_address(self._public_host or "")
        except ValueError:
            return True
        return _same_family(self._public_host or "", flow.host)


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)
