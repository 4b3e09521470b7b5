"""Gives the pools of one dispatcher their sizes: looks at all of them, asks `scaling.py`, and applies the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
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
        self._is_still = False
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
        """Look after this pool too, while it is open. Raises ConfigError if not all could ever be served with it."""
        if not self.has_room(pool):
            least = self._least(pool)
            raise ConfigError(
                "autoscaling.max_gpus and max_cpus must allow for what the pools in use always keep, and one replica "
                f"of any that keeps none; with {pool.name} that is {least.gpus:g} GPUs and {least.cpus:g} CPUs, found "
                f"{self.budget.gpus:g} and {self.budget.cpus:g}; raise them, or set min_replicas of some pools to 0"
            )
        self._pools[key] = pool
        pool.on_demand = self._wake.set
        self.step()

    def has_room(self, pool: Pool) -> bool:
        """Whether all can be served with this one too."""
        return self._least(pool).fits(self.budget)

    def remove(self, key: str) -> None:
        """Of a pool that was closed, or never opened."""
        del self._pools[key]
        self._wake.set()

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """For the time in which a pool is closed: nobody grows into what its replicas hold until they have gone."""
        self._is_still = True
        try:
            yield
        finally:
            self._is_still = False

    def step(self) -> None:
        """Look once, and decide."""
        if self._is_still:
            return
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

    def _least(self, pool: Pool) -> Resources:
        """What it takes to serve each pool, this one too: no other gives it what it always keeps itself."""
        pools = [*self._pools.values(), pool]
        always = Resources()
        for each in pools:
            always += needs_of(each) * each.config.smallest
        at_rest = [needs_of(each) for each in pools if not each.config.smallest]
        return always + Resources(
            cpus=max((needs.cpus for needs in at_rest), default=0.0),
            gpus=max((needs.gpus for needs in at_rest), default=0.0),
        )

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
