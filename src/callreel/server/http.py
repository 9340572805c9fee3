"""uvicorn in this process, started and stopped by us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handlers: shutting down is ours to order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """Serve ``app`` while the context lasts; requests under way are let finish, for 5 s."""
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
            timeout_keep_alive=65,  # longer than clients and proxies usually wait: they close first
            server_header=False,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task
