"""Where programs and browsers reach the server: the sockets of HTTP and HTTPS, bound."""

from __future__ import annotations

import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass

from callreel.base.clock import Clock
from callreel.server.addresses import Bound, bind_tcp, reachable, url_host
from callreel.server.datadir import DataDir
from callreel.server.settings import Settings
from callreel.server.tls import Tls, tls_of


@dataclass(frozen=True, slots=True)
class Front:
    """The sockets and how they are reached."""

    http: socket.socket
    """Bound."""
    http_host: str
    """As it was asked for."""
    http_port: int
    """As it was bound."""
    http_url: str
    """Without a path."""
    tls: Tls | None = None
    """The certificate; None without HTTPS."""
    secured: tuple[socket.socket, ssl.SSLContext] | None = None
    """The socket of HTTPS, bound, and its context."""
    https_port: int = 0
    """0 without HTTPS."""
    https_url: str | None = None
    """None without HTTPS."""

    @classmethod
    def open(
        cls, settings: Settings, bound: Bound, data: DataDir, clock: Clock, stack: AsyncExitStack
    ) -> Front:
        """Bind them; ``stack`` closes them. Raises ``UsageError`` or ``MachineError``."""
        http = bind_tcp(bound.http(settings.http_address))
        stack.callback(http.close)
        host, port = http.getsockname()[:2]
        url = f"http://{url_host(reachable(host))}:{port}"
        if settings.https_address is None:
            return cls(http, host, port, url)
        tls = tls_of(settings, data.tls, clock)
        https = bind_tcp(bound.https(settings.https_address), option="--https")
        stack.callback(https.close)
        https_host, https_port = https.getsockname()[:2]
        https_url = f"https://{url_host(reachable(https_host))}:{https_port}"
        return cls(http, host, port, url, tls, (https, tls.context), https_port, https_url)
