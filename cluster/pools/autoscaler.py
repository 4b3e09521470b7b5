"""Sizes the pools of one dispatcher: takes snapshots of all of them, asks `scaling.py`, and applies the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from actors.errors import ConfigError
from cluster.config.schema import AutoscalingConfig
from cluster.logs import log_context, new_context
from cluster.pools.capacity import cluster_gpus
from cluster.pools.pool import Pool
from cluster.pools.scaling import PoolSnapshot, Resources, Trend, scale_targets

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
"""For metrics; a look for the scaling is more frequent."""
CAPACITY_INTERVAL_S = 10.0
"""Seconds between two looks at the cluster's GPUs."""


class Autoscaler:
    """Use as ``async with Autoscaler(config) as scaler``; pools are added and removed inside.

    Without a configured number of GPUs, pools grow up to those that ``capacity`` tells.
    """

    def __init__(self, config: AutoscalingConfig, capacity: Callable[[], Awaitable[float]] = cluster_gpus) -> None:
        self._interval_s = config.interval_s
        self._capacity = capacity if config.max_gpus is None else _unlimited
        self._cluster_gpus = math.inf
        self._capacity_at_s = self._reported_at_s = -math.inf
        self.budget = Resources(
            cpus=math.inf if config.max_cpus is None else config.max_cpus,
            gpus=math.inf if config.max_gpus is None else config.max_gpus,
        )
        self._pools: dict[str, Pool] = {}
        self._trends: Mapping[str, Trend] = {}
        self._is_paused = False
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._refresh_capacity()
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
        """Size this pool too, while it is open. Raises ConfigError if the budget cannot serve all pools with it."""
        least = self._least(pool)
        if not least.fits(self.budget):
            raise ConfigError(
                "autoscaling.max_gpus and max_cpus must allow for what the pools in use always keep, and one replica "
                f"of any that keeps none; with {pool.name} that is {least.gpus:g} GPUs and {least.cpus:g} CPUs, found "
                f"{self.budget.gpus:g} and {self.budget.cpus:g}; raise them, or set min_replicas of some pools to 0"
            )
        self._pools[key] = pool
        pool.notify_on_demand(self._wake.set)
        self.step()

    def has_room(self, pool: Pool) -> bool:
        """True if the budget and the cluster can serve all pools and this one."""
        least = self._least(pool)
        return least.fits(self.budget) and least.fits(Resources(cpus=math.inf, gpus=self._cluster_gpus))

    def remove(self, key: str) -> None:
        """Stop sizing a pool that was closed, or never opened."""
        del self._pools[key]
        self._wake.set()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend scaling while a pool closes: no other may grow into its resources before its replicas are gone."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def step(self) -> None:
        """Take one snapshot of all pools, decide, and resize them."""
        if self._is_paused:
            return
        now_s = asyncio.get_running_loop().time()
        snapshots = [snapshot_of(key, pool) for key, pool in self._pools.items() if pool.is_open]
        decision = scale_targets(snapshots, self._limits(), self._trends, now_s)
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
        if now_s >= self._reported_at_s + REPORT_EVERY_S:
            self._reported_at_s = now_s
            for pool in self._pools.values():
                if pool.is_open:
                    pool.report()

    def _limits(self) -> Resources:
        """The budget, and the cluster's GPUs, but never less than the pools cannot do without.

        Ray may have lost a node that comes back: pools ask for their smallest size in any case, and wait for it.
        """
        gpus = min(self.budget.gpus, max(self._cluster_gpus, self._least().gpus))
        return Resources(cpus=self.budget.cpus, gpus=gpus)

    def _least(self, *added: Pool) -> Resources:
        """Resources without which some pool, those added included, could never be served.

        All pools keep their smallest size; those that may rest at zero need one replica in turn.
        """
        pools = [*self._pools.values(), *added]
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
                await self._refresh_capacity()
                self.step()
            except Exception:  # pools keep their sizes, and the next look may go well
                log.exception("autoscaler failed")

    async def _refresh_capacity(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._capacity_at_s < CAPACITY_INTERVAL_S:
            return
        self._capacity_at_s = now_s
        num_gpus = await self._capacity()
        if num_gpus != self._cluster_gpus:
            log.info("cluster's GPUs changed from=%g to=%g", self._cluster_gpus, num_gpus)
        self._cluster_gpus = num_gpus


async def _unlimited() -> float:
    return math.inf


def needs_of(pool: Pool) -> Resources:
    """Resources of one replica."""
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
