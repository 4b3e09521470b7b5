"""In front of the pools: what is in the store is not computed, and what is under way not a second time.

Equal requests share one computation; it ends early only when all who wait for it have gone. Replicas
start with the first result that is missing: where nothing is, no model is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import ray
from ray.util.metrics import Counter

from actors.engine import make_engine
from actors.errors import EngineError
from actors.types import TASKS, Task
from cluster import codec
from cluster.codec import CodecError
from cluster.config import StageConfig
from cluster.keys import Key, Keyring
from cluster.pool import Pool
from cluster.pool_stats import PoolStats
from cluster.store import CorruptValueError, Store, StoreError

log = logging.getLogger(__name__)

R = TypeVar("R")

NUM_READERS, NUM_WRITERS = 8, 4
"""Threads."""
MAX_WRITES = 64
"""Results being stored or waiting to be; with more, those who compute wait."""
LARGE_BYTES = 1 << 16
"""An array from here on is hashed on a thread: 2 MB of audio take 4 ms, for which the event loop would stand."""

_fresh: ContextVar[bool] = ContextVar("fresh", default=False)


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """What is asked for inside is computed though it is stored, and then stored in place of what was."""
    token = _fresh.set(True)
    try:
        yield
    finally:
        _fresh.reset(token)


class PoolLike(Protocol):
    """What answers requests: a pool, or its front."""

    @property
    def name(self) -> str: ...

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any: ...

    def stats(self) -> PoolStats: ...


class Cache:
    """The fronts of one dispatcher's pools. Use as ``async with cache``, outside the pools it stands before."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fronts: list[CachedPool] = []
        self._missed: set[Task] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """While it is open results are stored; at its end all are."""
        with (
            ThreadPoolExecutor(NUM_READERS, "store-read") as self._readers,
            ThreadPoolExecutor(NUM_WRITERS, "store-write") as self._writers,
        ):
            self._room = asyncio.Semaphore(MAX_WRITES)
            yield
            for front in self._fronts:
                await front.drained()

    async def front(
        self, task: Task, stage: StageConfig, pool: Pool, start: Callable[[], Awaitable[object]]
    ) -> PoolLike:
        """The pool's front; the pool itself, started, where nobody can say what its results depend on."""
        engine = make_engine(task, stage.engine, stage.options)
        identity = await asyncio.to_thread(engine.identity)
        if identity is None:
            log.warning("results not stored, weights unknown here stage=%s", pool.name)
            await start()
            return pool
        front = CachedPool(self, pool, Keyring(task, identity), task, start)
        if any(TASKS.index(missed) <= TASKS.index(task) for missed in self._missed):
            await front.start()
        self._fronts.append(front)
        return front

    async def forget(self, front: CachedPool) -> None:
        """Of a pool that was closed; its results are stored when this returns."""
        self._fronts.remove(front)
        await front.drained()

    async def note_miss(self, task: Task) -> None:
        """Start the pools of this task and of those behind it, which will hardly find what comes of it."""
        if task not in self._missed:
            self._missed.add(task)
            for front in self._fronts:
                if TASKS.index(task) <= TASKS.index(front.task):
                    await front.start()

    # --- the store, off the event loop

    @property
    def is_readable(self) -> bool:
        return self._store.is_readable

    async def find(self, key: Key) -> Any:
        """None if it is not there, or the store does not answer. Raises CorruptValueError."""
        if not self._store.is_readable:
            return None
        with contextlib.suppress(StoreError):
            return await self._on(self._readers, functools.partial(self._load, key))
        return None

    async def keep(self, key: Key, result: Any) -> asyncio.Task[bool]:
        """Begin to store it; waits only while too much is waiting already. The task says whether it was stored."""
        await self._room.acquire()
        writing = asyncio.create_task(self._keep(key, result))
        writing.add_done_callback(lambda _: self._room.release())
        return writing

    async def key(self, keyring: Keyring, request: Any) -> Key:
        """Raises CodecError."""
        if any(isinstance(value, np.ndarray) and value.nbytes >= LARGE_BYTES for value in _values(request)):
            return await self._on(self._readers, functools.partial(keyring.key, request))
        return keyring.key(request)

    def _load(self, key: Key) -> Any:
        value = self._store.get(key)
        if value is None:
            return None
        try:
            return codec.decode(value)
        except CodecError as error:
            log.warning("stored value is not readable, removed key=%s error=%s", key, error)
            self._store.discard(key)
            raise CorruptValueError(str(error)) from error

    async def _keep(self, key: Key, result: Any) -> bool:
        if not self._store.is_writable:
            return False
        try:
            await self._on(self._writers, lambda: self._store.put(key, codec.encode(result)))
        except StoreError:  # which the store has told
            return False
        except CodecError as error:
            log.warning("result cannot be stored key=%s error=%s", key, error)
            return False
        return True

    async def _on(self, threads: ThreadPoolExecutor, function: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(threads, function)


class CachedPool:
    """A pool's front: the same ``submit``, which asks the store first."""

    def __init__(
        self, cache: Cache, pool: Pool, keyring: Keyring, task: Task, start: Callable[[], Awaitable[object]]
    ) -> None:
        self.name = pool.name
        self.task = task
        self._cache = cache
        self._pool = pool
        self._keyring = keyring
        self._start = start
        self._starting = asyncio.Lock()
        self._has_started = False
        self._flights: dict[tuple[Key, bool], _Flight] = {}
        self._writes: set[asyncio.Task[bool]] = set()
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
        """As the pool's. A request equal to one under way waits for that, whoever asked for it, and when."""
        try:
            key = await self._cache.key(self._keyring, request)
        except CodecError as error:
            raise EngineError(f"{self.name} must be asked with a record whose content is known: {error}") from error
        where = key, _fresh.get()
        flight = self._flights.get(where)
        if flight is None:
            submit = functools.partial(
                self._pool.submit, request, order=order, job=job, priority=priority, weight=weight
            )
            answer = asyncio.create_task(self._answer(key, submit))
            flight = self._flights[where] = _Flight(answer)
            answer.add_done_callback(lambda _: self._forget(where, flight))
        else:
            self._num_shared += 1
            _count(self.name, "shared")
        flight.num_waiting += 1
        try:
            return await asyncio.shield(flight.answer)
        except EngineError as error:
            # One for each who waits: an exception that several raise collects all their tracebacks.
            raise type(error)(error.message) from error
        finally:
            flight.num_waiting -= 1
            if not flight.num_waiting and not flight.answer.done():
                self._forget(where, flight)
                flight.answer.cancel()

    def stats(self) -> PoolStats:
        return dataclasses.replace(
            self._pool.stats(),
            num_hits=self._num_hits,
            num_misses=self._num_misses,
            num_corrupt=self._num_corrupt,
            num_shared=self._num_shared,
        )

    async def drained(self) -> None:
        """When all that was under way has come to its end, and is stored."""
        await asyncio.gather(*(flight.answer for flight in self._flights.values()), return_exceptions=True)
        await asyncio.gather(*self._writes)

    async def _answer(self, key: Key, submit: Callable[[], Awaitable[Any]]) -> Any:
        found = None if _fresh.get() else await self._find(key)
        if found is not None:
            self._num_hits += 1
            _count(self.name, "hit")
            return found
        self._num_misses += 1
        _count(self.name, "miss" if self._cache.is_readable else "unavailable")
        await self._cache.note_miss(self.task)
        await self.start()
        result = await submit()
        writing = await self._cache.keep(key, result)
        self._writes.add(writing)
        writing.add_done_callback(self._after_write)
        return result

    def _after_write(self, writing: asyncio.Task[bool]) -> None:
        self._writes.discard(writing)
        if not writing.cancelled() and not writing.result():
            _count(self.name, "unkept")

    async def _find(self, key: Key) -> Any:
        try:
            return await self._cache.find(key)
        except CorruptValueError:
            self._num_corrupt += 1
            _count(self.name, "corrupt")
            return None

    def _forget(self, where: tuple[Key, bool], flight: _Flight) -> None:
        if self._flights.get(where) is flight:
            del self._flights[where]


@dataclass(slots=True, eq=False)
class _Flight:
    """A request being answered, and how many wait for it."""

    answer: asyncio.Task[Any]
    num_waiting: int = 0


@functools.cache
def _counter() -> Counter:
    return Counter(
        "raydub_store_lookups",
        description="Requests by what the store had: hit, miss, corrupt (also a miss), shared with one under way, "
        "unavailable; and unkept: results that could not be stored.",
        tag_keys=("stage", "outcome"),
    )


def _count(stage: str, outcome: str) -> None:
    """For Ray's metrics, where there is a Ray."""
    if ray.is_initialized():
        _counter().inc(tags={"stage": stage, "outcome": outcome})


def _values(request: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(request):
        for field in dataclasses.fields(request):
            yield getattr(request, field.name)
