"""A TCP relay between a client and the server that keeps what passes, to be read afterwards."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import h11


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer."""

    method: str
    """``GET`` …"""
    target: str
    """Path and query."""
    status: int
    """HTTP status."""
    content_type: str
    """The answer's."""
    body: bytes
    """The answer's."""

    @property
    def path(self) -> str:
        """Without the query."""
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.passed: list[tuple[bytearray, bytearray]] = []


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        there, back = bytearray(), bytearray()
        self.server.passed.append((there, back))
        with socket.create_connection(self.server.upstream) as upstream:
            answers = threading.Thread(target=_pump, args=(upstream, self.request, back))
            answers.start()
            _pump(self.request, upstream, there)
            answers.join()


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Relay:
    """A context manager; :attr:`url` is where clients go instead of ``upstream_url``."""

    def __init__(self, upstream_url: str) -> None:
        parts = urlsplit(upstream_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = _Server((parts.hostname, parts.port))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def exchanges(self) -> list[Exchange]:
        """All that was asked and answered, connection by connection."""
        return [
            one for there, back in list(self._server.passed) for one in _read(there, bytes(back))
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _read(there: bytes | bytearray, back: bytes) -> list[Exchange]:
    requests = []
    asking = h11.Connection(h11.SERVER)
    asking.receive_data(bytes(there))
    while isinstance(event := asking.next_event(), h11.Request):
        requests.append(event)
        while not isinstance(event, h11.EndOfMessage):
            event = asking.next_event()
            assert event not in (h11.NEED_DATA, h11.PAUSED), "half a request"
        if asking.their_state is not h11.DONE:
            break  # it said Connection: close
        # Let it believe that the request was answered: only then does it read the next.
        asking.send(h11.Response(status_code=204, headers=[]))
        asking.send(h11.EndOfMessage())
        asking.start_next_cycle()
    found = []
    answering = h11.Connection(h11.CLIENT)
    answering.receive_data(back)
    for number, request in enumerate(requests):
        if number:
            answering.start_next_cycle()
        answering.send(
            h11.Request(method=request.method, target=request.target, headers=[("Host", "x")])
        )
        answering.send(h11.EndOfMessage())
        response = answering.next_event()
        assert isinstance(response, h11.Response)
        body = b""
        while not isinstance(event := answering.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
        found.append(
            Exchange(
                request.method.decode(),
                request.target.decode(),
                response.status_code,
                dict(response.headers).get(b"content-type", b"").decode(),
                body,
            )
        )
    return found
