"""The figures of one dispatcher over time, for the page ``/dashboard``: a sample every few seconds, the latest kept."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.config.schema import PriceConfig
from cluster.metrics.meters import PREFIX, families
from cluster.pools.pool_set import PoolSet
from cluster.pools.stats import PoolStats
from serve import metrics
from serve.dispatch.claims import JobRunner
from serve.jobs.active import count_active
from serve.jobs.database import Database, until_it_answers
from serve.settings import DashboardSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counters of this process since it started, and its lag now."""

    segments: float = 0.0
    media_s: float = 0.0
    """Seconds of media mixed, once a language."""
    cost: float = 0.0
    lag_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSample:
    """One pool at one time."""

    queue_items: int
    oldest_wait_s: float
    target: int
    num_serving: int
    busy_share: float | None
    """Share of the serving replicas' time, since the sample before, in which they worked; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The figures at one time; rates are since the sample before."""

    time_s: float
    """Unix time."""
    segments_per_s: float
    realtime: float
    """Seconds of media dubbed a second, all dubs and languages together."""
    lag_s: float
    cost_per_hour: float
    num_running: int
    """Dubs that this dispatcher runs."""
    num_waiting: int
    """Dubs that wait for any dispatcher."""
    pools: Mapping[str, PoolSample]


@dataclass(slots=True, kw_only=True)
class _Before:
    """The last reading, from which the next rates are taken."""

    clock_s: float
    totals: Totals
    busy_s: Mapping[str, float]
    """By pool."""


@dataclass(slots=True)
class FigureHistory:
    """The latest samples of a dispatcher. Its name tells its own from those of others."""

    settings: DashboardSettings
    price: PriceConfig
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started_s: float = field(default_factory=time.time)
    samples: deque[Sample] = field(init=False)
    _before: _Before | None = None

    def __post_init__(self) -> None:
        self.samples = deque(maxlen=self.settings.max_samples)

    def after(self, time_s: float) -> list[Sample]:
        """The samples later than this Unix time."""
        return [sample for sample in self.samples if sample.time_s > time_s]

    def note(
        self, clock_s: float, totals: Totals, pools: Sequence[PoolStats], num_running: int, num_waiting: int
    ) -> None:
        """Add a sample. The first reading gives none, as there is nothing to take rates from."""
        by_name: dict[str, list[PoolStats]] = defaultdict(list)
        for pool in pools:
            by_name[pool.name].append(pool)
        busy_s = {name: sum(pool.busy_s for pool in same) for name, same in by_name.items()}
        before = self._before
        self._before = _Before(clock_s=clock_s, totals=totals, busy_s=busy_s)
        if before is None or clock_s <= before.clock_s:
            return
        past_s, then = clock_s - before.clock_s, before.totals
        self.samples.append(
            Sample(
                time_s=time.time(),
                segments_per_s=(totals.segments - then.segments) / past_s,
                realtime=(totals.media_s - then.media_s) / past_s,
                lag_s=totals.lag_s,
                cost_per_hour=(totals.cost - then.cost) / past_s * 3600,
                num_running=num_running,
                num_waiting=num_waiting,
                pools={
                    name: _pool_sample(same, busy_s[name] - before.busy_s.get(name, 0.0), past_s)
                    for name, same in by_name.items()
                },
            )
        )


def _pool_sample(pools: Sequence[PoolStats], busy_s: float, past_s: float) -> PoolSample:
    """The sample of the pools of one name, which have different options of one engine."""
    num_serving = sum(pool.num_serving for pool in pools)
    share = busy_s / (past_s * num_serving) if num_serving else None
    return PoolSample(
        queue_items=sum(pool.queue_items for pool in pools),
        oldest_wait_s=max(pool.oldest_wait_s for pool in pools),
        target=sum(pool.target for pool in pools),
        num_serving=num_serving,
        busy_share=None if share is None else min(1.0, max(0.0, share)),
    )


TOTALS = {
    f"{PREFIX}raydub_job_segments_total": "segments",
    f"{PREFIX}raydub_job_mixed_seconds_total": "media_s",
    f"{PREFIX}raydub_pool_cost_total": "cost",
    f"{PREFIX}raydub_job_lag_seconds": "lag_s",
}
"""Samples, by name, that the totals are the sums of."""


def read_totals() -> Totals:
    """The totals that this process's metrics tell."""
    sums = dict.fromkeys(TOTALS.values(), 0.0)
    for family in families(*TOTALS):
        for sample in family.samples:
            if sample.name in TOTALS:
                sums[TOTALS[sample.name]] += sample.value
    return Totals(**sums)


async def measure_forever(history: FigureHistory, pools: PoolSet, database: Database, runner: JobRunner) -> None:
    """Note the figures of this dispatcher at each interval, and export those of all dubs."""
    while True:
        active = await until_it_answers(functools.partial(count_active, database))
        states = {name: getattr(active, name) for name in ("queued", "fetching", "running", "abandoned")}
        metrics.set_dubs(states, active.oldest_wait_s, runner.num_running)
        waiting = active.queued + active.fetching
        history.note(time.monotonic(), read_totals(), pools.stats(), runner.num_running, waiting)
        await asyncio.sleep(history.settings.sample_s)
