"""A small HTTP client, so that what is measured is the server and not its caller.

HTTP/1.1 over connections that are kept, as programs that start many recordings keep them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and how long it took to come."""

    status: int
    """HTTP status."""
    body: bytes
    """All of it."""
    elapsed_ms: float
    """From the request's first byte to the response's last, a free connection at hand."""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class HttpClient:
    """Keeps connections to one server; as many as there are requests at the same time."""

    def __init__(self, base_url: str, user: str = "", password: str = "") -> None:
        url = urlsplit(base_url)
        assert url.hostname is not None
        self._host, self._port = url.hostname, url.port or 80
        self._idle: list[_Connection] = []
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._head = f"Host: {self._host}:{self._port}\r\nAuthorization: Basic {credentials}\r\n"

    async def connect(self, count: int) -> None:
        """Have so many connections open beforehand."""
        while len(self._idle) < count:
            self._idle.append(await asyncio.open_connection(self._host, self._port))

    async def get(self, path: str) -> Answer:
        """GET."""
        return await self._ask(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())

    async def post(self, path: str, **fields: str) -> Answer:
        """POST a form."""
        body = urlencode(fields)
        return await self._ask(
            (
                f"POST {path} HTTP/1.1\r\n{self._head}"
                "Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )

    async def close(self) -> None:
        """Close all connections."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            await writer.wait_closed()

    async def _ask(self, request: bytes) -> Answer:
        """One exchange. A kept connection that the server closes as we write is no failure."""
        while (connection := self._kept()) is not None:
            try:
                return await self._exchange(connection, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                connection[1].close()
        fresh = await asyncio.open_connection(self._host, self._port)
        return await self._exchange(fresh, request)

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        reader, writer = connection
        started = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        body = await reader.readexactly(_content_length(head))
        self._idle.append(connection)
        return Answer(status, body, (time.perf_counter() - started) * 1000)

    def _kept(self) -> _Connection | None:
        """An idle connection that the server has not closed meanwhile."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None


def _content_length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    raise ValueError(f"a response without Content-Length: {head!r}")
