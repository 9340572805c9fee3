"""The one writer of an SQLite file: those who write at the same time share one transaction.

A transaction's end waits for the disk, and everything else of it does not. So whoever writes while
one is being committed waits for that, and all who wait by then make up the next: each in its turn,
within a savepoint of its own, and one COMMIT for all. Nobody goes on before that is done. Who fails
undoes their own part alone; where the commit itself fails, all of it fails for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from sqlalchemy import pool
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from callreel.store.inline_sqlite import DRIVER

BUSY_MS = 5000
"""How long SQLite waits for another process that has locked the file."""
PATIENCE_S = 30.0
"""How long a transaction waits for those before it: where each waits for a locked file, none waits
for ever."""
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


class _Group:
    """Those who share a transaction."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Once all of it is on the disk; raises what kept it from there."""
        # Whether anybody is left to be told or not.
        self.over.add_done_callback(lambda over: over.cancelled() or over.exception())


class Writer:
    """The writer of the file that ``url`` names."""

    def __init__(self, url: URL) -> None:
        url = url.set(drivername=f"sqlite+{DRIVER}")
        self._engine = create_async_engine(url, poolclass=pool.StaticPool, hide_parameters=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        # First come, first served: who ends a group waits for its turn behind those who had come
        # when it began.
        self._turn = asyncio.Lock()
        self._looker = create_async_engine(url, poolclass=pool.StaticPool, hide_parameters=True)
        self._looking: AsyncConnection | None = None
        self._connection: AsyncConnection | None = None
        self._raw: sqlite3.Connection | None = None
        self._group: _Group | None = None
        self._ends: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, with others' maybe; undone on an exception.

        Raises ``TimeoutError`` where those before it take too long, and what SQLite raises.
        """
        async with self._in_turn():
            connection, raw = await self._connected()
            if self._group is None:
                await self._start(raw)
                self._group = _Group()
                task = asyncio.create_task(self._end(self._group))
                self._ends.add(task)
                task.add_done_callback(self._ends.discard)
            group = self._group
            raw.execute("SAVEPOINT own")
            try:
                yield connection
                raw.execute("RELEASE own")
            except sqlite3.Error as error:
                self._undo(group, raw, error)
                raise _same(error) from error
            except BaseException as error:
                self._undo(group, raw, error)
                raise
        await asyncio.shield(group.over)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        async with asyncio.timeout(PATIENCE_S):
            await self._turn.acquire()
        try:
            yield
        finally:
            self._turn.release()

    async def looker(self) -> AsyncConnection:
        """A connection that must only read, and sees what has been committed."""
        if self._looking is None:
            self._looking = await self._looker.connect()
            await self._looking.exec_driver_sql("PRAGMA query_only=ON")
        return self._looking

    async def close(self) -> None:
        """Close the file."""
        if self._looking is not None:
            await self._looking.close()
            self._looking = None
        await self._looker.dispose()
        async with self._turn:
            if self._connection is not None:
                await self._connection.close()
                self._connection = self._raw = None
            await self._engine.dispose()
        self._thread.shutdown()

    async def _connected(self) -> tuple[AsyncConnection, sqlite3.Connection]:
        if self._connection is None or self._raw is None:
            connection = await self._engine.connect()
            found = (await connection.get_raw_connection()).driver_connection
            assert isinstance(found, sqlite3.Connection)
            try:
                await self._in_thread(self._configure, found)
            except BaseException as error:
                await connection.close()
                raise _same(error) from None
            self._connection, self._raw = connection, found
        return self._connection, self._raw

    def _configure(self, raw: sqlite3.Connection) -> None:
        raw.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        for pragma in _PRAGMAS:
            raw.execute(f"PRAGMA {pragma}")
        raw.execute("PRAGMA busy_timeout=0")

    async def _start(self, raw: sqlite3.Connection) -> None:
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            # Another program has the file: that is waited for elsewhere.
            try:
                await self._in_thread(_begin_patiently, raw)
            except BaseException as error:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
                raise _same(error) from None

    def _undo(self, group: _Group, raw: sqlite3.Connection, error: BaseException) -> None:
        """Undo one's own part. SQLite itself undoes all of a transaction when the disk is full."""
        if raw.in_transaction:
            raw.execute("ROLLBACK TO own")
            raw.execute("RELEASE own")
            return
        if self._group is group:
            self._group = None
        if not group.over.done():
            group.over.set_exception(_same(error))

    async def _end(self, group: _Group) -> None:
        async with self._turn:
            if self._group is group:
                self._group = None
            if group.over.done():
                return
            raw = self._raw
            assert raw is not None
            try:
                await self._in_thread(raw.execute, "COMMIT")
            except BaseException as error:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
                group.over.set_exception(_same(error))
            else:
                group.over.set_result(None)

    async def _in_thread(self, work: Callable[..., object], *arguments: object) -> None:
        """Have something done that may wait for the disk. Whoever is cancelled meanwhile is so
        once it is done: the connection is nobody else's before that."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise


def _begin_patiently(raw: sqlite3.Connection) -> None:
    raw.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    try:
        raw.execute("BEGIN IMMEDIATE")
    finally:
        raw.execute("PRAGMA busy_timeout=0")


def _same(error: BaseException) -> BaseException:
    """As callers know the database's errors."""
    if isinstance(error, sqlite3.Error):
        return DBAPIError.instance("COMMIT", None, error, sqlite3.Error)
    return error
