"""SQLite connections that cross to their thread once a statement.

aiosqlite crosses four times, to make a cursor, execute, fetch and close, and each crossing costs
more than what SQLite itself does for a row. This is made for SQLAlchemy's adapter of aiosqlite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

import aiosqlite

_CHUNK_ROWS = 64


class OneTripConnection(aiosqlite.Connection):
    """Takes what ``sqlite3.connect`` takes. Its statements bring their rows along."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Given up in the middle of something, it may be closed from another thread than its own.
        kwargs["check_same_thread"] = False
        super().__init__(partial(sqlite3.connect, *args, **kwargs), _CHUNK_ROWS)
        # Up to version 0.21 the connection is its thread, later it has one.
        thread: Any = getattr(self, "_thread", self)
        thread.daemon = True
        self._dirty = False

    def cursor(self) -> Any:
        """Something that executes; made here, since the real cursor lives no longer than that."""
        return _Cursor(self)

    async def run(self, sql: str, parameters: Sequence[Any], *, many: bool) -> _Outcome:
        """One statement and all its rows."""
        # Who is cancelled here does not know what the thread is still going to do.
        self._dirty = True
        outcome: _Outcome = await self._execute(  # type: ignore[no-untyped-call]
            self._run, sql, parameters, many
        )
        self._dirty = self.in_transaction
        return outcome

    async def rollback(self) -> None:
        """Roll back, where there may be anything to roll back: a pool asks after every use."""
        if self._dirty:
            await super().rollback()
            self._dirty = False

    async def commit(self) -> None:
        """Commit."""
        await super().commit()
        self._dirty = False

    def _run(self, sql: str, parameters: Sequence[Any], many: bool) -> _Outcome:
        cursor = self._conn.cursor()
        try:
            if many:
                cursor.executemany(sql, parameters)
            else:
                cursor.execute(sql, parameters)
            rows = [] if cursor.description is None else cursor.fetchall()
            return cursor.description, cursor.rowcount, cursor.lastrowid or 0, rows
        finally:
            cursor.close()


_Outcome = tuple[Any, int, int, list[Any]]


class _Cursor:
    """The part of ``aiosqlite.Cursor`` that SQLAlchemy uses, its rows at hand already."""

    arraysize = 1

    def __init__(self, connection: OneTripConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid = 0

    async def __aenter__(self) -> _Cursor:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        await self._run(sql, parameters, many=False)
        return self

    async def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> _Cursor:
        await self._run(sql, parameters, many=True)
        return self

    async def _run(self, sql: str, parameters: Sequence[Any], *, many: bool) -> None:
        outcome = await self._connection.run(sql, parameters, many=many)
        self.description, self.rowcount, self.lastrowid, self._rows = outcome

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """The real cursor is closed already."""
