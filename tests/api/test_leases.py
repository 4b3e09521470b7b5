"""Jobs that outlive their dispatchers, on both databases: none lost, none done twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import serve.jobs.jobs as jobs_module
from actors.errors import CapacityError, ItemError
from cluster.config.load import load_config
from cluster.pools.pool_set import PoolSet
from serve.dispatch.attempt import DubAttempts
from serve.dispatch.claims import JobRunner
from serve.dispatch.fetches import SourceFetcher
from serve.dispatch.health import Health
from serve.dispatch.housekeeping import find_strays
from serve.errors import ConflictError, NotFoundError, ServiceFullError
from serve.ids import new_dub_id
from serve.jobs.active import ActiveDubs, count_active
from serve.jobs.api_keys import KeyRing, add_key, list_keys, revoke_key
from serve.jobs.casts import Casts
from serve.jobs.cleanup import MAX_FEW, cleanup
from serve.jobs.database import UNREACHABLE, Database, until_it_answers
from serve.jobs.finished import finished_dubs
from serve.jobs.following import EventFeed, follow
from serve.jobs.jobs import DubOptions, Jobs, NewDub
from serve.jobs.leases import AttemptOutcome, LeaseLostError, Leases
from serve.jobs.tables import ACTIVE, Delivery, Dub, DubState, TargetState
from serve.settings import KeyLimits, ServeSettings, StorageSettings
from serve.storage.folder_files import FolderFiles
from serve.threads import Workers
from tests.api.postgres import Postgres
from tests.api.server import STANDINS, finished, running
from tests.api.test_dubs import create

LIMITS = KeyLimits()
STOPPED_S = 3.0


def new(owner: str, **fields: object) -> NewDub:
    given = {"name": "x", "options": DubOptions(), "targets": ("pt", "fr"), "duration_s": 10.0, **fields}
    return NewDub(id=new_dub_id(), owner=owner, **given)  # type: ignore[arg-type]


def leases(database: Database, holder: str, lease_s: float = 60.0) -> Leases:
    return Leases(database=database, holder=holder, lease_s=lease_s)


DONE = AttemptOutcome(state=DubState.DONE, output="0" * 32, duration_s=10.0, source_language="en", event={})


async def drain(database: Database) -> None:
    """Leave no job of another test waiting."""
    all_of_them = leases(database, "drain")
    async with database.transaction() as session:
        expired = {"lease_until_s": 0.0, "is_fetched": True}
        await session.execute(update(Dub).where(Dub.state.in_(ACTIVE)).values(**expired))
    while (claimed := await all_of_them.claim()) is not None:
        await all_of_them.finish(claimed[0].id, AttemptOutcome(state=DubState.CANCELLED, event={}))


async def test_each_job_is_claimed_once_whoever_asks(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    made = [(await jobs.create(new("a"), KeyLimits(max_active_dubs=99)))[0].dub.id for _ in range(8)]
    claims = await asyncio.gather(*(leases(database, f"d{number}").claim() for number in range(12)))
    claimed = [claim[0].id for claim in claims if claim is not None]
    assert sorted(claimed) == sorted(made)
    assert all(claim[1] == ("pt", "fr") for claim in claims if claim is not None)
    await drain(database)


async def test_dubs_that_wait_and_run_are_counted(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    for source_url in (None, None, None, "https://a.example/v.mp4"):
        await jobs.create(new("counted", source_url=source_url), LIMITS)
    assert await leases(database, "other").claim() is not None
    assert await leases(database, "silent", lease_s=0.05).claim() is not None
    await asyncio.sleep(0.1)
    found = await count_active(database)
    assert (found.queued, found.fetching, found.running, found.abandoned) == (1, 1, 1, 1)
    assert found.oldest_wait_s > 0
    await drain(database)
    assert await count_active(database) == ActiveDubs()


async def test_finished_dubs_are_compared_as_they_were_first_made(database: Database) -> None:
    await drain(database)
    jobs, holder = Jobs(database, 100), leases(database, "holder")
    verdict = {"num_lines": 4, "flagged_share": 0.25}
    outcome = replace(DONE, verdict=verdict, event={"realtime_factor": 2.0, "quality": {"wer": 0.5}})
    for ends_as in (outcome, DONE, AttemptOutcome(state=DubState.FAILED, event={}, error="x"), outcome):
        dub_id = (await jobs.create(new("compared"), LIMITS))[0].dub.id
        assert await holder.claim() is not None
        await holder.finish(dub_id, ends_as)
    [newest, first] = await finished_dubs(database, "compared", 10)
    assert (newest.id, newest.realtime, newest.quality) == (dub_id, 2.0, {"good_lines": 0.75, "wer": 0.5})
    assert await finished_dubs(database, "compared", 1) == [newest]
    assert await finished_dubs(database, "another", 10) == []
    await jobs.edit("compared", dub_id, "pt", "u1", text="y", voice=None)
    await jobs.make_again("compared", dub_id, LIMITS)
    assert await holder.claim() is not None
    await holder.finish(dub_id, outcome)
    assert await finished_dubs(database, "compared", 10) == [first]


async def test_a_job_whose_holder_is_silent_goes_to_another_and_is_finished_once(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    dub_id = (await jobs.create(new("b", webhook_url="https://a.example/"), LIMITS))[0].dub.id
    silent, other = leases(database, "silent", lease_s=0.05), leases(database, "other")
    assert await silent.claim() is not None
    await silent.note(dub_id, 0, [("started", {"attempt": 1})], {})
    await asyncio.sleep(0.1)
    claimed = await other.claim()
    assert claimed is not None
    assert (claimed[0].id, claimed[0].num_attempts) == (dub_id, 2)
    with pytest.raises(LeaseLostError):
        await silent.note(dub_id, 1, [("segment", {})], {})
    with pytest.raises(LeaseLostError):
        await silent.finish(dub_id, DONE)
    assert await silent.renew([dub_id]) == []
    await other.note(dub_id, 1, [("started", {"attempt": 2})], {"stages": {}})
    await other.finish(dub_id, DONE)
    with pytest.raises(LeaseLostError):
        await other.finish(dub_id, DONE)
    events = await jobs.events_after(dub_id, 0)
    assert [(event.number, event.kind) for event in events] == [(1, "started"), (2, "started"), (3, "done")]
    view = await jobs.get("b", dub_id)
    assert (view.dub.state, view.dub.revision) == ("done", 1)
    assert {target.state for target in view.targets} == {TargetState.COMPLETED}


async def test_a_job_that_ends_while_it_is_read_has_ended_with_all_its_languages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drain(database)
    jobs, holder, owned = Jobs(database, 100), leases(database, "holder"), jobs_module._owned
    dub_id = (await jobs.create(new("v"), LIMITS))[0].dub.id
    assert await holder.claim() is not None

    async def end_behind(session: AsyncSession, owner: str, dub_id: str) -> Dub:
        dub = await owned(session, owner, dub_id)
        await holder.finish(dub_id, DONE)
        return dub

    monkeypatch.setattr(jobs_module, "_owned", end_behind)
    view = await jobs.get("v", dub_id)
    assert (view.dub.state, view.dub.output) == ("done", DONE.output)
    assert [target.state for target in view.targets] == [TargetState.COMPLETED] * 2


async def test_a_job_handed_on_is_taken_at_once_and_counts_no_attempt(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    await jobs.create(new("c"), LIMITS)
    first, second = leases(database, "first"), leases(database, "second")
    claimed = await first.claim()
    assert claimed is not None
    await first.release(claimed[0].id)
    again = await second.claim()
    assert again is not None
    assert again[0].num_attempts == 1
    await second.finish(again[0].id, DONE)


async def test_limits_are_kept(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, max_queued=3)
    limits = KeyLimits(max_active_dubs=2, media_s_per_day=90)
    await jobs.create(new("d"), limits)
    await jobs.create(new("d"), limits)
    with pytest.raises(CapacityError, match="waiting or running"):
        await jobs.create(new("d"), limits)
    await jobs.create(new("e", duration_s=40.0), limits)
    with pytest.raises(ServiceFullError):
        await jobs.create(new("f"), limits)
    await drain(database)
    with pytest.raises(CapacityError, match="has used 80 s and asks for 20 s"):
        await jobs.create(new("e"), limits)


async def test_the_day_counts_what_is_fetched_added_made_again_and_streamed(database: Database) -> None:
    await drain(database)
    jobs, holder, limits = Jobs(database, 100), leases(database, "holder"), KeyLimits(media_s_per_day=150)
    by_url = (await jobs.create(new("u", duration_s=None, source_url="https://a.example/a.mp4"), limits))[0].dub.id
    fetching = await holder.claim_fetch(2)
    assert fetching is not None
    await holder.note_fetched(fetching, 20.0, 1000, limits)
    project = (await jobs.create(new("u", duration_s=30.0, targets=()), limits))[0].dub.id
    await jobs.make_again("u", project, limits, languages=["pt"])
    await jobs.charge("u", 25.0, limits)
    with pytest.raises(CapacityError, match="has used 95 s and asks for 60 s"):
        await jobs.charge("u", 60.0, limits)
    await drain(database)
    with pytest.raises(CapacityError, match="has used 95 s and asks for 60 s"):
        await jobs.make_again("u", project, limits, languages=["fr"])  # and Portuguese, which was cancelled
    await jobs.make_again("u", project, limits)
    await drain(database)
    with pytest.raises(CapacityError, match="has used 125 s and asks for 30 s"):
        await jobs.make_again("u", project, limits)
    await jobs.charge("u", 25.0, limits)
    with pytest.raises(CapacityError, match="has used 150 s and asks for more"):
        await jobs.create(new("u", duration_s=None, source_url="https://a.example/b.mp4"), limits)
    assert {view.dub.id for view in (await jobs.page("u", before=None, limit=9))[0]} == {by_url, project}
    assert await holder.claim() is None


async def test_many_requests_at_once_have_no_more_of_the_day_than_one_after_another(database: Database) -> None:
    """On six dispatchers, which share nothing but the database."""
    await drain(database)
    limits = KeyLimits(media_s_per_day=50)
    asked = [Jobs(database, 100).create(new("six"), limits) for _ in range(6)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, tuple) for answer in answers) == 2
    assert sum(isinstance(answer, CapacityError) for answer in answers) == 4
    await drain(database)


async def test_a_source_that_is_longer_than_what_is_left_of_the_day_is_not_dubbed(database: Database) -> None:
    await drain(database)
    jobs, holder, limits = Jobs(database, 100), leases(database, "holder"), KeyLimits(media_s_per_day=100)
    await jobs.create(new("l", duration_s=None, source_url="https://a.example/a.mp4"), limits)
    fetching = await holder.claim_fetch(2)
    assert fetching is not None
    with pytest.raises(CapacityError, match="asks for 120 s"):
        await holder.note_fetched(fetching, 60.0, 1000, limits)
    await holder.finish(fetching.id, AttemptOutcome(state=DubState.FAILED, event={}, error="too long"))
    view = await jobs.get("l", fetching.id)
    assert view.dub.state == "failed"
    assert {target.state for target in view.targets} == {TargetState.FAILED}


async def test_bytes_are_limited_until_some_are_deleted(database: Database) -> None:
    await drain(database)
    jobs, limits = Jobs(database, 100), KeyLimits(max_stored_bytes=1000)
    dub_id = (await jobs.create(new("bytes", source_bytes=600), limits))[0].dub.id
    with pytest.raises(CapacityError, match="take 600 and 500 would be added"):
        await jobs.create(new("bytes", source_bytes=500), limits)
    await jobs.note_bytes(dub_id, 900)
    with pytest.raises(CapacityError, match="take 900 and 200 would be added"):
        await jobs.check_room("bytes", limits, 200)
    await jobs.create(new("other", source_bytes=500), limits)
    await jobs.cancel("bytes", dub_id)
    await jobs.delete("bytes", dub_id)
    await jobs.create(new("bytes", source_bytes=500), limits)
    await drain(database)


# --- turns


async def test_owners_take_turns_however_much_one_asks(database: Database) -> None:
    await drain(database)
    jobs, limits = Jobs(database, 100), KeyLimits(max_active_dubs=99, media_s_per_day=1e9)
    for _ in range(5):
        await jobs.create(new("many", targets=("pt",)), limits)
    for owner in ("few", "few", "one"):
        await jobs.create(new(owner, targets=("pt",)), limits)
    holder = leases(database, "holder")
    slots: list[str] = []
    order = []
    for _ in range(8):  # two places: the older job ends, and its place is free
        claimed = await holder.claim()
        assert claimed is not None
        order.append(claimed[0].owner)
        slots.append(claimed[0].id)
        if len(slots) == 2:
            await holder.finish(slots.pop(0), DONE)
    assert order[:3] in (["many", "few", "one"],)
    assert order.index("one") <= 2
    assert [owner for owner in order if owner != "one"][:4] == ["many", "few"] * 2
    assert order[5:] == ["many"] * 3
    await drain(database)


async def test_downloads_take_no_place_of_jobs_and_are_shared_among_owners(database: Database) -> None:
    await drain(database)
    jobs, holder, limits = Jobs(database, 100), leases(database, "holder"), KeyLimits(max_active_dubs=99)
    slow = {"duration_s": None, "source_url": "https://slow.example/a.mp4"}
    for owner in ("slow", "slow", "slow", "other"):
        await jobs.create(new(owner, **slow), limits)
    here = (await jobs.create(new("here"), limits))[0].dub.id
    claimed = await holder.claim()
    assert claimed is not None
    assert claimed[0].id == here
    assert await holder.claim() is None, "what is not fetched is not run"
    assert await jobs.num_queued() == 0
    fetching = [await leases(database, f"d{number}").claim_fetch(2) for number in range(4)]
    assert [dub.owner for dub in fetching if dub is not None] == ["slow", "other", "slow"]
    first = fetching[0]
    assert first is not None
    await leases(database, "d0").note_fetched(first, 5.0, 100, limits)
    ready = await holder.claim()
    assert ready is not None
    assert (ready[0].id, ready[0].num_attempts, ready[0].duration_s) == (first.id, 1, 5.0)
    await drain(database)


async def test_downloads_claimed_at_one_moment_are_as_many_as_each_owner_may_have(database: Database) -> None:
    await drain(database)
    jobs, limits = Jobs(database, 100), KeyLimits(max_active_dubs=99)
    source = {"duration_s": None, "source_url": "https://slow.example/a.mp4"}
    for owner in ("one", "other") * 6:
        await jobs.create(new(owner, **source), limits)
    claims = await asyncio.gather(*(leases(database, f"d{number}").claim_fetch(2) for number in range(12)))
    assert sorted(dub.owner for dub in claims if dub is not None) == ["one", "one", "other", "other"]
    await drain(database)


async def test_a_download_goes_on_elsewhere_and_ends_with_its_job(database: Database) -> None:
    await drain(database)
    jobs, dead, other = Jobs(database, 100), leases(database, "dead", lease_s=0.01), leases(database, "other")
    source = {"duration_s": None, "source_url": "https://slow.example/a.mp4"}
    dub_id = (await jobs.create(new("f", **source), LIMITS))[0].dub.id
    first = await dead.claim_fetch(2)
    assert first is not None
    await asyncio.sleep(0.05)
    second = await other.claim_fetch(2)
    assert second is not None
    assert (second.id, second.num_attempts) == (dub_id, 2)
    with pytest.raises(LeaseLostError):
        await dead.note_fetched(first, 5.0, 100, LIMITS)
    assert len(await other.renew([dub_id])) == 1
    await jobs.cancel("f", dub_id)
    assert await other.renew([dub_id]) == []
    with pytest.raises(LeaseLostError):
        await other.note_fetched(second, 5.0, 100, LIMITS)
    assert await other.claim_fetch(2) is None


async def test_a_source_that_is_gone_is_fetched_again(database: Database) -> None:
    await drain(database)
    jobs, holder = Jobs(database, 100), leases(database, "holder")
    await jobs.create(new("g", duration_s=None, source_url="https://a.example/a.mp4"), LIMITS)
    fetching = await holder.claim_fetch(2)
    assert fetching is not None
    await holder.note_fetched(fetching, 5.0, 100, LIMITS)
    assert await holder.claim() is not None
    await holder.release(fetching.id, is_fetched=False)
    assert await holder.claim() is None
    assert await holder.claim_fetch(2) is not None
    await drain(database)


# --- clocks and machines that go


async def test_the_clock_of_a_dispatcher_steals_no_job(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await drain(database)
    jobs, holder = Jobs(database, 100), leases(database, "holder", lease_s=60.0)
    dub_id = (await jobs.create(new("clock"), LIMITS))[0].dub.id
    assert await holder.claim() is not None
    real = time.time
    for skew_s in (3600.0, -3600.0):
        monkeypatch.setattr(time, "time", lambda skew_s=skew_s: real() + skew_s)
        assert await leases(database, "skewed").claim() is None
        assert len(await holder.renew([dub_id])) == 1
    monkeypatch.undo()
    assert await leases(database, "other").claim() is None
    await drain(database)


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_a_database_whose_clock_jumps_a_day_keeps_no_job_waiting_and_runs_none_twice(
    database: Database, jump_s: float
) -> None:
    await drain(database)
    jobs, dead, other = Jobs(database, 100), leases(database, "dead"), leases(database, "other")
    lives = (await jobs.create(new("jump"), LIMITS))[0].dub.id
    assert await dead.claim() is not None

    async def jump() -> None:
        async with database.transaction() as session:  # as if all times in it were of before
            await session.execute(update(Dub).values(lease_until_s=Dub.lease_until_s - jump_s))

    await jump()
    assert await dead.claim(under_way=[lives]) is None, "its own dispatcher starts it no second time"
    assert [lease.dub_id for lease in await dead.renew([lives])] == [lives]
    assert await other.claim() is None, "renewed, it is held as before"
    await jump()
    claimed = await other.claim()  # nobody renews it
    assert claimed is not None
    assert claimed[0].id == lives
    with pytest.raises(LeaseLostError):
        await dead.finish(lives, DONE)
    await other.finish(lives, DONE)
    assert (await jobs.get("jump", lives)).dub.revision == 1


async def test_an_attempt_that_comes_further_than_all_before_counts_as_the_first(database: Database) -> None:
    """Machines that are taken away cost a long job no attempts; a line that kills its dispatcher does."""
    await drain(database)
    jobs, short = Jobs(database, 100), leases(database, "short", lease_s=0.001)
    dub_id = (await jobs.create(new("far"), LIMITS))[0].dub.id
    attempts = []
    for num_spoken in (3, 9, 9, 5, 10):
        await asyncio.sleep(0.01)
        claimed = await short.claim()
        assert claimed is not None
        await short.note(dub_id, claimed[0].num_events, [("utterance", {})], {}, num_spoken)
        attempts.append((await jobs.get("far", dub_id)).dub.num_attempts)
    assert attempts == [1, 1, 2, 3, 1]
    await drain(database)


async def test_a_dispatcher_tells_how_many_would_be_busy_with_what_waits(database: Database, tmp_path: Path) -> None:
    await drain(database)
    jobs, files, settings, config = Jobs(database, 100), FolderFiles(tmp_path), ServeSettings(), load_config("base")
    health, feed, key_ring = Health(), EventFeed(database), KeyRing(settings, database)
    held, casts = leases(database, "this"), Casts(database=database, limits_of=key_ring.limits_of)
    runner = JobRunner(
        settings,
        max_jobs=2,
        leases=held,
        jobs=jobs,
        files=files,
        attempts=DubAttempts({}, files, jobs, casts, PoolSet(config)),
        fetcher=SourceFetcher(
            settings,
            config,
            leases=held,
            files=files,
            key_ring=key_ring,
            inspecting=Workers().inspecting,
            feed=feed,
            health=health,
        ),
        feed=feed,
        health=health,
    )
    for _ in range(3):
        await jobs.create(new("w"), LIMITS)
    assert await leases(database, "other").claim() is not None
    assert await runner.load() == {"running": 0.0, "waiting": 1.0}
    await drain(database)


async def test_what_was_deleted_still_counts_against_the_day(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    limits = KeyLimits(media_s_per_day=30)
    dub_id = (await jobs.create(new("g"), limits))[0].dub.id
    await jobs.cancel("g", dub_id)
    await jobs.delete("g", dub_id)
    with pytest.raises(NotFoundError):
        await jobs.get("g", dub_id)
    with pytest.raises(CapacityError):
        await jobs.create(new("g"), limits)


async def test_events_are_kept_for_as_long_as_is_said(database: Database) -> None:
    await drain(database)
    jobs, holder = Jobs(database, 100), leases(database, "holder")
    ended = (await jobs.create(new("t", webhook_url="https://a.example/"), LIMITS))[0].dub.id
    assert await holder.claim() is not None
    await holder.finish(ended, DONE)
    under_way = (await jobs.create(new("t"), LIMITS))[0].dub.id
    assert await holder.claim() is not None
    await holder.note(under_way, 0, [("started", {"attempt": 1})], {})

    await cleanup(database, keep_events_s=3600.0, webhook_attempts=1)
    assert [event.kind for event in await jobs.events_after(ended, 0)] == ["done"]
    assert await cleanup(database, keep_events_s=0.0, webhook_attempts=1) >= 1
    assert await jobs.events_after(ended, 0) == []
    assert [event.kind for event in await jobs.events_after(under_way, 0)] == ["started"]
    assert (await jobs.get("t", ended)).dub.state == "done"
    await jobs.make_again("t", ended, LIMITS)
    assert await holder.claim() is not None
    await holder.finish(ended, DONE)
    assert [event.number for event in await jobs.events_after(ended, 0)] == [2]
    await holder.finish(under_way, DONE)


async def test_who_follows_a_job_whose_events_are_gone_is_not_kept_waiting(database: Database) -> None:
    await drain(database)
    jobs, holder = Jobs(database, 100), leases(database, "holder")
    ended = (await jobs.create(new("t"), LIMITS))[0].dub.id
    assert await holder.claim() is not None
    await holder.finish(ended, DONE)
    told = follow(jobs, EventFeed(database), "t", ended, 0, lambda: False)
    assert [event.kind async for event in told] == ["done"]
    await cleanup(database, keep_events_s=0.0, webhook_attempts=1)
    assert [event async for event in follow(jobs, EventFeed(database), "t", ended, 0, lambda: False)] == []


async def test_one_that_is_cancelled_while_it_waits_has_ended_like_any_other(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    view = (await jobs.create(new("t", webhook_url="https://a.example/"), LIMITS))[0]
    cancelled = await jobs.cancel("t", view.dub.id)
    assert [target.state for target in cancelled.targets] == ["failed", "failed"]
    async with database.transaction() as session:
        delivery = (await session.scalars(select(Delivery).where(Delivery.dub_id == view.dub.id))).one()
    assert json.loads(delivery.body)["type"] == "dub.cancelled"


async def test_media_without_a_job_are_found_and_removed_after_their_grace(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (await Jobs(database, 100).create(new("t"), KeyLimits()))[0].dub.id
    stray, files = new_dub_id(), FolderFiles(tmp_path)
    for dub_id in (known, stray):
        files.write(files.paths.source(dub_id), b"x")
    settings = ServeSettings(upload_max_s=30.0, storage=StorageSettings(stray_grace_s=1000.0))
    started_s = time.time()

    async def found_after(elapsed_s: float) -> list[str]:
        monkeypatch.setattr(time, "time", lambda: started_s + elapsed_s)
        return list(await find_strays(settings, database, files))

    assert await found_after(0.0) == []
    assert await found_after(61.0) == [], "noticed, and kept"
    assert await found_after(1060.0) == []
    assert await found_after(1062.0) == [stray]
    # A database that was restored from before has the job again, and the grace begins anew if it is lost again.
    async with database.transaction() as session:
        session.add(_copied((await Jobs(database, 100).get("t", known)).dub, stray))
    assert await found_after(1063.0) == []
    async with database.transaction() as session:
        await session.execute(delete(Dub).where(Dub.id == stray))
    assert await found_after(1064.0) == []
    assert await found_after(2065.0) == [stray]
    await drain(database)


def _copied(dub: Dub, dub_id: str) -> Dub:
    fields = {column.name: getattr(dub, column.name) for column in Dub.__table__.columns}
    return Dub(**{**fields, "id": dub_id})


async def test_another_database_removes_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With no grace at all, and whatever the marks say: so many media without a job are somebody else's."""
    files = FolderFiles(tmp_path)
    for _ in range(MAX_FEW + 1):
        files.write(files.paths.source(new_dub_id()), b"x")
    later_s = time.time() + 3 * 86400.0
    monkeypatch.setattr(time, "time", lambda: later_s)
    settings = ServeSettings(storage=StorageSettings(stray_grace_s=0.0))
    assert await find_strays(settings, database, files) == []
    assert f"{MAX_FEW + 1} of {MAX_FEW + 1} have none, and nothing is removed" in caplog.text
    files.delete(files.dub_ids()[0])
    assert len(await find_strays(settings, database, files)) == MAX_FEW


async def test_one_idempotency_key_makes_one_job_however_many_ask_at_once(database: Database) -> None:
    limits = KeyLimits(max_active_dubs=99)
    several = [Jobs(database, 100) for _ in range(4)]
    asked = [jobs.create(new("h", idempotency_key="k", fingerprint="f"), limits) for jobs in several]
    answers = await asyncio.gather(*asked)
    assert len({view.dub.id for view, _ in answers}) == 1
    assert [is_new for _, is_new in answers].count(True) == 1
    with pytest.raises(ConflictError):
        await several[0].create(new("h", idempotency_key="k", fingerprint="other"), limits)
    await drain(database)


@pytest.mark.parametrize("edit", [{"text": "a\0b", "voice": None}, {"text": None, "voice": "\0"}])
async def test_an_edit_that_postgresql_cannot_store_is_refused(database: Database, edit: dict[str, Any]) -> None:
    await drain(database)
    jobs, holder = Jobs(database, 100), leases(database, "d1")
    dub_id = (await jobs.create(new("e"), LIMITS))[0].dub.id
    assert await holder.claim() is not None
    await holder.finish(dub_id, DONE)
    with pytest.raises(ItemError, match="no character NUL"):
        await jobs.edit("e", dub_id, "pt", "pt:u0001", **edit)
    assert not await jobs.edits(dub_id)


async def test_who_is_cancelled_while_he_writes_locks_nobody_out(database: Database) -> None:
    dub_id = (await Jobs(database, 100).create(new("c"), LIMITS))[0].dub.id
    rename = update(Dub).where(Dub.id == dub_id)

    async def write() -> None:
        async with database.transaction() as session:
            for name in "ab":
                await session.execute(rename.values(name=name))
                await session.execute(select(Dub).where(Dub.id == dub_id))

    cancelled = []  # kept, as a log keeps what went wrong, and with it the frames it passed
    for n in range(150):
        writing = asyncio.create_task(write())
        await asyncio.sleep(n * 5e-5)
        writing.cancel()
        cancelled += await asyncio.gather(writing, return_exceptions=True)
        await write()
    await drain(database)


async def test_keys_are_stored_by_hash_and_end_when_revoked(database: Database) -> None:
    key = await add_key(database, "somebody", KeyLimits(requests_per_min=7))
    [row] = [row for row in await list_keys(database) if row.name == "somebody"]
    assert key not in repr(vars(row))
    caller = await KeyRing(ServeSettings(), database).find(key)
    assert caller is not None
    assert (caller.owner, caller.limits.requests_per_min) == (f"key:{row.id}", 7)
    await revoke_key(database, row.id)
    assert await KeyRing(ServeSettings(), database).find(key) is None


async def test_migrations_of_several_dispatchers_at_once(tmp_path: Path, postgres: Postgres) -> None:
    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[None]:
        async with Database.open(url):
            yield

    for url in (f"sqlite+aiosqlite:///{tmp_path / 'b.db'}", postgres.url):
        contexts: list[AbstractAsyncContextManager[None]] = [opened(url) for _ in range(4)]
        await asyncio.gather(*(context.__aenter__() for context in contexts))
        for context in contexts:
            await context.__aexit__(None, None, None)


async def test_nobody_takes_over_from_itself_or_after_a_time_in_which_none_could_renew(database: Database) -> None:
    await drain(database)
    dub_id = (await Jobs(database, 100).create(new("n"), LIMITS))[0].dub.id
    late, other = leases(database, "late", lease_s=0.01), leases(database, "other")
    assert await late.claim() is not None
    await asyncio.sleep(0.05)
    assert await late.claim(under_way=[dub_id]) is None
    assert await other.claim(resume=False) is None
    assert await other.claim() is not None
    await drain(database)


def test_a_database_stopped_in_the_middle_of_jobs_costs_none(
    postgres: Postgres, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a lease; meanwhile jobs go on, and who asks is told to come again."""
    monkeypatch.delenv("RAYDUB_DATABASE_URL", raising=False)
    settings = (
        *(f"serve.database_url={postgres.url}", "serve.lease_s=1", "serve.poll_s=0.2", "pipeline.max_videos=2"),
        "serve.auth.required=false",  # other tests made keys in this database
    )
    with running(tmp_path, *STANDINS, *settings, config="base") as service, service.client() as client:
        made = [create(client, talk)["id"] for _ in range(3)]
        while client.get(f"/v1/dubs/{made[0]}").json()["state"] == "queued":
            time.sleep(0.02)
        postgres.stop()
        try:
            assert client.get(f"/v1/dubs/{made[0]}").status_code == 503
            time.sleep(STOPPED_S)
            assert until_ready_says(client, "database_unreachable") == 503
            assert client.get("/healthz").status_code == 200
        finally:
            postgres.start()
        assert until_ready_says(client, "ready") == 200
        while client.get("/v1/dubs").status_code == 503:
            time.sleep(0.1)
        for dub_id in made:
            assert finished(client, dub_id)["state"] == "done"
            told = client.get(f"/v1/dubs/{dub_id}/events").text
            assert (told.count("event: started"), told.count("event: done")) == (1, 1)
            assert client.get(f"/v1/dubs/{dub_id}").json()["revision"] == 1


def until_ready_says(client: httpx.Client, status: str) -> int:
    while (answer := client.get("/readyz")).json()["status"] != status:
        time.sleep(0.05)
    return answer.status_code


async def test_a_database_whose_host_says_nothing_does_not_answer_either() -> None:
    silent = await asyncio.start_server(lambda *_: asyncio.Event().wait(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    engine = create_async_engine(f"postgresql+asyncpg://somebody@127.0.0.1:{port}/raydub")
    assert not await Database(engine).answers(within_s=0.1)
    silent.close()


async def test_what_is_asked_again_because_its_answer_was_lost_is_done_once(database: Database) -> None:
    await drain(database)
    jobs = Jobs(database, 100)
    dub_id = (await jobs.create(new("o"), LIMITS))[0].dub.id
    holder = leases(database, "holder", lease_s=0.01)
    assert await holder.claim() is not None
    await asyncio.sleep(0.05)
    claimed = await holder.claim()  # it never heard that it has the job
    assert claimed is not None
    assert claimed[0].id == dub_id
    for _ in range(2):
        await holder.note(dub_id, 0, [("started", {}), ("segment", {})], {})
    await holder.note(dub_id, 2, [("segment", {})], {})
    await holder.note(dub_id, 3, [], {"elapsed_s": 1.0})
    assert [(event.number, event.kind) for event in await jobs.events_after(dub_id, 0)] == [
        (1, "started"),
        (2, "segment"),
        (3, "segment"),
    ]
    assert (await jobs.get("o", dub_id)).dub.progress == {"elapsed_s": 1.0}
    await drain(database)


async def test_a_database_that_dies_under_any_query_is_told_as_one_that_may_come_back(postgres: Postgres) -> None:
    """Being asked, committing, connecting, starting: each meets another error of the driver's."""
    async with Database.open(postgres.url) as database:
        is_over = False
        met: list[BaseException] = []

        async def ask() -> None:
            while not is_over:
                try:
                    async with database.transaction() as session:
                        await session.execute(text("SELECT pg_sleep(0.01)"))
                        await session.execute(text("SELECT 1"))
                except Exception as error:
                    met.append(error)
                    await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(ask())
            for _ in range(2):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(postgres.stop)
                await asyncio.to_thread(postgres.start)
            is_over = True
        assert len(met) >= 12
        assert [error for error in met if not isinstance(error, UNREACHABLE)] == []


async def test_work_waits_for_a_database_that_is_stopped(postgres: Postgres) -> None:
    async with Database.open(postgres.url) as database:
        await drain(database)
        jobs = Jobs(database, 100)
        dub_id = (await jobs.create(new("i"), LIMITS))[0].dub.id
        holder = leases(database, "holder")
        assert await holder.claim() is not None
        await asyncio.to_thread(postgres.stop)
        try:
            noting = asyncio.create_task(until_it_answers(lambda: holder.note(dub_id, 0, [("segment", {})], {})))
            await asyncio.sleep(0.5)
            assert not noting.done()
        finally:
            await asyncio.to_thread(postgres.start)
        await noting
        await until_it_answers(lambda: holder.finish(dub_id, DONE))
        assert [event.kind for event in await jobs.events_after(dub_id, 0)] == ["segment", "done"]
