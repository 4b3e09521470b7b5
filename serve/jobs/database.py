"""The database: opened, migrated to the newest schema, and used in short transactions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    cast,
    event,
    extract,
    func,
    literal_column,
    make_url,
    text,
)
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
from cluster.pools.fairness import AdmissionLimiter
from serve.jobs import sqlite
from serve.jobs.file_systems import remote_type
from serve.threads import OWNER

R = TypeVar("R")

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30
NUM_SQLITE_CONNECTIONS = 16
"""Connections that stay open, each with a thread; more are opened for a moment when many requests come at once."""
MIGRATION_TIMEOUT_S = 120.0
UNREACHABLE = (OperationalError, InterfaceError, PoolTimeoutError, OSError)
"""Errors of a database that is stopped or starting. asyncpg raises plain connection errors."""
PASSING = ("08", "40", "53", "57P")
"""Prefixes of PostgreSQL's error codes after which the same query may succeed later: the connection was lost, the
query gave way to another, disk space ran out, or the server stops or starts. SQLAlchemy has no own type for these
errors; https://www.postgresql.org/docs/current/errcodes-appendix.html"""
MIGRATION_LOCK = 7_208_113
"""PostgreSQL's number of the lock on migrations: any number that is the same in every process."""


class Database:
    """The database. Use as ``async with Database.open(url) as database``."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._writers = AdmissionLimiter(1, 1) if engine.dialect.name == "sqlite" else None

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Database]:
        """Open and migrate the database.

        Raises ConfigError if the URL is not valid, or the schema is that of a newer version.
        """
        engine = _engine(url)
        try:
            await _migrate(engine)
            yield cls(engine)
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is committed at the end of the block, or rolled back after an exception.

        It may write. SQLite lets one writer in at a time, whichever asks at the right moment: in this process they take
        turns instead, by owner. So a block must not open another.
        """
        if self._writers is None:
            async with self.reading() as session:
                yield session
            return
        owner = OWNER.get()
        await self._writers.enter(owner)
        try:
            async with self.reading() as session:
                yield session
        finally:
            self._writers.leave(owner)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """The same, for a block that only reads."""
        try:
            async with self._sessions.begin() as session:
                yield session
        except DBAPIError as error:
            code = str(getattr(error.orig, "sqlstate", None))
            if code.startswith(PASSING):
                raise ConnectionError(f"the database must answer; it does not at the moment, code {code}") from error
            raise

    async def answers(self, within_s: float) -> bool:
        """True if the database answers in time. A host that is gone may never answer at all."""
        try:
            async with asyncio.timeout(within_s), self.reading() as session:
                await session.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError):
            return False
        return True

    @property
    def now_s(self) -> ColumnElement[float]:
        """The database's time, in Unix time."""
        return clock_s(self.is_postgres)

    @property
    def is_postgres(self) -> bool:
        return self._engine.dialect.name == "postgresql"


def clock_s(is_postgres: bool) -> ColumnElement[float]:
    """The database's time, in Unix time: the clocks of dispatchers may differ."""
    if is_postgres:
        return cast(extract("epoch", func.clock_timestamp()), Double)
    return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if parsed.get_backend_name() == "sqlite":
            if parsed.database:
                _check_local(Path(parsed.database))
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            options = {"connect_args": {"timeout": BUSY_TIMEOUT_S, "async_creator_fn": sqlite.connect}}
            options["pool_size"] = NUM_SQLITE_CONNECTIONS
        engine = create_async_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"serve.database_url must be one of SQLAlchemy's with an async driver, such as "
            f"postgresql+asyncpg://user@host/name; {' '.join(str(error).split())}"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _check_local(file: Path) -> None:
    """Raise ConfigError on a network file system: SQLite's write-ahead log needs memory that all processes share."""
    if (kind := remote_type(file)) is not None:
        raise ConfigError(
            f"a database of SQLite must be on a disk of this machine; {file} is on {kind}, where it would be damaged; "
            "set serve.database_url or RAYDUB_DATABASE_URL to a PostgreSQL database, or to a local file"
        )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Several processes read while one writes; what was committed outlives a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _migrate(engine: AsyncEngine) -> None:
    """Migrate the database in one process at a time. The others then find it migrated."""
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
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    config.attributes["connection"] = connection
    _check_known(connection, ScriptDirectory.from_config(config))
    command.upgrade(config, "head")


def _check_known(connection: Connection, scripts: ScriptDirectory) -> None:
    """Raise ConfigError if a newer version of raydub has migrated the database."""
    known = {script.revision for script in scripts.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    if newer := set(found) - known:
        raise ConfigError(
            f"the database's schema must be one that this version of raydub knows, up to {max(known)}; found "
            f"{', '.join(sorted(newer))}, of a newer version; run that version, or restore the database from before it"
        )


async def until_it_answers(query: Callable[[], Awaitable[R]]) -> R:
    """Repeat a query until the database answers, for work that a restart of the database must not lose.

    The query must be safe to repeat: it may have been committed although its answer was lost.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(UNREACHABLE),
        wait=wait_exponential(multiplier=0.2, max=5),
        before_sleep=before_sleep_log(log, logging.WARNING),
    ):
        with attempt:
            return await query()
    raise AssertionError("unreachable: it tries again forever")
