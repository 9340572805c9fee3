"""uvicorn in this process, started and stopped by us."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MOST_CONNECTIONS = 4096
"""Of each listener at once, idle ones too; whoever comes then is answered 503."""
HANDSHAKE_S = 10.0
"""How long a TLS handshake may take; asyncio's own bound is a minute."""
CLOSE_S = 30.0
"""How long a closed TLS connection has for what is left to send, at a slow client's pace, and for
the client's close_notify (RFC 8446 §6.1)."""
GOODBYE_S = 1.0
"""The same for the close_notify alone, when the server shuts down: many clients never send one."""


class Bounded:
    """ASGI middleware: so many requests at once and no more; the others get 503."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self.most = most
        """At once; 0: no limit. May be changed at any time."""
        self.under_way = 0
        """Now."""
        self.refused = 0
        """So far."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or turn it away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.most and self.under_way >= self.most:
            self.refused += 1
            await _BUSY(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= 1


_BUSY = JSONResponse(
    {"code": 20504, "message": "Too many requests at once", "more_info": "", "status": 503},
    status_code=503,
    headers={"Retry-After": "1"},
)


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handlers: shutting down is ours to order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _TlsServer(_Server):
    """Listens by itself: uvicorn's way to do so has no bounds on handshakes."""

    def __init__(
        self, config: uvicorn.Config, listening: socket.socket, context: ssl.SSLContext
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._context = context

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        protocol: Any = self.config.http_protocol_class  # its keywords are not in its type
        connection = partial(
            protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.servers.append(
            await asyncio.get_running_loop().create_server(
                connection,
                sock=self._listening,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_S,
                backlog=self.config.backlog,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hanging_up = asyncio.get_running_loop().call_later(GOODBYE_S, self._hang_up)
        try:
            await super().shutdown(sockets)
        finally:
            hanging_up.cancel()

    def _hang_up(self) -> None:
        """End what only waits for the client's farewell."""
        for connection in list(self.server_state.connections):
            transport = connection.transport
            if transport.is_closing() and not transport.get_write_buffer_size():
                transport.abort()


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listening: socket.socket,
    *,
    tls: tuple[socket.socket, ssl.SSLContext] | None = None,
    trusted_proxies: Sequence[str] = (),
) -> AsyncIterator[None]:
    """Serve ``app``, and by TLS on a second socket, while the context lasts.

    Requests under way are let finish, for 5 s.
    """
    servers: list[tuple[uvicorn.Server, list[socket.socket]]] = [
        (_Server(_config(app, trusted_proxies)), [listening])
    ]
    if tls is not None:
        servers.append((_TlsServer(_config(app, trusted_proxies), *tls), []))
    tasks = [
        asyncio.create_task(server.serve(sockets=sockets), name="http")
        for server, sockets in servers
    ]
    try:
        yield
    finally:
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


def _config(app: ASGIApp, trusted_proxies: Sequence[str]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=65,  # longer than clients and proxies usually wait: they close first
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        forwarded_allow_ips=list(trusted_proxies),  # whose word on who the client is counts
    )
