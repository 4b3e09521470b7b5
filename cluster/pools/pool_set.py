"""The pools of one dispatcher: started at first use, shared by all its videos, closed when no job uses them."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from actors.types import Task
from cluster.config.schema import Config, StageConfig
from cluster.logs import new_context
from cluster.pools.autoscaler import Autoscaler
from cluster.pools.cached_pool import PoolCache, PoolLike
from cluster.pools.fairness import JobPriority, job_weight
from cluster.pools.pool import Pool
from cluster.pools.ray_session import max_starting
from cluster.pools.replicas import InlineReplica, RayReplica, Replica
from cluster.pools.reservation import Bundles, Reservation
from cluster.pools.start_limit import StartLimiter
from cluster.pools.stats import PoolStats
from cluster.pools.waiting import INTERVAL_S, PlacementWatch
from cluster.storage.store import open_store
from cluster.streams import finish_before_cancel
from cluster.tracing.tracer import Tracer

log = logging.getLogger(__name__)


class JobPool:
    """A pool with the name, priority and weight of one job."""

    def __init__(self, pool: PoolLike, job: JobPriority) -> None:
        self.name = pool.name
        self.pool = pool
        self._job = job

    async def submit(self, request: Any, *, order: float = 0.0) -> Any:
        """Like ``Pool.submit``, for this job."""
        job = self._job
        return await self.pool.submit(
            request, order=order, job=job.name, priority=job.priority, weight=job_weight(job.media_s)
        )


@dataclass(slots=True, eq=False, kw_only=True)
class _PoolEntry:
    """One pool of the set, its interface to jobs, and the jobs that use it."""

    pool: Pool
    client: PoolLike
    """The pool behind the store, or the pool itself."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Holds the pool open once it was started."""
    is_closed: bool = False
    """Closed for good: a request in flight may not start the pool again."""
    users: set[str] = field(default_factory=set)
    """Names of the jobs that use it. The empty name, of no job in particular, is never removed."""

    @property
    def is_empty(self) -> bool:
        """True if no replica is wanted or still draining."""
        stats = self.pool.stats()
        return not stats.target and not stats.num_draining


class PoolSet:
    """Use as ``async with PoolSet(config) as pools``.

    With a reservation, the first replica of each pool runs there. Where ``is_patient``, replicas wait for a node
    without end, and the owner must close the set when ``watch.is_stuck``.
    """

    def __init__(self, config: Config, reservation: Reservation | None = None, *, is_patient: bool = False) -> None:
        self._config = config
        self._pools: dict[str, _PoolEntry] = {}
        self.store = open_store(config.store)
        self.tracer = Tracer(config.trace)
        self._cache = PoolCache(self.store)
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._scaler = Autoscaler(config.autoscaling)
        self._start_limiter = StartLimiter(max_starting(config.ray))
        self._bundles = None if reservation is None else Bundles(reservation)
        self.watch = PlacementWatch(
            config.ray,
            lambda: [entry.pool for entry in self._pools.values()],
            reservation,
            is_patient=is_patient,
        )

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self.tracer.close)
        await self._stack.enter_async_context(self._cache.opened())
        await self._stack.enter_async_context(self._scaler)
        if self._config.ray.mode != "inline":
            await self._stack.enter_async_context(self._watching())
        self._stack.push_async_callback(self._close_all)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def get(self, task: Task, stage: StageConfig, job: JobPriority = JobPriority()) -> JobPool:
        """The pool of this engine and options, behind the store; it starts with the first missing result.

        Raises ConfigError if the budget has no room for it beside the pools in use.
        """
        key = _key(task, stage)
        if key not in self._pools:
            async with self._starting:
                if key not in self._pools:
                    self._pools[key] = await self._add(key, task, stage)
        entry = self._pools[key]
        entry.users.add(job.name)
        return JobPool(entry.client, job)

    @asynccontextmanager
    async def reserved_for(self, job: JobPriority) -> AsyncIterator[None]:
        """Keep this job's pools open inside; afterwards, those that no other job uses may be closed."""
        try:
            yield
        finally:
            for entry in self._pools.values():
                entry.users.discard(job.name)

    async def _add(self, key: str, task: Task, stage: StageConfig) -> _PoolEntry:
        limiter, price = self._start_limiter, self._config.price
        sink = self.tracer.sink
        pool = Pool(task, stage, self._start_replica, 0, start_limiter=limiter, price=price, tracer=sink)
        self.tracer.note_pool(pool.name, self._config.pool_settings(pool.name)[0], stage.pool)
        await self._make_room(pool)
        self._scaler.add(key, pool)
        entry = _PoolEntry(pool=pool, client=pool)
        try:
            entry.client = await self._cache.wrap(task, stage, pool, functools.partial(self._start, entry))
        except BaseException:
            self._scaler.remove(key)
            raise
        return entry

    async def _start(self, entry: _PoolEntry) -> None:
        if not entry.is_closed:
            await entry.stack.enter_async_context(entry.pool)
            self._scaler.step()

    async def _make_room(self, pool: Pool) -> None:
        """Close unused pools: all without replicas, and others too where the budget is too small for this one."""
        await self._close_unused(lambda entry: entry.is_empty or not self._scaler.has_room(pool))

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(
            self._watch_forever(), name="placement watch", context=new_context(stage="placement")
        )
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.watch.step()
                if self.watch.waits:
                    async with self._starting:
                        await self._close_unused(lambda _: True)  # those that wait for a place may have theirs
            except Exception:  # replicas keep waiting, and the next look may go well
                log.exception("looking for replicas without a place failed")

    async def _close_unused(self, may_close: Callable[[_PoolEntry], bool]) -> None:
        """Close the pools that no job uses, of those that may be closed. Needs the lock ``_starting``."""
        for key, entry in list(self._pools.items()):
            if not entry.users and may_close(entry):
                del self._pools[key]
                await finish_before_cancel(asyncio.ensure_future(self._close(key, entry)))

    async def _close(self, key: str, entry: _PoolEntry) -> None:
        entry.is_closed = True
        with self._scaler.paused():
            await entry.stack.aclose()
        self._scaler.remove(key)
        if self._bundles is not None:
            self._bundles.forget(key)
        await self._cache.forget(entry.client)

    async def _close_all(self) -> None:
        for key, entry in reversed(list(self._pools.items())):
            await self._close(key, entry)

    def stats(self) -> list[PoolStats]:
        return [entry.client.stats() for entry in self._pools.values()]

    def _start_replica(self, task: Task, stage: StageConfig) -> Replica:
        if self._config.ray.mode == "inline":
            return InlineReplica(task, stage)
        return RayReplica(task, stage, self._bundles, _key(task, stage))


def _key(task: Task, stage: StageConfig) -> str:
    """The same for stages that share a pool."""
    return json.dumps([task, stage.model_dump(mode="json", include={"engine", "options", "pool"})], sort_keys=True)
