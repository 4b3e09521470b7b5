"""The replicas of one pool: as many as it wants, each loaded, serving, replaced when lost, drained when spared."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from actors.errors import DubbingError, EngineLoadError
from cluster.config import PoolConfig
from cluster.deadline import within
from cluster.logs import new_context
from cluster.replicas import Replica, ReplicaDiedError, ResultLostError
from cluster.scheduling import ReplicaLoad, retry_delay_s
from cluster.starting import Starts

log = logging.getLogger(__name__)

T = TypeVar("T")


class ReplicaState(StrEnum):
    PENDING = "pending"
    """Asked for; no node has room yet. Ray's autoscaler sees it as demand."""
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    """Spared: finishes what it has, then goes."""
    RESTING = "resting"
    """Did not load; tried again later."""


@dataclass(slots=True, eq=False)
class Serving(Generic[T]):
    """A replica from loaded to lost or spared, and the batches it has been given, the running one first."""

    id: int
    replica: Replica
    batches: dict[asyncio.Task[None], Sequence[T]] = field(default_factory=dict)
    load: ReplicaLoad = field(init=False)
    """Kept rather than made: every decision looks at that of every replica."""
    lost: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.load = ReplicaLoad(id=self.id, num_batches=0)

    def begin(self, batch: asyncio.Task[None], entries: Sequence[T], now_s: float, alone: bool) -> None:
        """It was handed a batch, behind those that it has."""
        self.batches[batch] = entries
        since_s = self.load.running_since_s if len(self.batches) > 1 else now_s
        self.load = ReplicaLoad(
            id=self.id, num_batches=len(self.batches), running_since_s=since_s, alone=alone or self.load.alone
        )

    def end(self, batch: asyncio.Task[None], now_s: float) -> None:
        """A batch is over, and the one behind it begins."""
        del self.batches[batch]
        alone = self.load.alone and bool(self.batches)
        self.load = ReplicaLoad(id=self.id, num_batches=len(self.batches), running_since_s=now_s, alone=alone)


@dataclass(slots=True, eq=False)
class _Slot(Generic[T]):
    """A place for one replica, and whoever holds it now."""

    id: int
    state: ReplicaState = ReplicaState.PENDING
    task: asyncio.Task[None] | None = None
    serving: Serving[T] | None = None
    hopeless: bool = False
    """It keeps failing to load."""


class Fleet(Generic[T]):
    """Keeps ``target`` replicas up. Its owner hears of changes, and closes it in the end."""

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        start_replica: Callable[[], Replica],
        *,
        on_change: Callable[[], None],
        on_unloadable: Callable[[EngineLoadError], None],
        on_defect: Callable[[asyncio.Task[None]], None],
        starts: Starts,
    ) -> None:
        self.serving: dict[int, Serving[T]] = {}
        self.target = 0
        self.unloadable: EngineLoadError | None = None
        """Why nothing can be served at all; tries go on, ever more rarely."""
        self.last_error: str | None = None
        self._name = name
        self._config = config
        self._start_replica = start_replica
        self._on_change = on_change
        self._on_unloadable = on_unloadable
        self._on_defect = on_defect
        self._starts = starts
        self._slots: dict[int, _Slot[T]] = {}
        self._ids = itertools.count()
        self._has_loaded = False

    def resize(self, target: int) -> None:
        """Want this many from now on; those spared finish what they have."""
        self.target = target
        if not target:
            self.unloadable = None  # nobody tries any more; whoever asks next is to find out anew
        active = [slot for slot in self._slots.values() if slot.state is not ReplicaState.DRAINING]
        for _ in range(target - len(active)):
            slot: _Slot[T] = _Slot(id=next(self._ids))
            self._slots[slot.id] = slot
            slot.task = self._start(self._supervise(slot), f"{self._name}#{slot.id}", replica=str(slot.id))
            slot.task.add_done_callback(functools.partial(self._vacate, slot))
        active.sort(key=_sacrifice)
        for slot in active[: max(0, len(active) - target)]:
            self._spare(slot)

    def states(self) -> Counter[ReplicaState]:
        return Counter(slot.state for slot in self._slots.values())

    def at_work(self) -> list[Serving[T]]:
        """Those that serve, and those that are spared and finish what they have."""
        return [slot.serving for slot in self._slots.values() if slot.serving is not None and not slot.serving.lost]

    def lose(self, serving: Serving[T], error: Exception) -> bool:
        """A replica died or hangs: its supervisor replaces it. False if that was known."""
        if serving.lost:
            return False
        serving.lost = True
        serving.over.set()
        self.serving.pop(serving.id, None)
        self.last_error = str(error)
        return True

    def batch_ended(self, serving: Serving[T], batch: asyncio.Task[None]) -> None:
        serving.end(batch, asyncio.get_running_loop().time())
        if not serving.batches and serving.id not in self.serving:  # spared, and this was its last
            serving.over.set()

    async def close(self) -> None:
        tasks = [slot.task for slot in self._slots.values() if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spare(self, slot: _Slot[T]) -> None:
        serving = slot.serving
        if serving is None or serving.lost:
            assert slot.task is not None
            slot.task.cancel()  # kills what is loading
        else:
            del self.serving[serving.id]
            if not serving.batches:
                serving.over.set()
        slot.state = ReplicaState.DRAINING

    def _vacate(self, slot: _Slot[T], task: asyncio.Task[None]) -> None:
        del self._slots[slot.id]
        self._on_change()

    async def _supervise(self, slot: _Slot[T]) -> None:
        """Keep one replica up: load it, let it serve, replace it when it is lost."""
        num_failures = 0
        turn: AbstractAsyncContextManager[None] = nullcontext()  # the first is not made to wait for its turn
        while slot.state is not ReplicaState.DRAINING:
            slot.state = ReplicaState.PENDING
            try:
                async with turn:
                    replica = await self._bring_up(slot)
            except (DubbingError, ReplicaDiedError, ResultLostError, TimeoutError) as error:
                num_failures += 1
                slot.state = ReplicaState.RESTING
                self._after_load_failure(slot, num_failures, error)
                await rest(self._config, num_failures)
            else:
                num_failures = 0
                await self._serve(slot, replica)
            turn = self._starts.turn(self._share_serving)

    def _share_serving(self) -> float:
        return len(self.serving) / max(1, self.target)

    async def _bring_up(self, slot: _Slot[T]) -> Replica:
        """A replica that has loaded. Raises DubbingError, ReplicaDiedError, ResultLostError, TimeoutError."""
        replica = self._start_replica()
        try:
            await self._place(replica)
            slot.state = ReplicaState.LOADING
            await within(self._config.load_timeout_s, replica.load())
        except BaseException:
            replica.kill()
            raise
        return replica

    async def _place(self, replica: Replica) -> None:
        try:
            await within(self._config.place_timeout_s, replica.place())
        except TimeoutError as error:
            raise EngineLoadError(
                f"a replica of {self._name} must be placed within {self._config.place_timeout_s:g} s; no node had "
                f"{self._config.describe_needs()} free; add such a node, or ask for less in its pool's settings"
            ) from error

    async def _serve(self, slot: _Slot[T], replica: Replica) -> None:
        """Let the replica take batches until it is lost or spared, or the pool is closed."""
        serving: Serving[T] = Serving(id=slot.id, replica=replica)
        slot.serving, slot.state, slot.hopeless = serving, ReplicaState.SERVING, False
        self.serving[slot.id] = serving
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
            slot.hopeless = True
        if not all(other.hopeless for other in self._slots.values() if other.state is not ReplicaState.DRAINING):
            return
        # Tries go on, ever more rarely: what is missing may come back. Nobody waits for it.
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
        """Run in the context of no job."""
        context = new_context(stage=self._name, replica=replica)
        task = asyncio.get_running_loop().create_task(coroutine, name=name, context=context)
        task.add_done_callback(self._on_defect)
        return task


async def rest(config: PoolConfig, num_failures: int) -> None:
    """Before what failed so often is tried again."""
    jitter = random.random()  # noqa: S311  # no secret
    await asyncio.sleep(retry_delay_s(config.restart_delay_s, num_failures, jitter))


def _sacrifice(slot: _Slot[Any]) -> tuple[bool, int, int]:
    """First what does not serve yet, then what has least to do, then the youngest."""
    serving = slot.serving
    return serving is not None, 0 if serving is None else len(serving.batches), -slot.id
