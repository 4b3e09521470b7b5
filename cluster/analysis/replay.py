"""Replays a trace on the real pools, with replicas that only wait, in virtual time.

Batches are put together anew, so that a pool may have another number of replicas than it had.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

from actors.host import BatchReport
from cluster.analysis import replay_engine
from cluster.analysis.call_model import CallModel
from cluster.analysis.replay_engine import RecordedRequest
from cluster.analysis.virtual_clock import run_in_virtual_time
from cluster.analysis.work_graph import Dependency, Step
from cluster.config.schema import PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import Replica

ENGINE = replay_engine.__name__
FOREVER_S = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedPool:
    """A pool's settings and measured times."""

    config: PoolConfig
    ready_s: Sequence[float]
    """When each replica was ready to work, in seconds since the trace's start."""
    calls: CallModel
    to_engine_s: float
    """Time from the driver's decision until an idle engine begins."""
    from_engine_s: float
    """Time from the end of a call until the driver has its results."""


def delivery_s(requests: Sequence[RecordedRequest]) -> tuple[float, float]:
    """The usual time of a batch on its way to an idle engine, and of its results back."""
    to_engine_s, ends_s = [], dict[int, float]()
    for request in sorted(requests, key=lambda request: request.began_s):
        if ends_s.get(request.replica, 0.0) <= request.sent_s:
            to_engine_s.append(request.began_s - request.sent_s)
        ends_s[request.replica] = request.ended_s
    back_s = median(request.answered_s - request.ended_s for request in requests)
    return median(to_engine_s), back_s


def replay(steps: Sequence[Step], pools: Mapping[str, ReplayedPool], more: Mapping[str, int]) -> float:
    """Seconds from the trace's start to the end of its last step, with ``more`` replicas by pool."""
    return run_in_virtual_time(_replay(steps, pools, more))


async def _replay(steps: Sequence[Step], pools: Mapping[str, ReplayedPool], more: Mapping[str, int]) -> float:
    async with AsyncExitStack() as stack:
        opened = {}
        for name, pool in pools.items():
            opened[name] = await stack.enter_async_context(_pool(pool, more.get(name, 0)))
        run = _Run(opened)
        await asyncio.gather(*(run.step(step) for step in steps))
        return asyncio.get_running_loop().time()


def _pool(pool: ReplayedPool, num_more: int) -> Pool:
    """The pool with all replicas that it had, and more, which are ready as early as the first of those."""
    ready_s = iter([*sorted(pool.ready_s), *[min(pool.ready_s)] * num_more])
    number = len(pool.ready_s) + num_more
    fixed = {"replicas": number, "min_replicas": None, "max_replicas": None, "call_timeout_s": FOREVER_S}
    config = pool.config.model_copy(update=fixed)
    return Pool("translation", StageConfig(engine=ENGINE, pool=config), lambda *_: _WaitingReplica(pool, next(ready_s)))


class _WaitingReplica(Replica):
    """Waits as long as an engine would work."""

    def __init__(self, pool: ReplayedPool, ready_s: float) -> None:
        self._pool = pool
        self._ready_s = ready_s
        self._engine = asyncio.Lock()

    async def load(self) -> None:
        await asyncio.sleep(self._ready_s)

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        run_s = self._pool.calls.time_s(batch)
        await asyncio.sleep(self._pool.to_engine_s)
        async with self._engine:
            await asyncio.sleep(run_s)
        await asyncio.sleep(self._pool.from_engine_s)
        return BatchReport(results=[None] * len(batch), run_s=run_s)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


class _Run:
    """One run through all steps; each has a future that is done when it is."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        new = asyncio.get_running_loop().create_future
        self._done: dict[str, asyncio.Future[None]] = defaultdict(new)
        self._answered: dict[str, asyncio.Future[None]] = defaultdict(new)
        self._settled: dict[str, asyncio.Future[None]] = defaultdict(new)

    async def step(self, step: Step) -> None:
        await self._wait(step.begin)
        async with asyncio.TaskGroup() as group:
            for request, wait in step.requests:
                group.create_task(self._request(request, wait))
            await self._wait(step.end)
            self._done[step.id].set_result(None)
        if step.previous is not None:
            await asyncio.shield(self._settled[step.previous.id])
        self._settled[step.id].set_result(None)

    async def _request(self, request: RecordedRequest, wait: Dependency) -> None:
        await self._wait(wait)
        await self._pools[request.pool].submit(request, order=request.order, job=request.job, priority=request.priority)
        self._answered[request.id].set_result(None)

    async def _wait(self, wait: Dependency) -> None:
        before = [self._done[step.id] for step in wait.steps]
        before += [self._settled[step.id] for step in wait.ordered]
        before += [self._answered[request.id] for request in wait.requests]
        await asyncio.gather(*map(asyncio.shield, before))
        await asyncio.sleep(wait.delay_s)
