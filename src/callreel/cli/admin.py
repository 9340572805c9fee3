"""How a command reaches the accounts: through a running server, or in its place."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from callreel.base.errors import UsageError

if TYPE_CHECKING:
    import httpx

    from callreel.server.settings import Settings

T = TypeVar("T")

PATIENCE_S = 5.0
"""How long a server may take to come up or go down before a command gives up on it."""

DataOption = Annotated[
    Path | None,
    typer.Option(
        help="The server's data folder. Default: callreel-data. Also CALLREEL_DATA.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="CALLREEL_CONFIG",
        help="The server's TOML file, if it has one: it may name the data folder and database.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Admin:
    """The administration application, wherever it runs. Raises ``UsageError`` if it refuses."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def get(self, *path: str, **query: str) -> Any:
        """Read."""
        return await self._ask("GET", path, params=query)

    async def post(self, *path: str, **body: object) -> Any:
        """Make or change."""
        return await self._ask("POST", path, json=body)

    async def delete(self, *path: str, **query: str) -> Any:
        """Delete."""
        return await self._ask("DELETE", path, params=query)

    async def _ask(self, method: str, path: Sequence[str], **more: Any) -> Any:
        from urllib.parse import quote

        import httpx

        target = "/" + "/".join(quote(part, safe="") for part in path)
        try:
            answer = await self._http.request(method, target, **more)
        except httpx.HTTPError as error:
            raise UsageError(
                f"the server did not answer: {error or type(error).__name__}"
            ) from None
        try:
            said = answer.json()
        except ValueError:
            raise UsageError(f"the server answered {answer.status_code} and no JSON") from None
        if answer.is_error:
            raise UsageError(said.get("error", f"{answer.status_code}: {said}"))
        return said


def administer(config: Path | None, data: Path | None, work: Callable[[Admin], Awaitable[T]]) -> T:
    """Do ``work`` with whoever may write to the database. Raises ``UsageError``."""
    from callreel.server.settings import load_settings

    settings = load_settings(config, {"data": data})
    os.umask(0o077)  # the database's files are for nobody else to read

    async def run() -> T:
        async with _reached(settings) as admin:
            return await work(admin)

    return asyncio.run(run())


@asynccontextmanager
async def _reached(settings: Settings) -> AsyncIterator[Admin]:
    """The lock on the data folder says who may write: a server that runs, or this command."""
    import httpx

    from callreel.server.datadir import DataDir

    data = DataDir(settings.data.absolute())
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            if not data.exists:
                raise UsageError(
                    f"no data folder at {data.root}; run callreel serve first or give --data"
                )
            lock = data.try_lock()
            state = data.read_state()
        except OSError as error:
            raise UsageError(
                f"the data folder {data.root} cannot be used: {error.strerror}"
            ) from None
        if lock is not None:
            from callreel.server.offline import offline_admin  # most of the server: only if needed

            try:
                async with (
                    offline_admin(settings, data) as app,
                    _client(httpx.ASGITransport(app)) as http,
                ):
                    yield Admin(http)
            finally:
                os.close(lock)
            return
        path = state and state.get("admin_socket")
        if isinstance(path, str) and await _answers(path):
            async with _client(httpx.AsyncHTTPTransport(uds=path)) as http:
                yield Admin(http)
            return
        if time.monotonic() >= deadline_s:
            what = "is starting or stopping" if state is None else "does not answer"
            raise UsageError(f"the server that uses {data.root} {what}; try again in a moment")
        await asyncio.sleep(0.1)


async def _answers(path: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def _client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    import httpx

    # No bound on the answer: to delete many recordings takes its time.
    return httpx.AsyncClient(
        transport=transport,
        base_url="http://callreel",
        timeout=httpx.Timeout(None, connect=5.0),
        trust_env=False,
    )


def print_json(value: object) -> None:
    """For programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_pairs(*pairs: tuple[str, str | None]) -> None:
    """Names and values under each other; what is None is left out."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        if value is not None:
            print(f"{name:<{width}}  {value}")


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
