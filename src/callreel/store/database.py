"""The database: connections, transactions and migrations, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, make_url, pool, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    TimeoutError as PoolTimeout,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from callreel.base.errors import MachineError, UsageError
from callreel.store.seal import Seal
from callreel.store.writer import BUSY_MS, Writer

_DRIVERS = {"sqlite": ("pysqlite", "aiosqlite"), "postgresql": ("psycopg", "psycopg")}


class DatabaseUnavailable(MachineError):
    """The database is locked, read-only, full or gone. What was asked was not done; ask again."""


class Database:
    """One database. Writers on SQLite queue in :class:`~callreel.store.writer.Writer` rather than
    in the file's lock, and share their waits for the disk.

    Only the control process of a running server writes (``docs/architecture.md``).
    """

    def __init__(self, url: str, seal: Seal) -> None:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in _DRIVERS:
            raise UsageError(f"database URL must be sqlite:// or postgresql://, not {backend}://")
        sync, asynchronous = _DRIVERS[backend]
        self.seal = seal
        self._is_sqlite = backend == "sqlite"
        self._sync_url = parsed.set(drivername=f"{backend}+{sync}")
        async_url = parsed.set(drivername=f"{backend}+{asynchronous}")
        self._reader = self._engine(async_url)
        self._writer = Writer(parsed) if self._is_sqlite else None

    def _engine(self, url: URL) -> AsyncEngine:
        if not self._is_sqlite:
            return create_async_engine(url, pool_size=10, pool_pre_ping=True, hide_parameters=True)

        engine = create_async_engine(
            url, poolclass=pool.AsyncAdaptedQueuePool, pool_size=5, hide_parameters=True
        )

        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions are begun below, not by the driver
            cursor = connection.cursor()
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                f"busy_timeout={BUSY_MS}",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        return engine

    @property
    def engine_name(self) -> str:
        """For people."""
        return "SQLite" if self._is_sqlite else "PostgreSQL"

    def migrate(self) -> None:
        """Bring the schema to this version. Blocking; raises ``MachineError``."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        config.attributes["url"] = self._sync_url
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            raise MachineError(
                f"the database cannot be opened or migrated: {error.orig}",
                hint=f"check {self._sync_url.render_as_string(hide_password=True)}",
            ) from None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed at the end, rolled back on an exception.

        Raises :class:`DatabaseUnavailable`.
        """
        with _translated():
            if self._writer is None:
                async with self._reader.begin() as connection:
                    yield connection
                return
            async with self._writer.begin() as connection:
                yield connection

    @asynccontextmanager
    async def look(self) -> AsyncIterator[AsyncConnection]:
        """For a few rows by their keys: on SQLite that is done at once, in the loop's own thread.
        Each statement sees what is there when it is executed."""
        if self._writer is None:
            async with self.read() as connection:
                yield connection
            return
        with _translated():
            yield await self._writer.looker()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. Raises :class:`DatabaseUnavailable`."""
        with _translated():
            async with self._reader.connect() as connection, connection.begin():
                yield connection

    async def ping(self) -> None:
        """Raises whatever the database raises when it cannot answer."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Give all connections back."""
        await self._reader.dispose()
        if self._writer is not None:
            await self._writer.close()


@contextmanager
def _translated() -> Iterator[None]:
    """What the engines raise when they cannot be used, as one error of ours."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise DatabaseUnavailable(f"the database cannot be used now: {error.orig}") from error
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            "the database cannot be used now: no connection is free"
        ) from error
    except TimeoutError as error:
        raise DatabaseUnavailable("the database cannot be used now: it is too slow") from error
