"""A program: a small HTTP application that says what to do with calls, and is told of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

from callreel.delivery.signature import sign

Fields = dict[str, str]
Page = str | bytes | Callable[[Fields], object]
"""A document, or what makes one of the fields: a builder's object will do."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    fields: Fields
    method: str
    signed: bool
    """Whether it was signed with the account's token, for the URL as it was asked."""
    at: float = field(default_factory=time.monotonic)


class Program:
    """A context manager. ``pages`` are its documents by path; what has none is answered 204, as
    what is only told something is.
    """

    def __init__(self, token: str) -> None:
        self.pages: dict[str, Page] = {}
        self.statuses: dict[str, int] = {}
        self.asked: list[Asked] = []
        self._token = token
        self._changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"program": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def all(self, path: str) -> list[Asked]:
        with self._changed:
            return [one for one in self.asked if one.path == path]

    def wait(
        self,
        path: str,
        fits: Callable[[Fields], bool] = lambda _: True,
        *,
        count: int = 1,
        seconds: float = 15,
    ) -> list[Fields]:
        """What was told at a path, once so many fit."""
        with self._changed:
            found: list[Fields] = []

            def enough() -> bool:
                found[:] = [one.fields for one in self.asked if one.path == path]
                found[:] = [one for one in found if fits(one)]
                return len(found) >= count

            assert self._changed.wait_for(enough, seconds), (path, self.asked)
            return list(found)

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
        page = self.pages.get(asked.path)
        if page is None:
            return self.statuses.get(asked.path, 204), b""
        made = page(asked.fields) if callable(page) else page
        body = made if isinstance(made, bytes) else str(made).encode()
        return self.statuses.get(asked.path, 200), body

    def is_signed(self, url: str, fields: Fields, given: str | None) -> bool:
        return given == sign(self._token, url, fields)

    def __enter__(self) -> Program:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone away: some tests want that."""

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.settimeout(30)
        return connection, address


class _Handler(BaseHTTPRequestHandler):
    program: Program
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._take(b"")

    def do_POST(self) -> None:
        self._take(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _take(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        url = f"http://{self.headers['Host']}{self.path}"
        signed = self.program.is_signed(url, form, self.headers.get("X-Twilio-Signature"))
        status, answer = self.program.answer(Asked(parts.path, query | form, self.command, signed))
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if status != 204:
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
