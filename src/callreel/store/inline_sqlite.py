"""SQLite beneath SQLAlchemy's asyncio, its statements executed at once in the loop's own thread.

A statement of ours takes SQLite some ten microseconds while its rows are in memory; to have another
thread do it costs ten times as much, and aiosqlite does so four times for each. What does wait for
the disk, the end of a transaction, is not done here but by
:class:`~callreel.store.writer.Writer`, in a thread: the transaction calls of this module do
nothing.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPIModule
from sqlalchemy.util import await_only

DRIVER = "inline"
"""In URLs: ``sqlite+inline``."""


class Cursor:
    """Executes, and has all rows at once: nothing is left open."""

    arraysize = 1

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows: deque[Any] = deque()
        self.description: Any = None
        """The columns of what was found."""
        self.rowcount = -1
        """Rows changed."""
        self.lastrowid = -1
        """Of the row inserted last."""

    def execute(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Cursor:
        """Execute a statement."""
        await_only(_at_once())
        cursor = self._connection.execute(statement, parameters)
        if cursor.description:
            self._rows = deque(cursor.fetchall())
        return self._done(cursor)

    def executemany(self, statement: str, parameters: Sequence[Any]) -> Cursor:
        """Execute a statement once for each."""
        await_only(_at_once())
        return self._done(self._connection.executemany(statement, parameters))

    def _done(self, cursor: sqlite3.Cursor) -> Cursor:
        self.description = cursor.description
        self.rowcount = cursor.rowcount
        self.lastrowid = cursor.lastrowid or -1
        cursor.close()
        return self

    def setinputsizes(self, *_: object) -> None:
        """Nothing."""

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """The next rows."""
        count = min(self.arraysize if size is None else size, len(self._rows))
        return [self._rows.popleft() for _ in range(count)]

    def fetchall(self) -> Sequence[Any]:
        """The rows that are left."""
        rows, self._rows = list(self._rows), deque()
        return rows

    async def _async_soft_close(self) -> None:
        """Asked by SQLAlchemy once it has the rows; nothing is open."""

    def close(self) -> None:
        """Forget the rows."""
        self._rows.clear()


class Connection:
    """A connection whose transactions are somebody else's."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        """The connection to the file."""
        self.isolation_level = None
        """Transactions are not begun by the driver."""

    def cursor(self) -> Cursor:
        """A new cursor."""
        return Cursor(self.raw)

    def create_function(self, *arguments: Any, **options: Any) -> None:
        """Give SQL a function of Python."""
        self.raw.create_function(*arguments, **options)

    def commit(self) -> None:
        """Nothing."""

    def rollback(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Close it."""
        self.raw.close()


async def _at_once() -> None:
    """SQLAlchemy insists on something being awaited."""


def _connect(*arguments: Any, **options: Any) -> Connection:
    options |= {"isolation_level": None, "check_same_thread": False}
    return Connection(sqlite3.connect(*arguments, **options))


class InlineDialect(SQLiteDialect_pysqlite):
    """The dialect of ``sqlite+inline``."""

    driver = DRIVER
    is_async = True
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        """What SQLAlchemy takes for the driver's module."""
        names = [
            *("Error", "DatabaseError", "DataError", "IntegrityError", "InterfaceError"),
            *("InternalError", "NotSupportedError", "OperationalError", "ProgrammingError"),
            *("Binary", "sqlite_version", "sqlite_version_info", "PARSE_COLNAMES"),
            "PARSE_DECLTYPES",
        ]
        found: Any = SimpleNamespace(**{name: getattr(sqlite3, name) for name in names})
        found.paramstyle = "qmark"
        found.connect = _connect
        return found  # type: ignore[no-any-return]

    def get_driver_connection(self, connection: DBAPIConnection) -> Any:
        """The connection to the file."""
        assert isinstance(connection, Connection)
        return connection.raw


registry.register(f"sqlite.{DRIVER}", __name__, "InlineDialect")
