"""Many inputs on one set of pools: a bad one is named, and the others are done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.errors import DubbingError, first_of
from cluster.config import Config
from cluster.logs import log_context
from cluster.manifest import Manifest
from cluster.pipeline import Job, dub
from cluster.pools import Pools
from cluster.progress import Progress
from cluster.staging import brought, deliver

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one job: its manifest, or why there is none."""

    job: Job
    manifest: Manifest | None
    error: str | None


async def run(
    jobs: Sequence[Job],
    config: Config,
    on_change: Callable[[Progress], None],
    on_outcome: Callable[[Outcome], None],
) -> list[Outcome]:
    """Dub every job, at most ``pipeline.max_videos`` at a time. Outcomes are in the order of the jobs."""
    room = asyncio.Semaphore(config.pipeline.max_videos)

    async def one(job: Job, pools: Pools) -> Outcome:
        async with room:
            outcome = await attempt(job, config, pools, Progress(job=job.source.name, on_change=on_change))
            on_outcome(outcome)
            return outcome

    async with Pools(config) as pools, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(job, pools)) for job in jobs]
    return [task.result() for task in tasks]


async def attempt(job: Job, config: Config, pools: Pools, progress: Progress) -> Outcome:
    """Dub one job; whatever goes wrong with it is its outcome."""
    try:
        config = config.overlaid(job.settings)
        async with brought(job, config) as local:
            manifest = await dub(local, config, pools, progress)
            await deliver(job, local)
    except Exception as error:
        reason = first_of(error)
        if not isinstance(reason, DubbingError):
            with log_context(job=job.source.name):
                log.exception("video failed")
        return Outcome(job=job, manifest=None, error=_describe(reason))
    return Outcome(job=job, manifest=manifest, error=None)


def _describe(error: Exception) -> str:
    if isinstance(error, DubbingError):
        return error.message
    said = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {said}; the log has the traceback, please report it"
