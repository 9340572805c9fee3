"""Sends one webhook: finds the address, asks the policy, connects to that very address, reports.

Never raises for what a receiver does, and believes nothing of it but the status and Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.delivery.address import AddressPolicy
from callreel.delivery.model import Outcome, Result
from callreel.delivery.request import PreparedRequest, redirect
from callreel.delivery.schedule import parse_retry_after

MAX_REDIRECTS = 3
MAX_ADDRESSES = 4
MAX_ANSWER_BYTES = 1024
ANSWER_PATIENCE_S = 0.5
"""For the answer's body, which decides nothing."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Resolver(Protocol):
    """Where names become addresses."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Numeric addresses, best first. Raises ``OSError`` where there are none."""
        ...


class SystemResolver:
    """The machine's own resolver, in threads of its own.

    A look-up cannot be stopped once begun, and a broken name server takes half a minute: so there
    is one look-up a name at a time, and they never take the threads that others use.
    """

    def __init__(self, threads: int = 16) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="callreel-resolve")
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Numeric addresses, best first. Raises ``OSError`` where there are none."""
        with contextlib.suppress(ValueError):
            return [str(ip_address(host))]
        key = (host, port)
        future = self._running.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._pool, _look_up, host, port)
            self._running[key] = future
            future.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(future)

    def close(self) -> None:
        """Stop; look-ups that run are abandoned."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, key: tuple[str, int], future: asyncio.Future[list[str]]) -> None:
        self._running.pop(key, None)
        if not future.cancelled():
            future.exception()  # nobody may be waiting for it any more


class Sender:
    """Sends prepared requests, each over a connection of its own.

    Connections are not kept: one to an address was made for one name, and its certificate checked
    for that name, while the next webhook to the same address may be for another.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        policy: AddressPolicy | None = None,
        resolver: Resolver | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """``ca_file``: certificates (PEM) to trust besides the system's and the usual ones."""
        self._clock = clock
        self.policy = policy or AddressPolicy()
        """Where webhooks may go. May be replaced at any time."""
        self._own_resolver: SystemResolver | None = None
        if resolver is None:
            resolver = self._own_resolver = SystemResolver()
        self._resolver = resolver
        context = httpx.create_ssl_context()
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        # The transport alone: a client would add cookies, proxies and redirects of its own.
        self._transport = httpx.AsyncHTTPTransport(
            verify=context,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections and threads."""
        await self._transport.aclose()
        if self._own_resolver is not None:
            self._own_resolver.close()

    async def attempt(self, request: PreparedRequest) -> Outcome:
        """Try once, redirects included. Raises nothing but cancellation."""
        try_ = _Try(self._clock)
        total_s = request.timeouts.total_ms / 1000
        try:
            async with asyncio.timeout(total_s):
                return await self._follow(request, try_)
        except TimeoutError:
            return try_.outcome(Result.TIMEOUT, error=f"no answer within {total_s:g} s")
        except httpx.TimeoutException as error:
            what = "connection" if isinstance(error, httpx.ConnectTimeout) else "answer"
            return try_.outcome(Result.TIMEOUT, error=f"no {what} in time")
        except (httpx.TransportError, OSError, UnicodeError) as error:
            return try_.outcome(Result.CONNECTION, error=_describe(error))

    async def _follow(self, request: PreparedRequest, try_: _Try) -> Outcome:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                addresses = await self._addresses(request)
            except _DeniedError as denied:
                return try_.outcome(Result.DENIED, error=str(denied))
            response = await self._exchange(request, addresses)
            try:
                status = response.status_code
                answer = await _first_bytes(response)
            finally:
                with contextlib.suppress(httpx.TransportError, OSError):
                    await response.aclose()
            if 200 <= status < 300:
                return try_.outcome(Result.DELIVERED, response, answer)
            location = response.headers.get("Location")
            if status not in _REDIRECTS or not location:
                return try_.outcome(Result.ANSWERED, response, answer)
            try:
                request = redirect(request, status, location)
            except PeerError as error:
                return try_.outcome(Result.ANSWERED, response, answer, error=str(error))
        return try_.outcome(
            Result.ANSWERED, response, answer, error=f"more than {MAX_REDIRECTS} redirects"
        )

    async def _addresses(self, request: PreparedRequest) -> list[str]:
        """Where the request may go. Raises _DeniedError where it may go nowhere."""
        try:
            async with asyncio.timeout(request.timeouts.connect_ms / 1000):
                found = await self._resolver.resolve(request.host, request.port)
        except TimeoutError:
            raise httpx.ConnectTimeout("the name was not resolved in time") from None
        reason: str | None = "no address"
        allowed = []
        for address in dict.fromkeys(found):
            refusal = self.policy.refusal(address)
            if refusal is None:
                allowed.append(address)
            else:
                reason = f"{address} is {refusal}"
        if not allowed:
            raise _DeniedError(f"the address policy refuses {request.host}: {reason}")
        return allowed[:MAX_ADDRESSES]

    async def _exchange(self, request: PreparedRequest, addresses: list[str]) -> httpx.Response:
        """Connect to one address after the other; the first that takes it gets the request."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.timeouts.connect_ms / 1000
        for left in range(len(addresses), 0, -1):
            patience_s = max(0.05, (deadline - loop.time()) / left)
            try:
                return await self._transport.handle_async_request(
                    _message(request, addresses[-left], patience_s)
                )
            except (httpx.ConnectError, httpx.ConnectTimeout):
                # Nothing was sent yet, so another address cannot make it arrive twice.
                if left == 1:
                    raise
        raise AssertionError("no address to connect to")


class _DeniedError(Exception):
    """The address policy refuses all addresses."""


class _Try:
    """What is known of a try from its beginning."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.now()
        self._begun = clock.monotonic()

    def outcome(
        self,
        result: Result,
        response: httpx.Response | None = None,
        answer: bytes = b"",
        *,
        error: str = "",
    ) -> Outcome:
        retry_after = response.headers.get("Retry-After") if response is not None else None
        return Outcome(
            at=self._at,
            result=result,
            elapsed_ms=max(0, round((self._clock.monotonic() - self._begun) * 1000)),
            status=response.status_code if response is not None else None,
            retry_after_s=(
                parse_retry_after(retry_after, self._clock.now()) if retry_after else None
            ),
            answer=answer,
            error=error,
        )


def _message(request: PreparedRequest, address: str, connect_s: float) -> httpx.Request:
    numeric = f"[{address}]" if ":" in address else address
    extensions: dict[str, object] = {
        "timeout": {
            "connect": connect_s,
            "read": request.timeouts.read_ms / 1000,
            "write": request.timeouts.read_ms / 1000,
            "pool": None,
        },
        # The bytes that were signed, not what a URL library makes of them.
        "target": request.target.encode(),
    }
    if address != request.host:
        # The address is one thing, the name that the certificate must be for another.
        extensions["sni_hostname"] = request.host
    return httpx.Request(
        request.method.value,
        f"{request.scheme}://{numeric}:{request.port}/",
        headers=list(request.headers),
        content=request.body or None,
        extensions=extensions,
    )


async def _first_bytes(response: httpx.Response) -> bytes:
    """The beginning of the body. The status has decided already, so trouble here is none."""
    received = bytearray()
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    with contextlib.suppress(httpx.TransportError, OSError):
        async with asyncio.timeout(ANSWER_PATIENCE_S):
            async for chunk in stream:
                received += chunk
                if len(received) >= MAX_ANSWER_BYTES:
                    break
    return bytes(received[:MAX_ANSWER_BYTES])


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _describe(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:500]
