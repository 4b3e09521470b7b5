"""The database: opened, brought to the newest schema, and asked within short transactions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from alembic import command
from alembic.config import Config as AlembicConfig
from filelock import FileLock
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential

from actors.errors import ConfigError

R = TypeVar("R")

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30
MIGRATION_TIMEOUT_S = 120.0
UNREACHABLE = (OperationalError, InterfaceError, PoolTimeoutError, OSError)
"""What a database that is stopped, or just starting, is met as: asyncpg raises plain connection errors."""
PASSING = ("08", "40", "53", "57P")
"""What PostgreSQL's error codes begin with where the same query may succeed later: its connection was lost, it had to
make way for another, room ran out, the server stops or starts. SQLAlchemy tells these as errors of no kind of their
own; https://www.postgresql.org/docs/current/errcodes-appendix.html"""
MIGRATION_LOCK = 7_208_113
"""Any number, the same in every process: PostgreSQL's name for the lock on migrating."""


class Database:
    """Use as ``async with Database.open(url) as database``."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Database]:
        """Migrated to the newest schema. Raises ConfigError if the URL is not one."""
        engine = _engine(url)
        try:
            await _migrate(engine)
            yield cls(engine)
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Committed at the end of the block, rolled back if it raises."""
        try:
            async with self._sessions.begin() as session:
                yield session
        except DBAPIError as error:
            code = str(getattr(error.orig, "sqlstate", None))
            if code.startswith(PASSING):
                raise ConnectionError(f"the database must answer; it does not at the moment, code {code}") from error
            raise

    async def answers(self, within_s: float) -> bool:
        """Whether it is there, however it fails to be: a host that is gone may say nothing at all."""
        try:
            async with asyncio.timeout(within_s), self.transaction() as session:
                await session.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError):
            return False
        return True

    @property
    def is_postgres(self) -> bool:
        return self._engine.dialect.name == "postgresql"


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if parsed.get_backend_name() == "sqlite":
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            options = {"connect_args": {"timeout": BUSY_TIMEOUT_S, "async_creator_fn": _connect_sqlite}}
        engine = create_async_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"serve.database_url must be one of SQLAlchemy's with an async driver, such as "
            f"postgresql+asyncpg://user@host/name; {' '.join(str(error).split())}"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _connect_sqlite(database: str, **options: Any) -> aiosqlite.Connection:
    """One that rolls back before it closes.

    SQLAlchemy closes the connection of whoever is cancelled in a transaction. SQLite closes it only once none of its
    statements is referred to, which a traceback may do for long; until then nobody else can write.
    """
    connection = aiosqlite.connect(database, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it
    close = connection.close

    async def roll_back_and_close() -> None:
        with contextlib.suppress(sqlite3.Error, ValueError):  # it was closed already
            await connection.rollback()
        await close()

    connection.close = roll_back_and_close  # type: ignore[method-assign]
    return connection


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Several processes read while one writes; a power cut may lose the last transactions, never the file.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _migrate(engine: AsyncEngine) -> None:
    """One process at a time: the others find it done."""
    if engine.dialect.name == "sqlite" and engine.url.database:
        lock = FileLock(f"{engine.url.database}.lock", thread_local=False)
        await asyncio.to_thread(lock.acquire, MIGRATION_TIMEOUT_S)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade)
        finally:
            lock.release()
        return
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def until_it_answers(query: Callable[[], Awaitable[R]]) -> R:
    """For work that must not be lost because the database is restarted: asked again until it answers.

    A query may have been committed although its answer was lost, so it must bear to be made twice.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(UNREACHABLE),
        wait=wait_exponential(multiplier=0.2, max=5),
        before_sleep=before_sleep_log(log, logging.WARNING),
    ):
        with attempt:
            return await query()
    raise AssertionError("tries without end")
