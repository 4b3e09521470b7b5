"""Dubs many inputs on one set of pools; an input that fails does not stop the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from actors.errors import DubbingError, first_of
from cluster.batch.room import check_room, needs_of_jobs
from cluster.batch.staging import stage_in, stage_out
from cluster.config.load import item_config
from cluster.config.schema import Config
from cluster.logs import log_context
from cluster.manifest import Manifest
from cluster.media import sandbox
from cluster.pipeline import Job, dub
from cluster.pools.needs import Need
from cluster.pools.pool_set import PoolSet
from cluster.pools.ray_session import has_cluster
from cluster.pools.reservation import Reservation, reserve
from cluster.pools.waiting import WaitLog, wait_for_room
from cluster.steps.progress import Progress
from cluster.storage.files import is_full

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """The result of one job: its manifest, or the error."""

    job: Job
    manifest: Manifest | None
    error: str | None


async def run(
    jobs: Sequence[Job],
    config: Config,
    on_change: Callable[[Progress], None],
    on_outcome: Callable[[ItemOutcome], None],
) -> list[ItemOutcome]:
    """Dub every job, at most ``pipeline.max_videos`` at a time. Outcomes are in the order of the jobs.

    Raises ConfigError if the cluster can never hold one replica of each pool.
    """
    sandbox.start()  # ready by the time the models are
    room = asyncio.Semaphore(config.pipeline.max_videos)

    async def one(job: Job, pools: PoolSet) -> ItemOutcome:
        async with room:
            outcome = await attempt(job, config, pools, Progress(job=job.source.name, on_change=on_change))
            on_outcome(outcome)
            return outcome

    async with (
        _reserved(needs_of_jobs(jobs, config) if has_cluster(config.ray) else [], config) as reservation,
        PoolSet(config, reservation) as pools,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(one(job, pools)) for job in jobs]
    return [task.result() for task in tasks]


@asynccontextmanager
async def _reserved(needs: Sequence[Need], config: Config) -> AsyncIterator[Reservation | None]:
    """Room for all needs; None if they need none. Raises ConfigError if no cluster of its kind could ever have it."""
    await check_room(needs)
    reservation = reserve(needs)
    try:
        if reservation is not None:
            told = WaitLog()
            limit_s = max(config.drivers.start_timeout_s, config.ray.full_timeout_s)
            await wait_for_room(
                reservation,
                config.ray,
                limit_s,
                on_wait=lambda wait: told.note([] if wait is None else [wait]),
            )
        yield reservation
    finally:
        if reservation is not None:
            reservation.remove()


async def attempt(job: Job, config: Config, pools: PoolSet, progress: Progress) -> ItemOutcome:
    """Dub one job; an error becomes its outcome."""
    try:
        config = item_config(config, job.settings)
        async with stage_in(job, config) as local:
            manifest = await dub(local, config, pools, progress)
            await stage_out(job, local)
    except Exception as error:
        reason = first_of(error)
        if not isinstance(reason, DubbingError):
            with log_context(job=job.source.name):
                log.exception("video failed")
        return ItemOutcome(job=job, manifest=None, error=_describe(reason))
    return ItemOutcome(job=job, manifest=manifest, error=None)


def _describe(error: Exception) -> str:
    if isinstance(error, DubbingError):
        return error.message
    if isinstance(error, OSError) and is_full(error):
        where = f"the disk of {error.filename}" if error.filename else "the disk of the results or of TMPDIR"
        return f"the results must have room; {where} is full; free some of it, or choose others by --out and TMPDIR"
    text = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {text}; the log has the traceback, please report it"
