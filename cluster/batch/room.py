"""The needs of a batch's driver at one time, and a check that the cluster meets them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterable, Sequence

from actors.errors import ConfigError
from actors.types import Task
from cluster.casting.voices import configured_stage
from cluster.config.load import item_config
from cluster.config.schema import Config, StageConfig
from cluster.pipeline import Job
from cluster.pools.capacity import ClusterView, Growth, look_at_cluster
from cluster.pools.needs import DRIVER, Need, explain, fits, needs_of, worst_of
from cluster.steps.align import needs_embedding
from cluster.steps.records import branches_of

REPORT_S = 10.0
"""Time in which a cluster that has just started reports whether nodes may be added."""


def needs_of_jobs(jobs: Iterable[Job], config: Config) -> list[Need]:
    """Needs of the first replica of each pool that one of the jobs uses, for whichever of them needs most."""
    kinds = {_kind(job): job for job in jobs}  # of many jobs most are alike
    several = []
    for job in kinds.values():
        with contextlib.suppress(ConfigError):  # the job itself reports it
            several.append(needs_of(_stages(job, config)))
    return worst_of(several)


def driver_need(config: Config) -> Need:
    settings = config.drivers
    return Need(name=DRIVER, cpus=settings.num_cpus, resources=tuple(sorted(settings.resources.items())))


def _kind(job: Job) -> str:
    return json.dumps(
        [
            job.targets,
            job.settings,
            sorted(job.target_subtitles),
            job.subtitles is None and (job.remote is None or job.remote.subtitles is None),
            job.manifest is None,
            [arm.name for arm in job.arms],
        ],
        sort_keys=True,
        default=str,
    )


def _stages(job: Job, config: Config) -> list[tuple[Task, StageConfig]]:
    config = item_config(config, job.settings)
    has_subtitles = job.subtitles is not None or (job.remote is not None and job.remote.subtitles is not None)
    is_checked = config.quality.check != "none"
    found: list[tuple[Task, StageConfig]] = []
    if is_checked or not (has_subtitles or job.manifest is not None):
        found.append(("transcription", config.transcription))
    if config.speakers.tells_apart and config.speakers.rttm is None and job.manifest is None:
        found.append(("diarization", config.diarization))
    for branch in branches_of(job.targets, job.arms, config):
        own = branch.config
        is_translated = job.manifest is None and branch.target not in job.target_subtitles
        has_choice = needs_embedding(own.alignment) or own.translation.num_candidates > 1
        if is_translated or is_checked:
            found.append(("translation", own.translation))
        if (is_translated and has_choice) or is_checked:
            found.append(("embedding", own.embedding))
        found.append(("speech", configured_stage(own, branch.target)))
    # A pool is shared by all branches with the same engine, options and pool settings.
    unique = {(task, stage.model_dump_json(include={"engine", "options", "pool"})): stage for task, stage in found}
    return [(task, stage) for (task, _), stage in unique.items()]


async def check_room(needs: Sequence[Need]) -> None:
    """Raise ConfigError if the cluster can never hold all needs at once, with the nodes that may be added to it."""
    if not needs:
        return
    for _ in range(int(REPORT_S)):
        view = await look_at_cluster()
        if view is None or view.growth is not Growth.POSSIBLE or view.addable is not None or fits(needs, view.nodes):
            break
        await asyncio.sleep(1.0)
    if view is not None and (problem := room_problem(needs, view)) is not None:
        raise ConfigError(problem)


def room_problem(needs: Sequence[Need], view: ClusterView) -> str | None:
    """Reason why the needs can never be met at once; None if they can, or if that is unknown."""
    if view.addable is None:
        return None
    added = itertools.chain.from_iterable([node] * min(number, len(needs)) for node, number in view.addable)
    nodes = [*view.nodes, *added]
    if any(need.labels for need in needs) and view.addable:
        return None  # labels of nodes to come are unknown
    return None if fits(needs, nodes) else f"the cluster must have room for the batch: {explain(needs, nodes)}"
