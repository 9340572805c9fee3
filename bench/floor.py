"""The floor of the API's figures: an endpoint that does nothing, on the server's own HTTP stack."""

from __future__ import annotations

import asyncio
import multiprocessing
from multiprocessing.connection import Connection

import uvicorn
import uvloop
from fastapi import FastAPI, Request


class Floor:
    """A process that answers every POST and GET of ``/`` with ``{}``; a context manager."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        self.url = f"http://127.0.0.1:{here.recv()}"
        """Where it listens."""

    def __enter__(self) -> Floor:
        """Listening."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ended."""
        self._process.kill()
        self._process.join()


def _app() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/")
    async def start(request: Request) -> dict[str, str]:
        await request.body()
        return {}

    @app.get("/")
    async def look() -> dict[str, str]:
        return {}

    return app


def _serve(pipe: Connection) -> None:
    config = uvicorn.Config(
        _app(), port=0, log_config=None, access_log=False, lifespan="off", server_header=False
    )
    listening = config.bind_socket()
    pipe.send(listening.getsockname()[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listening]))
