"""Many followers of events cost the database no more than one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event

from serve.ids import new_dub_id
from serve.jobs import following
from serve.jobs.database import Database
from serve.jobs.following import EventFeed, follow
from serve.jobs.jobs import DubOptions, Jobs, NewDub
from serve.jobs.leases import AttemptOutcome, Leases
from serve.jobs.tables import DubState
from serve.settings import KeyLimits


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(following, "LOOK_S", 0.06)
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        yield database


async def running_job(database: Database) -> tuple[str, Leases]:
    new = NewDub(id=new_dub_id(), owner="a", name="x", options=DubOptions(), targets=("pt",), duration_s=1.0)
    await Jobs(database, 100).create(new, KeyLimits())
    leases = Leases(database=database, holder="here", lease_s=60.0)
    assert await leases.claim() is not None
    return new.id, leases


async def test_followers_share_one_look(database: Database) -> None:
    jobs, feed = Jobs(database, 100), EventFeed(database)
    dub_id, leases = await running_job(database)
    looks: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        looks.append(statement)

    heard: list[str] = []

    async def kinds() -> list[str]:
        own = []
        async for told in follow(jobs, feed, "a", dub_id, 0, lambda: False):
            own.append(told.kind)
            heard.append(told.kind)
        return own

    followers = [asyncio.create_task(kinds()) for _ in range(40)]
    await leases.note(dub_id, 0, [("started", {})], {})
    while len(heard) < 40:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    while sum("dubs" in look for look in looks) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    event.remove(engine, "before_cursor_execute", note)
    assert not [look for look in looks if "FROM events" in look], "nothing new is read again"
    assert len([look for look in looks if "FROM dubs" in look]) <= 6, "one look serves all 40"
    await leases.finish(dub_id, AttemptOutcome(state=DubState.DONE, output="0" * 32, event={}))
    assert await asyncio.gather(*followers) == [["started", "done"]] * 40
    assert not feed._followed
    assert feed._looking is None


async def test_a_follower_ends_with_a_deleted_job_and_with_its_dispatcher(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LEAVE_S", 0.02)
    jobs, feed = Jobs(database, 100), EventFeed(database)
    dub_id, leases = await running_job(database)
    is_leaving = False
    leaving = asyncio.create_task(anext(follow(jobs, feed, "a", dub_id, 0, lambda: is_leaving), None))
    staying = asyncio.create_task(anext(follow(jobs, feed, "a", dub_id, 0, lambda: False), None))
    await asyncio.sleep(0.1)
    is_leaving = True
    assert await leaving is None
    assert not staying.done()
    await leases.release(dub_id)
    await jobs.delete("a", dub_id)
    assert await staying is None


async def test_events_past_the_end_of_a_query_follow(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, feed = Jobs(database, 100), EventFeed(database)
    dub_id, leases = await running_job(database)
    await leases.note(dub_id, 0, [("segment", {})] * 1200, {})
    await leases.finish(dub_id, AttemptOutcome(state=DubState.DONE, output="0" * 32, event={}))
    told = [each.number async for each in follow(jobs, feed, "a", dub_id, 0, lambda: False)]
    assert told == list(range(1, 1202))
