"""The replicas of one pool: each is loaded, serves, is replaced when lost and drained when superfluous."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from actors.device import GpuUse
from actors.errors import DubbingError, EngineLoadError
from cluster.config.schema import PoolConfig
from cluster.logs import new_context
from cluster.pools.loads import LoadIndex
from cluster.pools.needs import Need, describe
from cluster.pools.replicas import Replica, ReplicaDiedError, ResultLostError
from cluster.pools.scheduling import ReplicaLoad, retry_delay_s
from cluster.pools.start_limit import StartLimiter
from cluster.streams import within

log = logging.getLogger(__name__)

T = TypeVar("T")


class ReplicaState(StrEnum):
    PENDING = "pending"
    """Requested; no node has room yet. Ray's autoscaler sees it as demand."""
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    """Superfluous: it finishes its batches, then ends."""
    RESTING = "resting"
    """It did not load, and is tried again after a pause."""


@dataclass(slots=True, eq=False)
class Serving(Generic[T]):
    """A loaded replica until it is lost or drained, and the batches it has been given, the running one first."""

    id: int
    replica: Replica
    batches: dict[asyncio.Task[None], Sequence[T]] = field(default_factory=dict)
    gpu: GpuUse | None = None
    """Latest reading of its GPU; None until its first batch, and on a CPU."""
    load: ReplicaLoad = field(init=False)
    """Cached, as every decision looks at the load of every replica."""
    lost: bool = False
    _expected_s: dict[asyncio.Task[None], float | None] = field(default_factory=dict)
    """Time that each batch is expected to take; None if that is not known."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.load = ReplicaLoad(id=self.id, num_batches=0)

    def begin(
        self, batch: asyncio.Task[None], entries: Sequence[T], now_s: float, expected_s: float | None, alone: bool
    ) -> None:
        """Add a batch, which runs after those given before, for about ``expected_s`` if that is known."""
        self.batches[batch] = entries
        self._expected_s[batch] = expected_s
        self._update(self.load.running_since_s if len(self.batches) > 1 else now_s, alone or self.load.alone)

    def end(self, batch: asyncio.Task[None], now_s: float) -> None:
        """Remove a finished batch; the next one begins."""
        del self.batches[batch], self._expected_s[batch]
        self._update(now_s, self.load.alone and bool(self.batches))

    def _update(self, since_s: float, alone: bool) -> None:
        idle_from_s: float | None = since_s
        for expected_s in self._expected_s.values():
            idle_from_s = None if idle_from_s is None or expected_s is None else idle_from_s + expected_s
        self.load = ReplicaLoad(
            id=self.id,
            num_batches=len(self.batches),
            running_since_s=since_s,
            idle_from_s=idle_from_s,
            alone=alone,
        )


@dataclass(slots=True, eq=False)
class Placing:
    """A replica that has no process yet: its node is starting one, or no node has room."""

    replica: Replica
    since_s: float
    limit: asyncio.Timeout

    def extend(self, seconds: float) -> None:
        """Wait at most this much longer from now on."""
        if not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + seconds)


@dataclass(slots=True, eq=False)
class _Slot(Generic[T]):
    """A place for one replica, with the task that keeps it filled."""

    id: int
    state: ReplicaState = ReplicaState.PENDING
    task: asyncio.Task[None] | None = None
    serving: Serving[T] | None = None
    placing: Placing | None = None
    cannot_load: bool = False
    """Its replicas failed to load too often."""


class Fleet(Generic[T]):
    """Keeps ``target`` replicas running; reports changes to its owner, which must close it.

    ``on_ready`` is told of each loaded replica: its number, and when its start began and ended.
    """

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        start_replica: Callable[[], Replica],
        *,
        on_change: Callable[[], None],
        on_unloadable: Callable[[EngineLoadError], None],
        on_defect: Callable[[asyncio.Task[None]], None],
        on_ready: Callable[[int, float, float], None],
        start_limiter: StartLimiter,
    ) -> None:
        self.serving: dict[int, Serving[T]] = {}
        self.loads = LoadIndex(config.batch.in_flight)
        """Loads of the replicas in ``serving``."""
        self.target = 0
        self.unloadable: EngineLoadError | None = None
        """Reason why no replica can be loaded; None while one may. Tries go on, ever more rarely."""
        self.last_error: str | None = None
        self._name = name
        self._config = config
        self._start_replica = start_replica
        self._on_change = on_change
        self._on_unloadable = on_unloadable
        self._on_defect = on_defect
        self._on_ready = on_ready
        self._start_limiter = start_limiter
        self._slots: dict[int, _Slot[T]] = {}
        self._ids = itertools.count()
        self._free_ids: list[int] = []
        """Heap of numbers that no replica has any more: metrics have a series for each number that there ever was."""
        self._has_loaded = False

    def resize(self, target: int) -> None:
        """Want this many from now on; superfluous ones finish their batches first."""
        self.target = target
        if not target:
            self.unloadable = None  # no more tries are made; the next request finds out anew
        active = [slot for slot in self._slots.values() if slot.state is not ReplicaState.DRAINING]
        for _ in range(target - len(active)):
            slot: _Slot[T] = _Slot(id=heapq.heappop(self._free_ids) if self._free_ids else next(self._ids))
            self._slots[slot.id] = slot
            slot.task = self._start(self._supervise(slot), f"{self._name}#{slot.id}", replica=str(slot.id))
            slot.task.add_done_callback(functools.partial(self._remove_slot, slot))
        active.sort(key=_drain_order)
        for slot in active[: max(0, len(active) - target)]:
            self._drain(slot)

    def states(self) -> Counter[ReplicaState]:
        return Counter(slot.state for slot in self._slots.values())

    def placing(self) -> list[Placing]:
        """Replicas that have no process yet, in the order in which they were started."""
        found = (slot.placing for slot in self._slots.values() if slot.placing is not None)
        return sorted(found, key=lambda placing: placing.since_s)

    def at_work(self) -> list[Serving[T]]:
        """Replicas that serve, and those that are draining."""
        return [slot.serving for slot in self._slots.values() if slot.serving is not None and not slot.serving.lost]

    def lose(self, serving: Serving[T], error: Exception) -> bool:
        """Mark a replica as dead or hung, so that its supervisor replaces it. False if it was marked already."""
        if serving.lost:
            return False
        serving.lost = True
        serving.over.set()
        self._stop_serving(serving)
        self.last_error = str(error)
        return True

    def begin_batch(
        self,
        serving: Serving[T],
        batch: asyncio.Task[None],
        entries: Sequence[T],
        expected_s: float | None,
        alone: bool,
    ) -> None:
        """Note a batch that a serving replica was given, which takes about ``expected_s`` if that is known."""
        serving.begin(batch, entries, asyncio.get_running_loop().time(), expected_s, alone)
        self.loads.update(serving.load)

    def batch_ended(self, serving: Serving[T], batch: asyncio.Task[None]) -> None:
        serving.end(batch, asyncio.get_running_loop().time())
        if serving.id in self.serving:
            self.loads.update(serving.load)
        elif not serving.batches:  # draining, and this was its last
            serving.over.set()

    async def close(self) -> None:
        tasks = [slot.task for slot in self._slots.values() if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drain(self, slot: _Slot[T]) -> None:
        serving = slot.serving
        if serving is None or serving.lost:
            assert slot.task is not None
            slot.task.cancel()  # kills what is loading
        else:
            self._stop_serving(serving)
            if not serving.batches:
                serving.over.set()
        slot.state = ReplicaState.DRAINING

    def _stop_serving(self, serving: Serving[T]) -> None:
        self.serving.pop(serving.id, None)
        self.loads.remove(serving.id)

    def _remove_slot(self, slot: _Slot[T], task: asyncio.Task[None]) -> None:
        del self._slots[slot.id]
        heapq.heappush(self._free_ids, slot.id)
        self._on_change()

    async def _supervise(self, slot: _Slot[T]) -> None:
        """Keep one replica up: load it, let it serve, replace it when it is lost."""
        num_failures = 0
        turn: AbstractAsyncContextManager[None] = nullcontext()  # the first start is not limited
        while slot.state is not ReplicaState.DRAINING:
            slot.state = ReplicaState.PENDING
            try:
                async with turn:
                    replica = await self._bring_up(slot)
            except (DubbingError, ReplicaDiedError, ResultLostError, TimeoutError) as error:
                num_failures += 1
                slot.state = ReplicaState.RESTING
                self._after_load_failure(slot, num_failures, error)
                await back_off(self._config, num_failures)
            else:
                num_failures = 0
                await self._serve(slot, replica)
            turn = self._start_limiter.slot(self._share_serving)

    def _share_serving(self) -> float:
        return len(self.serving) / max(1, self.target)

    async def _bring_up(self, slot: _Slot[T]) -> Replica:
        """Start and load a replica. Raises DubbingError, ReplicaDiedError, ResultLostError, TimeoutError."""
        clock = asyncio.get_running_loop().time
        replica, start_s = self._start_replica(), clock()
        try:
            await self._place(slot, replica)
            slot.state = ReplicaState.LOADING
            await within(self._config.load_timeout_s, replica.load())
        except BaseException:
            replica.kill()
            raise
        self._on_ready(slot.id, start_s, clock())
        return replica

    async def _place(self, slot: _Slot[T], replica: Replica) -> None:
        clock = asyncio.get_running_loop().time
        start_s = clock()
        try:
            async with asyncio.timeout(self._config.place_timeout_s) as limit:
                slot.placing = Placing(replica, start_s, limit)
                await replica.place()
        except TimeoutError as error:
            needed = describe(Need.of(self._name, self._config))
            raise EngineLoadError(
                f"a replica of {self._name} must be placed; in {clock() - start_s:.0f} s no node had {needed} free; "
                f"add such a node, or ask for less in its pool's settings"
            ) from error
        finally:
            slot.placing = None

    async def _serve(self, slot: _Slot[T], replica: Replica) -> None:
        """Let the replica take batches until it is lost or drained, or the pool is closed."""
        serving: Serving[T] = Serving(id=slot.id, replica=replica)
        slot.serving, slot.state, slot.cannot_load = serving, ReplicaState.SERVING, False
        self.serving[slot.id] = serving
        self.loads.update(serving.load)
        self._has_loaded = True
        self.unloadable = None
        self._on_change()
        try:
            await serving.over.wait()
        finally:
            slot.serving = None
            under_way = tuple(serving.batches)
            for batch in under_way:
                batch.cancel()
            if under_way or serving.lost:
                replica.kill()
            else:
                await replica.close()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _after_load_failure(self, slot: _Slot[T], num_failures: int, error: Exception) -> None:
        log.warning("replica did not load failures=%d error=%r", num_failures, error)
        self.last_error = repr(error)
        # A missing package or file stays missing; an engine that has loaded before deserves more tries.
        needs_help = isinstance(error, EngineLoadError) and not self._has_loaded
        if needs_help or num_failures >= self._config.max_load_failures:
            slot.cannot_load = True
        if not all(other.cannot_load for other in self._slots.values() if other.state is not ReplicaState.DRAINING):
            return
        # Tries go on, ever more rarely: a missing file may come back. Requests do not wait for it.
        self.unloadable = error if isinstance(error, EngineLoadError) else self._did_not_load(num_failures, error)
        self._on_unloadable(self.unloadable)

    def _did_not_load(self, num_failures: int, error: Exception) -> EngineLoadError:
        reason = EngineLoadError(
            f"{self._name} must load within {self._config.load_timeout_s:g} s; "
            f"{num_failures} replicas did not, the last one with {error!r}"
        )
        reason.__cause__ = error
        return reason

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str, replica: str) -> asyncio.Task[None]:
        """Start a task whose log records carry this stage and replica, and no job."""
        context = new_context(stage=self._name, replica=replica)
        task = asyncio.get_running_loop().create_task(coroutine, name=name, context=context)
        task.add_done_callback(self._on_defect)
        return task


async def back_off(config: PoolConfig, num_failures: int) -> None:
    """Sleep before another try, longer after each failure."""
    jitter = random.random()  # noqa: S311  # no secret
    await asyncio.sleep(retry_delay_s(config.restart_delay_s, num_failures, jitter))


def _drain_order(slot: _Slot[Any]) -> tuple[bool, int, int]:
    """Sort key: first replicas that do not serve yet, then those with fewest batches, then the youngest."""
    serving = slot.serving
    return serving is not None, 0 if serving is None else len(serving.batches), -slot.id
