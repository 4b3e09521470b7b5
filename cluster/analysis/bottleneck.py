"""The stage that bounds a dub, and what more replicas would give, by the times in its manifest.

A manifest has the engine time of each pool, but not when each request ran. So the requests of a stage are taken to be
alike, and are replayed in order: a request can begin when its share of the stage before is done. All that the replay
does not have (loading, decoding, mixing, writing, waits) is taken to stay as it was.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.errors import ConfigError
from cluster.config.load import recorded_config
from cluster.config.schema import Config
from cluster.manifest import Manifest, PoolRecord

ORDER = ("transcription", "translation", "embedding", "speech")
"""Tasks in the order of the path. Others run beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLoad:
    """The measured work of one pool."""

    pool: str
    setting: str
    """Key of the setting that adds a replica."""
    replicas: int
    """Number that the pool may have."""
    num_items: int
    num_batches: int
    engine_s: float

    @property
    def task(self) -> str:
        return self.pool.partition("/")[0]

    @property
    def bound_s(self) -> float:
        """Least time in which its replicas could do the work."""
        return self.engine_s / min(self.replicas, self.num_batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The expected wall time of the dub with one more replica of a pool."""

    stage: StageLoad
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckAnalysis:
    """Where the time of one dub went, as far as its manifest tells."""

    wall_s: float
    first_utterance_s: float | None
    bound: StageLoad
    """The stage that no order of work makes faster."""
    what_if: tuple[WhatIf, ...]
    """In the order of the path."""
    missing: tuple[str, ...]
    """Things that the manifest does not tell, in words."""

    @property
    def rest_s(self) -> float:
        """Time above the bound."""
        return self.wall_s - self.bound.bound_s


def analyse(manifest: Manifest) -> BottleneckAnalysis:
    """Raises ConfigError if the manifest lacks the times to tell anything by."""
    wall_s, pools = manifest.timings.wall_s, manifest.timings.pools
    config = recorded_config(manifest.config)
    stages = [_load_of(pool, config) for pool in pools if pool.num_batches and pool.engine_s > 0]
    if not stages:
        raise ConfigError(
            "the manifest must have engine times; found none: all results were stored before; analyse the first dub"
        )
    stages.sort(key=lambda stage: ORDER.index(stage.task) if stage.task in ORDER else -1)
    bound = max(stages, key=lambda stage: stage.bound_s)
    path = [stage for stage in stages if stage.task in ORDER]
    now_s = replay(path, {})
    if max(bound.bound_s, now_s) > wall_s:
        raise ConfigError(
            f"the pools' times must be of this dub alone; found {max(bound.bound_s, now_s):.1f} s of work in a dub of "
            f"{wall_s:.1f} s: the pools served other dubs too; analyse a dub that ran alone"
        )
    what_if = tuple(WhatIf(stage=stage, wall_s=wall_s - now_s + replay(path, {stage.pool: 1})) for stage in path)
    return BottleneckAnalysis(
        wall_s=wall_s,
        first_utterance_s=manifest.timings.first_utterance_s,
        bound=bound,
        what_if=what_if,
        missing=_missing(pools, stages),
    )


def replay(path: Sequence[StageLoad], more: Mapping[str, int]) -> float:
    """Seconds from the first request to the last result, with ``more`` replicas by pool."""
    ended_s: Sequence[float] = ()
    for stage in path:
        ready_s = _ready(ended_s, stage.num_batches)
        ended_s = _run(ready_s, stage.engine_s / stage.num_batches, stage.replicas + more.get(stage.pool, 0))
    return max(ended_s, default=0.0)


def _ready(ended_s: Sequence[float], num_batches: int) -> list[float]:
    """When each batch can begin: with its share of the batches before."""
    if not ended_s:
        return [0.0] * num_batches
    shares = (math.ceil((number + 1) * len(ended_s) / num_batches) for number in range(num_batches))
    return [ended_s[share - 1] for share in shares]


def _run(ready_s: Sequence[float], batch_s: float, replicas: int) -> list[float]:
    """When each batch has ended, and all before it: results are handed on in order."""
    free_s = [0.0] * replicas
    ended_s = []
    for each_s in ready_s:
        end_s = max(each_s, heapq.heappop(free_s)) + batch_s
        heapq.heappush(free_s, end_s)
        ended_s.append(end_s)
    return list(itertools.accumulate(ended_s, max))


def _load_of(pool: PoolRecord, config: Config) -> StageLoad:
    setting, settings = config.pool_settings(pool.name)
    return StageLoad(
        pool=pool.name,
        setting=f"{setting}.max_replicas",
        replicas=settings.largest,
        num_items=pool.num_items,
        num_batches=pool.num_batches,
        engine_s=pool.engine_s,
    )


def _missing(pools: Sequence[PoolRecord], stages: Sequence[StageLoad]) -> tuple[str, ...]:
    stored = sorted({pool.name for pool in pools} - {stage.pool for stage in stages})
    found = [f"{name}: no engine time, its results were stored before" for name in stored]
    hits = {pool.name: pool.num_hits for pool in pools if pool.num_hits and pool.name not in stored}
    found += [f"{name}: {number} results were stored before, and took no engine time" for name, number in hits.items()]
    return (*found, "when each request waited and ran, and how long loading, mixing and writing took")
