"""A small webhook receiver on 127.0.0.1: what a program that listens for events would be.

It keeps every request that comes and answers as it was told to. The demo shows with it what
arrives; tests make it refuse, stall and redirect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import h11

MAX_BODY_BYTES = 1024 * 1024
_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request as it came."""

    method: str
    """``GET`` or ``POST``."""
    url: str
    """As a framework would tell it: scheme, Host header, target."""
    headers: tuple[tuple[str, str], ...]
    """In order, names in lower case."""
    body: bytes
    """As it came."""

    @property
    def fields(self) -> dict[str, str]:
        """What it says: form fields of a POST, query of a GET."""
        text = urlsplit(self.url).query if self.method == "GET" else self.body.decode()
        return dict(parse_qsl(text, keep_blank_values=True))

    @property
    def event(self) -> str:
        """The recording's status, or the call's, or empty."""
        fields = self.fields
        return fields.get("RecordingStatus") or fields.get("CallStatus") or ""

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver says to a request."""

    status: int = 204
    """HTTP status."""
    headers: tuple[tuple[str, str], ...] = ()
    """Besides Content-Length, which is added."""
    body: bytes = b""
    """Sent as it is."""
    delay_s: float = 0.0
    """Waited before the answer."""


class WebhookReceiver:
    """An HTTP server on a port of its own, as an async context manager.

    Every request is kept in :attr:`received` and answered with the next of :attr:`answers`, or
    with 204 where there is none.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        on_webhook: Callable[[Webhook], None] | None = None,
    ) -> None:
        """``on_webhook`` is called with each request before it is answered."""
        self.received: list[Webhook] = []
        self.answers: deque[Answer] = deque()
        self.default = Answer()
        self._host, self._port, self._tls = host, port, tls
        self._on_webhook = on_webhook
        self._server: asyncio.Server | None = None
        self._arrival = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where to send webhooks to."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}/webhook"

    @property
    def port(self) -> int:
        """The TCP port, once started."""
        return self._port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(
            self._accept, self._host, self._port, ssl=self._tls
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end what is being answered."""
        if self._server is not None:
            self._server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def wait_for(self, event: str, timeout_s: float = 10.0) -> Webhook:
        """The first webhook of that event (``completed`` …). Raises TimeoutError."""
        return await self.wait_until(lambda webhook: webhook.event == event, timeout_s)

    async def wait_until(
        self, wanted: Callable[[Webhook], bool], timeout_s: float = 10.0
    ) -> Webhook:
        """The first webhook that is wanted, come or to come. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._arrival:
            while True:
                found = next((webhook for webhook in self.received if wanted(webhook)), None)
                if found is not None:
                    return found
                await self._arrival.wait()

    async def wait_count(self, count: int, timeout_s: float = 10.0) -> list[Webhook]:
        """All webhooks, once there are so many. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._arrival:
            await self._arrival.wait_for(lambda: len(self.received) >= count)
        return list(self.received)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, h11.ProtocolError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # stopped: the task ends here, nobody awaits it but stop()
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            webhook = await self._read(connection, reader)
            if webhook is None:
                return
            self.received.append(webhook)
            if self._on_webhook is not None:
                self._on_webhook(webhook)
            async with self._arrival:
                self._arrival.notify_all()
            answer = self.answers.popleft() if self.answers else self.default
            if answer.delay_s:
                await asyncio.sleep(answer.delay_s)
            response = h11.Response(
                status_code=answer.status,
                headers=[
                    *answer.headers,
                    ("Content-Length", str(len(answer.body))),
                ],
            )
            writer.write(connection.send(response) or b"")
            if answer.body and answer.status != 204:
                writer.write(connection.send(h11.Data(answer.body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _read(
        self, connection: h11.Connection, reader: asyncio.StreamReader
    ) -> Webhook | None:
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(_IDLE_S):
                    connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY_BYTES:
                    return None
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return self._webhook(request, bytes(body))
            else:
                return None

    def _webhook(self, request: h11.Request, body: bytes) -> Webhook:
        headers = tuple((name.decode(), value.decode("latin-1")) for name, value in request.headers)
        host = next((value for name, value in headers if name == "host"), "")
        scheme = "https" if self._tls else "http"
        target = request.target.decode("latin-1")
        return Webhook(request.method.decode(), f"{scheme}://{host}{target}", headers, body)
