"""One process of the service: it owns pools, answers HTTP requests, and runs jobs as it has room for them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from cluster.config.schema import Config
from cluster.pools.pool_set import PoolSet
from serve.dispatch.attempt import DubAttempts
from serve.dispatch.claims import JobRunner
from serve.dispatch.fetches import SourceFetcher
from serve.dispatch.health import Health
from serve.dispatch.history import FigureHistory, measure_forever
from serve.dispatch.housekeeping import clean_up_forever, return_memory_forever
from serve.dispatch.warm_up import warm_up
from serve.inference.inference import Inference
from serve.jobs.api_keys import KeyRing
from serve.jobs.casts import Casts
from serve.jobs.database import Database
from serve.jobs.following import EventFeed
from serve.jobs.instance import check_instance
from serve.jobs.jobs import Jobs
from serve.jobs.leases import Leases
from serve.jobs.webhooks import Webhooks
from serve.settings import ServeSettings
from serve.storage.files import JobFiles
from serve.storage.open import open_files
from serve.storage.tracks import TrackFiles
from serve.threads import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherSetup:
    """Everything that is needed to open a dispatcher."""

    settings: ServeSettings
    configs: Mapping[str | None, Config]
    """By the profile that a request names; None for requests that name none."""
    on_loopback: bool = False
    """True if only programs of this machine can reach the service: then it may be used without a key."""
    health: Health = field(default_factory=Health)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """An open dispatcher, as routes use it."""

    settings: ServeSettings
    configs: Mapping[str | None, Config]
    health: Health
    database: Database
    files: JobFiles
    jobs: Jobs
    casts: Casts
    key_ring: KeyRing
    feed: EventFeed
    pools: PoolSet
    inference: Inference
    runner: JobRunner
    fetcher: SourceFetcher
    workers: Workers
    tracks: TrackFiles
    history: FigureHistory

    @property
    def config(self) -> Config:
        return self.configs[None]


@asynccontextmanager
async def open_dispatcher(setup: DispatcherSetup) -> AsyncIterator[Dispatcher]:
    """Start a dispatcher with its tasks. At the end its jobs may finish for some time; the others are handed on.

    Raises ConfigError if the database or the data folder cannot be used, or if they do not belong together.
    """
    settings, config, health = setup.settings, setup.configs[None], setup.health
    async with AsyncExitStack() as stack:
        files = await asyncio.to_thread(stack.enter_context, open_files(settings))
        database = await stack.enter_async_context(Database.open(settings.database))
        await check_instance(database, files)
        pools = await stack.enter_async_context(PoolSet(config))
        dispatcher = _dispatcher(setup, database, files, pools)
        stack.callback(dispatcher.workers.close)
        work = (
            warm_up(pools, config, settings.warm_languages, health),
            dispatcher.runner.claim_forever(),
            dispatcher.fetcher.claim_forever(),
            dispatcher.runner.renew_forever(),
            clean_up_forever(settings, database, files),
            return_memory_forever(),
            health.watch_database(database),
            measure_forever(dispatcher.history, pools, database, dispatcher.runner),
            dispatcher.key_ring.refresh_forever(),
            Webhooks(settings, config.fetch, database).deliver_forever(),
        )
        async with _tasks(work, health):
            try:
                yield dispatcher
            finally:
                health.draining()
                await dispatcher.runner.drain()


def _dispatcher(setup: DispatcherSetup, database: Database, files: JobFiles, pools: PoolSet) -> Dispatcher:
    """The parts of a dispatcher; its tasks are not started."""
    settings, config, health = setup.settings, setup.configs[None], setup.health
    key_ring = KeyRing(settings, database, on_loopback=setup.on_loopback)
    jobs, feed, workers = Jobs(database, settings.max_queued_dubs), EventFeed(database), Workers()
    casts = Casts(database=database, limits_of=key_ring.limits_of)
    leases = Leases(database=database, holder=uuid.uuid4().hex, lease_s=settings.lease_s)
    fetcher = SourceFetcher(
        settings,
        config,
        leases=leases,
        files=files,
        key_ring=key_ring,
        inspecting=workers.inspecting,
        feed=feed,
        health=health,
    )
    runner = JobRunner(
        settings,
        max_jobs=config.pipeline.max_videos,
        leases=leases,
        jobs=jobs,
        files=files,
        attempts=DubAttempts(setup.configs, files, jobs, casts, pools, share_results=settings.share_results),
        fetcher=fetcher,
        feed=feed,
        health=health,
    )
    return Dispatcher(
        settings=settings,
        configs=setup.configs,
        health=health,
        database=database,
        files=files,
        jobs=jobs,
        casts=casts,
        key_ring=key_ring,
        feed=feed,
        pools=pools,
        inference=Inference(config, pools, settings.inference, workers),
        runner=runner,
        fetcher=fetcher,
        workers=workers,
        tracks=TrackFiles(files, workers.extracting, config.media),
        history=FigureHistory(settings.dashboard, config.price),
    )


@asynccontextmanager
async def _tasks(work: Iterable[Coroutine[object, object, None]], health: Health) -> AsyncIterator[None]:
    """Run coroutines as tasks that ``health`` watches, and cancel them at the end."""
    tasks = [asyncio.create_task(one) for one in work]
    for task in tasks:
        task.add_done_callback(health.note_end)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
