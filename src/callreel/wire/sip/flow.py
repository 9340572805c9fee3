"""Where messages come from and go to."""

from __future__ import annotations

import dataclasses
import enum


class Transport(enum.StrEnum):
    """The transports of SIP (RFC 3261 §18), spelt as in a Via."""

    UDP = "UDP"
    TCP = "TCP"
    TLS = "TLS"

    @property
    def reliable(self) -> bool:
        """True if the transport retransmits by itself, so that transactions need not."""
        return self is not Transport.UDP


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """A way to a peer and back: a transport and both ends of it (RFC 5626 §3)."""

    transport: Transport
    """How."""

    host: str
    """The peer's IP address, IPv6 without brackets."""

    port: int
    """The peer's port; for a connection that the peer opened, its end of that connection."""

    local: tuple[str, int] | None = None
    """Our end: the bound address and port of the socket. None lets the shell choose."""

    domain: str | None = None
    """Over TLS, the host whose certificate the other end has to show if we open the connection
    (RFC 5922 §4): that of the URI, whatever the DNS made of it. None: the address."""

    @property
    def unbound(self) -> Flow:
        """The same without our end: what identifies a connection."""
        return self if self.local is None else dataclasses.replace(self, local=None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.lower()}:{host}:{self.port}"
