"""Gives the pools of one dispatcher their sizes: looks at all of them, asks `scaling.py`, and applies the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from actors.errors import ConfigError
from cluster.config import AutoscalingConfig
from cluster.logs import log_context, new_context
from cluster.pool import Pool
from cluster.scaling import PoolSnapshot, Resources, Trend, scale_targets

log = logging.getLogger(__name__)


class Autoscaler:
    """Use as ``async with Autoscaler(config) as scaler``, inside which pools may come."""

    def __init__(self, config: AutoscalingConfig) -> None:
        self._interval_s = config.interval_s
        self.budget = Resources(
            cpus=math.inf if config.max_cpus is None else config.max_cpus,
            gpus=math.inf if config.max_gpus is None else config.max_gpus,
        )
        self._pools: dict[str, Pool] = {}
        self._trends: Mapping[str, Trend] = {}
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.get_running_loop().create_task(
            self._run(), name="autoscaler", context=new_context(stage="autoscaler")
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    def add(self, key: str, pool: Pool) -> None:
        """Look after this pool too, from now until it is closed. Raises ConfigError if it can never be served."""
        pools = [*self._pools.values(), pool]
        always = Resources()
        for each in pools:
            always += needs_of(each) * each.config.smallest
        one_each = needs_of(pool) * max(1, pool.config.smallest)
        if not always.fits(self.budget) or not one_each.fits(self.budget):
            gpus, cpus = max(always.gpus, one_each.gpus), max(always.cpus, one_each.cpus)
            raise ConfigError(
                "autoscaling.max_gpus and max_cpus must allow for what the pools always keep; with "
                f"{pool.name} that is {gpus:g} GPUs and {cpus:g} CPUs, found {self.budget.gpus:g} and "
                f"{self.budget.cpus:g}; raise them, or set min_replicas of some pools to 0"
            )
        self._pools[key] = pool
        pool.on_demand = self._wake.set
        self.step()

    def step(self) -> None:
        """Look once, and decide."""
        now_s = asyncio.get_running_loop().time()
        snapshots = [snapshot_of(key, pool) for key, pool in self._pools.items() if pool.is_open]
        decision = scale_targets(snapshots, self.budget, self._trends, now_s)
        self._trends = decision.trends
        for before in snapshots:
            target = decision.targets[before.name]
            pool = self._pools[before.name]
            if target != before.target:
                with log_context(stage=pool.name):
                    log.info(
                        "scaled from=%d to=%d wanted=%d items=%d work_s=%s busy=%d",
                        before.target,
                        target,
                        before.wanted,
                        before.num_items,
                        "unknown" if before.work_s is None else f"{before.work_s:.2f}",
                        before.num_busy,
                    )
                pool.resize(target)
            pool.report()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                self.step()
            except Exception:  # pools keep their sizes, and the next look may go well
                log.exception("autoscaler failed")


def needs_of(pool: Pool) -> Resources:
    """Of one replica."""
    return Resources(cpus=pool.config.num_cpus, gpus=pool.config.num_gpus)


def snapshot_of(key: str, pool: Pool) -> PoolSnapshot:
    stats, config = pool.stats(), pool.config
    return PoolSnapshot(
        name=key,
        min_replicas=config.smallest,
        max_replicas=config.largest,
        needs=needs_of(pool),
        target=stats.target,
        num_draining=stats.num_draining,
        num_items=stats.queue_items + stats.running_items,
        work_s=None if stats.s_per_cost is None else (stats.queue_cost + stats.running_cost) * stats.s_per_cost,
        num_busy=stats.num_busy,
        busy_s=stats.busy_s,
        target_drain_s=config.target_drain_s,
        up_delay_s=config.up_delay_s,
        down_delay_s=config.down_delay_s,
    )
