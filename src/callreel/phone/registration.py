"""A registration, kept alive (RFC 3261 §10): where calls for an address of record are to come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from callreel.base.errors import PeerError, UsageError
from callreel.base.ids import IdSource
from callreel.phone.softphone import Phone, Series
from callreel.wire.sip.message import Response
from callreel.wire.sip.values import URI, Address, parse_integer, split_list

DEFAULT_SECONDS = 600
RETRY_SECONDS = 30.0

_MAX_SECONDS = 86_400


class Registration:
    """Says at ``registrar`` that ``aor`` is this phone. ``say`` is told what happens later on."""

    def __init__(
        self,
        phone: Phone,
        registrar: str,
        *,
        user: str,
        ids: IdSource,
        seconds: int = DEFAULT_SECONDS,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        try:
            host = URI.parse(registrar)
        except ValueError as error:
            raise UsageError(f"{registrar!r}: {error}") from None
        self.aor = f"sip:{user}@{host.host}" + (f":{host.port}" if host.port else "")
        """The address of record."""
        self._phone = phone
        self._registrar = registrar
        self._series = Series(self.aor, ids.new_id())
        self._seconds = seconds
        self._say = say
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Register; returns the seconds granted. From then on it is refreshed.

        Raises ``PeerError`` if the registrar refuses or does not answer.
        """
        granted = await self._register()
        self._task = asyncio.create_task(self._keep(granted), name="registration")
        return granted

    async def stop(self) -> None:
        """Take the registration back. Raises ``PeerError`` if that is not accepted."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        response = await self._ask(0)
        if response.code >= 300:
            raise PeerError(f"{response.code} {response.phrase}", status=response.code)

    async def _keep(self, granted: int) -> None:
        wait = granted * 0.5
        while True:
            await asyncio.sleep(wait)
            try:
                wait = await self._register() * 0.5
            except PeerError as error:
                self._say(f"registration failed: {error}")
                wait = RETRY_SECONDS

    async def _register(self) -> int:
        response = await self._ask(self._seconds)
        if response.code == 423:  # Interval Too Brief
            with contextlib.suppress(ValueError):
                least = response.headers.get("Min-Expires") or ""
                self._seconds = parse_integer(least, maximum=_MAX_SECONDS)
            response = await self._ask(self._seconds)
        if response.code >= 300:
            raise PeerError(f"{response.code} {response.phrase}", status=response.code)
        return self._granted(response)

    async def _ask(self, seconds: int) -> Response:
        return await self._phone.request(
            "REGISTER", self._registrar, self._series, headers=[("Expires", str(seconds))]
        )

    def _granted(self, response: Response) -> int:
        """The interval that the registrar gave our binding, among those of others (§10.2.4)."""
        ports = {str(port) for _, port in self._phone.addresses.values()}
        for text in response.headers.getlist("Contact"):
            for item in split_list(text):
                with contextlib.suppress(ValueError):
                    binding = Address.parse(item)
                    expires = binding.parameters.get("expires")
                    if expires is not None and str(binding.uri.port) in ports:
                        return _bounded(parse_integer(expires, maximum=0xFFFFFFFF))
        with contextlib.suppress(ValueError):
            text = response.headers.get("Expires") or ""
            return _bounded(parse_integer(text.strip(), maximum=0xFFFFFFFF))
        return self._seconds


def _bounded(seconds: int) -> int:
    return min(max(seconds, 1), _MAX_SECONDS)
