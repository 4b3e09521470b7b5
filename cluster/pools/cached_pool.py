"""Pools behind the store: stored results are not computed again, and equal requests share one computation.

A shared computation is cancelled only when all its callers have gone. Replicas start with the first
missing result: where nothing is missing, no model is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from actors.engine import make_engine
from actors.errors import EngineError
from actors.types import TASKS, Task
from cluster.config.schema import StageConfig
from cluster.pools.async_store import AsyncStore
from cluster.pools.metrics import count_lookup
from cluster.pools.pool import Pool
from cluster.pools.stats import PoolStats
from cluster.storage.codec import CodecError
from cluster.storage.framing import CorruptValueError
from cluster.storage.keys import SALT, Key, Keyring
from cluster.storage.store import Store

log = logging.getLogger(__name__)

_is_bypassed: ContextVar[bool] = ContextVar("is_bypassed", default=False)


@contextlib.contextmanager
def bypass_cache() -> Iterator[None]:
    """Compute every request made inside, and replace stored results."""
    token = _is_bypassed.set(True)
    try:
        yield
    finally:
        _is_bypassed.reset(token)


class PoolLike(Protocol):
    """The interface of a pool and of whatever stands before one."""

    @property
    def name(self) -> str: ...

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any: ...

    def stats(self) -> PoolStats: ...


class PoolCache:
    """Puts the pools of one dispatcher behind the store, and starts them when a result is missing."""

    def __init__(self, store: Store | None) -> None:
        self._store = None if store is None else AsyncStore(store)
        self._cached_pools: list[CachedPool] = []
        self._missed: set[Task] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Store results inside; all of them are stored when the block ends. Pools must close inside."""
        async with self._store or contextlib.nullcontext():
            yield
            for cached_pool in self._cached_pools:
                await cached_pool.drained()

    async def wrap(
        self, task: Task, stage: StageConfig, pool: Pool, start: Callable[[], Awaitable[object]]
    ) -> PoolLike:
        """Put a pool behind the store; ``start`` opens it when a result is missing.

        Returns the pool itself, started, if there is no store or the engine's weights are unknown: then no
        key can tell two results apart.
        """
        keyring = await _keyring(task, stage, pool.name) if self._store is not None else None
        if self._store is None or keyring is None:
            await start()
            return pool
        cached_pool = CachedPool(self._store, pool, keyring, task, start, self._start_behind)
        if any(TASKS.index(missed) <= TASKS.index(task) for missed in self._missed):
            await cached_pool.start()
        self._cached_pools.append(cached_pool)
        return cached_pool

    async def forget(self, pool: PoolLike) -> None:
        """Drop a pool that was closed; its results are stored when this returns."""
        if isinstance(pool, CachedPool):
            self._cached_pools.remove(pool)
            await pool.drained()

    async def _start_behind(self, task: Task) -> None:
        """Start the pools of this task and the later ones: the store will hardly hold what follows from a miss."""
        if task not in self._missed:
            self._missed.add(task)
            for cached_pool in self._cached_pools:
                if TASKS.index(task) <= TASKS.index(cached_pool.task):
                    await cached_pool.start()


async def _keyring(task: Task, stage: StageConfig, pool: str) -> Keyring | None:
    engine = make_engine(task, stage.engine, stage.options)
    identity = await asyncio.to_thread(engine.identity)
    if identity is None:
        log.warning("results are not stored, as the engine's weights are unknown stage=%s", pool)
        return None
    return Keyring(task, identity)


class CachedPool:
    """A pool behind the store: the same ``submit``, which looks into the store first."""

    def __init__(
        self,
        store: AsyncStore,
        pool: Pool,
        keyring: Keyring,
        task: Task,
        start: Callable[[], Awaitable[object]],
        on_miss: Callable[[Task], Awaitable[None]],
    ) -> None:
        self.name = pool.name
        self.task = task
        self._store = store
        self._pool = pool
        self._keyring = keyring
        self._start = start
        self._on_miss = on_miss
        self._starting = asyncio.Lock()
        self._has_started = False
        self._in_flight: dict[tuple[Key, bool], _InFlight] = {}
        self._writes: dict[asyncio.Task[bool], Key] = {}
        self._unstored: dict[Key, Any] = {}
        self._num_hits = self._num_misses = self._num_corrupt = self._num_shared = 0

    async def start(self) -> None:
        """Have the pool start its replicas, if it has not."""
        async with self._starting:
            if not self._has_started:
                await self._start()
                self._has_started = True

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any:
        """Like ``Pool.submit``. A request equal to one in flight, of whatever job, waits for that one's result."""
        try:
            key = await self._store.key(self._keyring.with_salt(SALT.get()), request)
        except CodecError as error:
            raise EngineError(f"{self.name} must be asked with a record whose content is known: {error}") from error
        shared_by = key, _is_bypassed.get()
        flight = self._in_flight.get(shared_by)
        if flight is None:
            submit = functools.partial(
                self._pool.submit, request, order=order, job=job, priority=priority, weight=weight
            )
            answer = asyncio.create_task(self._answer(key, submit))
            flight = self._in_flight[shared_by] = _InFlight(answer)
            answer.add_done_callback(lambda _: self._forget(shared_by, flight))
        else:
            self._num_shared += 1
            count_lookup(self.name, "shared")
        flight.num_waiting += 1
        try:
            return await asyncio.shield(flight.answer)
        except EngineError as error:
            # One for each caller: an exception that several raise collects all their tracebacks.
            raise type(error)(error.message) from error
        finally:
            flight.num_waiting -= 1
            if not flight.num_waiting and not flight.answer.done():
                self._forget(shared_by, flight)
                flight.answer.cancel()

    def stats(self) -> PoolStats:
        return self._pool.stats().model_copy(
            update={
                "num_hits": self._num_hits,
                "num_misses": self._num_misses,
                "num_corrupt": self._num_corrupt,
                "num_shared": self._num_shared,
            }
        )

    async def drained(self) -> None:
        """Wait until every request in flight has ended and its result is stored."""
        await asyncio.gather(*(flight.answer for flight in self._in_flight.values()), return_exceptions=True)
        await asyncio.gather(*self._writes)

    async def _answer(self, key: Key, submit: Callable[[], Awaitable[Any]]) -> Any:
        found = None if _is_bypassed.get() else await self._find(key)
        if found is not None:
            self._num_hits += 1
            count_lookup(self.name, "hit")
            return found
        self._num_misses += 1
        count_lookup(self.name, "miss" if self._store.is_readable else "unavailable")
        await self._on_miss(self.task)
        await self.start()
        result = await submit()
        writing = await self._store.keep(key, result)
        self._writes[writing] = key
        self._unstored[key] = result
        writing.add_done_callback(self._after_write)
        return result

    def _after_write(self, writing: asyncio.Task[bool]) -> None:
        self._unstored.pop(self._writes.pop(writing), None)
        if not writing.cancelled() and not writing.result():
            count_lookup(self.name, "unkept")

    async def _find(self, key: Key) -> Any:
        """The stored result, or the one that is being stored; None if there is none."""
        if key in self._unstored:
            return self._unstored[key]
        try:
            return await self._store.find(key)
        except CorruptValueError:
            self._num_corrupt += 1
            count_lookup(self.name, "corrupt")
            return None

    def _forget(self, shared_by: tuple[Key, bool], flight: _InFlight) -> None:
        if self._in_flight.get(shared_by) is flight:
            del self._in_flight[shared_by]


@dataclass(slots=True, eq=False)
class _InFlight:
    """The computation of one request, and the number of its callers."""

    answer: asyncio.Task[Any]
    num_waiting: int = 0
