"""One HTTP request and its answer: finds the address, asks the policy, connects to that very
address, follows redirects the same way.

Everything callreel asks of a program's server goes through here: webhooks, documents, audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx

from callreel.base.errors import CallreelError, PeerError
from callreel.delivery.address import AddressPolicy
from callreel.delivery.model import Result
from callreel.delivery.request import PreparedRequest, redirect

MAX_REDIRECTS = 3
MAX_ADDRESSES = 4

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


class Unanswered(CallreelError):
    """There is no answer, or its body broke off; the text says why, for people."""

    def __init__(self, result: Result, message: str, *, connected: bool = True) -> None:
        super().__init__(message)
        self.result = result
        """``CONNECTION``, ``TIMEOUT`` or ``DENIED``."""
        self.connected = connected
        """False where no connection came about, so that nothing can have been sent."""


class Answer:
    """The last answer to a request: of redirects, those that were followed are not seen."""

    def __init__(self, request: PreparedRequest, response: httpx.Response, trouble: str) -> None:
        self.request = request
        """The request that was answered, after redirects."""
        self.status = response.status_code
        """HTTP status."""
        self.headers: Mapping[str, str] = response.headers
        """Names in any case. Never trusted."""
        self.trouble = trouble
        """Why a redirect was not followed; else empty."""
        self._response = response

    @property
    def is_good(self) -> bool:
        """Whether it is 2xx."""
        return 200 <= self.status < 300

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, once. Nothing is unpacked: nothing packed was asked for."""
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        async for chunk in stream:
            yield chunk


class Exchange:
    """Sends prepared requests, each over a connection of its own.

    Connections are not kept: one to an address was made for one name, and its certificate checked
    for that name, while the next request to the same address may be for another.
    """

    def __init__(
        self,
        *,
        policy: AddressPolicy | None = None,
        resolver: Resolver | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """``ca_file``: certificates (PEM) to trust besides the system's and the usual ones."""
        self.policy = policy or AddressPolicy()
        """Where requests may go. May be replaced at any time."""
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

    @asynccontextmanager
    async def answer(self, request: PreparedRequest) -> AsyncIterator[Answer]:
        """The answer to a request, redirects followed; its body is read in this context.

        The request's total time is that of the whole context. Raises :class:`Unanswered`, also
        where reading the body fails.
        """
        total_s = request.timeouts.total_ms / 1000
        try:
            async with asyncio.timeout(total_s):
                last, response, trouble = await self._follow(request)
                try:
                    yield Answer(last, response, trouble)
                finally:
                    await _let_go(response)
        except TimeoutError:
            raise Unanswered(Result.TIMEOUT, f"no answer within {total_s:g} s") from None
        except httpx.ConnectTimeout:
            raise Unanswered(Result.TIMEOUT, "no connection in time", connected=False) from None
        except httpx.TimeoutException:
            raise Unanswered(Result.TIMEOUT, "no answer in time") from None
        except (httpx.TransportError, OSError, UnicodeError) as error:
            reached = not isinstance(error, httpx.ConnectError | socket.gaierror)
            raise Unanswered(Result.CONNECTION, _describe(error), connected=reached) from None

    async def _follow(
        self, request: PreparedRequest
    ) -> tuple[PreparedRequest, httpx.Response, str]:
        """The last request, its answer, and why that was not followed further."""
        for left in range(MAX_REDIRECTS, -1, -1):
            response = await self._exchange(request, await self._addresses(request))
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return request, response, ""
            if not left:
                break
            try:
                onward = redirect(request, response.status_code, location)
            except PeerError as error:
                return request, response, str(error)
            await _let_go(response)
            request = onward
        return request, response, f"more than {MAX_REDIRECTS} redirects"

    async def _addresses(self, request: PreparedRequest) -> list[str]:
        """Where the request may go. Raises :class:`Unanswered` where it may go nowhere."""
        try:
            async with asyncio.timeout(request.timeouts.connect_ms / 1000):
                found = await self._resolver.resolve(request.host, request.port)
        except TimeoutError:
            raise Unanswered(
                Result.TIMEOUT, "the name was not resolved in time", connected=False
            ) from None
        except OSError as error:
            raise Unanswered(Result.CONNECTION, _describe(error), connected=False) from None
        reason: str | None = "no address"
        allowed = []
        for address in dict.fromkeys(found):
            refusal = self.policy.refusal(address)
            if refusal is None:
                allowed.append(address)
            else:
                reason = f"{address} is {refusal}"
        if not allowed:
            text = f"the address policy refuses {request.host}: {reason}"
            raise Unanswered(Result.DENIED, text, connected=False)
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


async def _let_go(response: httpx.Response) -> None:
    with contextlib.suppress(httpx.TransportError, OSError):
        await response.aclose()


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


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _describe(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:500]
