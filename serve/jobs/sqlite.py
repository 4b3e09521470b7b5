"""SQLite connections for SQLAlchemy that visit their thread once for each statement.

aiosqlite visits it four times: to make a cursor, to execute, to fetch and to close. In a service that is busy each
visit waits for other threads of Python, and a job takes twenty statements.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import aiosqlite


class SqliteConnection(aiosqlite.Connection):
    """A connection whose cursors fetch all rows of a statement with its execution."""

    _is_certain = True
    """False from the start of a call to its end, and for ever if nobody waited for its end."""

    def cursor(self) -> SqliteCursor:  # type: ignore[override]
        return SqliteCursor(self)

    async def commit(self) -> None:
        """Commit the current transaction, if there is one: SQLite begins none to read."""
        if not self._has_none():
            await super().commit()

    async def rollback(self) -> None:
        """Roll back the current transaction, if there is one."""
        if not self._has_none():
            await super().rollback()

    async def close(self) -> None:
        """Roll back and close.

        SQLAlchemy closes the connection of a task that is cancelled in a transaction. SQLite really closes it only
        when no statement of it is referenced any more, and a traceback can hold one for long. Until then the database
        is locked for other writers.
        """
        with contextlib.suppress(sqlite3.Error, ValueError):  # already closed
            await self.rollback()
        await super().close()

    def _has_none(self) -> bool:
        """True if there is certainly no transaction."""
        return self._is_certain and not self._conn.in_transaction

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._is_certain, was_certain = False, self._is_certain
        try:
            result = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        except Exception:
            self._is_certain = was_certain
            raise
        self._is_certain = was_certain
        return result


class SqliteCursor:
    """A cursor that is asked with ``await``, as far as SQLAlchemy needs it."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Self:
        return await self._run(sqlite3.Cursor.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Self:
        return await self._run(sqlite3.Cursor.executemany, sql, parameters)

    async def fetchall(self) -> Sequence[Any]:
        rows, self._rows = self._rows, ()
        return rows

    async def close(self) -> None:
        """The statement ended with its execution."""

    async def __aenter__(self) -> Self:
        return self

    async def _run(self, method: Callable[..., Any], *given: Any) -> Self:
        found = await self._connection._execute(_run, self._connection, method, *given)
        self.description, self.rowcount, self.lastrowid, self._rows = found
        return self


def connect(database: str, **options: Any) -> SqliteConnection:
    """A connection that is opened once it is awaited, as of ``aiosqlite.connect``; its thread ends with the process."""
    connection = SqliteConnection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy sets it
    return connection


def _run(
    connection: SqliteConnection, method: Callable[..., Any], *given: Any
) -> tuple[Any, int, int | None, list[Any]]:
    """Description, number of rows changed, last row's id and rows of a statement."""
    with contextlib.closing(connection._conn.cursor()) as cursor:
        method(cursor, *given)
        rows = cursor.fetchall() if cursor.description else []
        return cursor.description, cursor.rowcount, cursor.lastrowid, rows
