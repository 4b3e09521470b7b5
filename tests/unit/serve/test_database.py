"""Transactions of SQLite: writers of one process take turns by owner, and readers do not wait for them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from serve.ids import new_dub_id
from serve.jobs import sqlite
from serve.jobs.database import Database
from serve.jobs.jobs import DubOptions, Jobs, NewDub
from serve.jobs.sqlite import SqliteConnection
from serve.settings import KeyLimits
from serve.threads import OWNER


async def test_writers_take_turns_by_owner(tmp_path: Path) -> None:
    order: list[str] = []
    is_held, may_end = asyncio.Event(), asyncio.Event()

    async def write(database: Database, owner: str, *, hold: bool = False) -> None:
        OWNER.set(owner)
        async with database.transaction() as session:
            await session.execute(text("DELETE FROM charges"))
            order.append(owner)
            if hold:
                is_held.set()
                await may_end.wait()

    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database, asyncio.TaskGroup() as group:
        group.create_task(write(database, "many", hold=True))
        await is_held.wait()
        for owner in ("many", "many", "many", "one"):
            group.create_task(write(database, owner))
        async with database.reading() as session:
            assert (await session.execute(text("SELECT count(*) FROM charges"))).scalar_one() == 0
        assert order == ["many"]
        may_end.set()
    assert order[:3] in (["many", "many", "one"], ["many", "one", "many"])
    assert order.count("many") == 4


async def test_a_failed_writer_lets_the_next_in(tmp_path: Path) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        writer = asyncio.create_task(_hold(database))
        await asyncio.sleep(0)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        async with asyncio.timeout(10), database.transaction() as session:
            await session.execute(text("DELETE FROM charges"))


async def _hold(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM charges"))
        await asyncio.Event().wait()


async def test_a_statement_visits_the_thread_of_its_connection_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits: list[object] = []
    execute = SqliteConnection._execute

    async def counted(connection: SqliteConnection, function: Any, *given: Any) -> Any:
        visits.append(function)
        return await execute(connection, function, *given)

    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        async with database.reading() as session:  # opens a connection
            await session.execute(text("SELECT 1"))
        monkeypatch.setattr(SqliteConnection, "_execute", counted)
        async with database.reading() as session:
            assert (await session.execute(text("SELECT 1 UNION SELECT 2"))).scalars().all() == [1, 2]
        assert len(visits) == 1
        async with database.transaction() as session:
            made = text("INSERT INTO keys_made (made_s) VALUES (1.0), (2.0) RETURNING made_s")
            await session.execute(text("CREATE TABLE keys_made (made_s REAL)"))
            assert (await session.execute(made)).scalars().all() == [1.0, 2.0]
        assert len(visits) == 4  # the last one commits


async def test_a_statement_that_nobody_waited_for_is_rolled_back(tmp_path: Path) -> None:
    """SQLite has begun no transaction yet when it is asked, and the statement behind it will."""
    is_running, may_end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow() -> int:
        loop.call_soon_threadsafe(is_running.set)
        may_end.wait(30)
        return 1

    connection = await sqlite.connect(str(tmp_path / "a.db"), check_same_thread=False)
    async with asyncio.timeout(30):
        await connection.create_function("slow", 0, slow)
        await connection.cursor().execute("CREATE TABLE made (made_s REAL)")
        waiting = asyncio.create_task(connection.cursor().execute("SELECT slow()"))
        await is_running.wait()
        writing = asyncio.create_task(connection.cursor().execute("INSERT INTO made VALUES (1.0)"))
        await asyncio.sleep(0)
        waiting.cancel()
        writing.cancel()
        await asyncio.gather(waiting, writing, return_exceptions=True)
        assert not connection._conn.in_transaction
        rolling_back = asyncio.create_task(connection.rollback())
        await asyncio.sleep(0)
        may_end.set()
        await rolling_back
        assert (await (await connection.cursor().execute("SELECT count(*) FROM made")).fetchall()) == [(0,)]
        await connection.close()


async def test_limits_are_read_in_one_query(tmp_path: Path) -> None:
    asked: list[str] = []
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        jobs = Jobs(database, 100)
        new = NewDub(id=new_dub_id(), owner="a", name="x", options=DubOptions(), targets=("pt",), duration_s=1.0)
        await jobs.create(new, KeyLimits())
        engine = database._engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        await jobs.check_room("a", KeyLimits())
    assert len(asked) == 1


async def test_no_query_of_a_job_reads_all_jobs(tmp_path: Path) -> None:
    """SQLite's plans: each search goes by an index. A scan would take longer with every job that there ever was."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'serve.db'}"
    queries = (
        "SELECT sum(stored_bytes) FROM dubs WHERE owner = 'a' AND deleted_s IS NULL",
        "SELECT id FROM dubs WHERE owner = 'a' AND deleted_s IS NULL AND state = 'failed' ORDER BY id DESC LIMIT 21",
        "SELECT id FROM dubs WHERE deleted_s < 1.0",
        "DELETE FROM charges WHERE charged_s < 1.0",
        "SELECT count(*) FROM dubs WHERE state = 'queued'",
        "SELECT count(*) FROM dubs WHERE state IN ('queued', 'running') AND deleted_s IS NULL",
    )
    async with Database.open(url) as database, database.transaction() as session:
        for query in queries:
            plan = [row[-1] for row in await session.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
            assert all(step.startswith("SEARCH") and "INDEX" in step for step in plan), (query, plan)
            assert not any("deleted_s=?" in step and "owner" not in step for step in plan), (query, plan)
