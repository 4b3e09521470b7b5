"""A pool: replicas of one engine behind one bounded queue.

Requests from all videos and languages wait in one queue, the next one needed first; micro-batches
go to the least loaded replica, two at a time, so that none waits on this driver. A replica that
dies or hangs is replaced and its requests run elsewhere. What to do is decided in `scheduling.py`.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from actors.engine import make_engine
from actors.errors import EngineError, EngineLoadError, ItemError, ReplicaLostError
from actors.types import ItemFailure, Task
from cluster.config import PoolConfig, StageConfig
from cluster.replicas import Replica, ReplicaDiedError
from cluster.scheduling import AfterLoss, Assignment, QueuedItem, ReplicaLoad, after_loss, dispatch

log = logging.getLogger(__name__)

MAX_RESTART_DELAY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """What a pool has done so far."""

    name: str
    num_items: int
    num_failed: int
    num_batches: int
    num_lost_replicas: int
    engine_s: float
    """Seconds spent inside engines, over all replicas."""
    queue_items: int


@dataclass(slots=True, eq=False)
class _Entry:
    request: Any
    order: tuple[float, int]
    cost: float
    queued_s: float
    outcome: asyncio.Future[Any]
    num_losses: int = 0
    alone: bool = False


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of one replica, whoever fills it."""

    id: int
    replica: Replica | None = None
    batches: set[asyncio.Task[None]] = field(default_factory=set)
    died: asyncio.Event = field(default_factory=asyncio.Event)


class Pool:
    """Use as ``async with Pool(...) as pool: result = await pool.submit(request)``."""

    def __init__(self, task: Task, stage: StageConfig, start_replica: Callable[[Task, StageConfig], Replica]) -> None:
        self.name = f"{task}/{stage.engine}"
        self.engine = make_engine(task, stage.engine, stage.options)  # never loaded here: cost and languages only
        self._config: PoolConfig = stage.pool
        self._start_replica = lambda: start_replica(task, stage)
        self._queue: list[_Entry] = []
        self._sequence = itertools.count()
        self._room = asyncio.Semaphore(self._config.max_pending_items)
        self._wake = asyncio.Event()
        self._slots = [_Slot(id=index) for index in range(self._config.replicas)]
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: EngineLoadError | None = None
        self._num_items = self._num_failed = self._num_batches = self._num_lost = 0
        self._engine_s = 0.0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._supervise(slot), name=f"{self.name}#{slot.id}") for slot in self._slots]
        self._tasks.append(asyncio.create_task(self._dispatch(), name=f"{self.name} dispatch"))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self._queue:
            entry.outcome.cancel()

    async def submit(self, request: Any, *, order: float = 0.0) -> Any:
        """The engine's result for one request; waits while the queue is full.

        Of what waits, the lowest ``order`` runs first (the time it is needed, on the media timeline).
        Raises ItemError if this request failed, ReplicaLostError if replicas kept dying with it,
        EngineLoadError if the engine cannot be made ready.
        """
        async with self._room:
            if self._broken is not None:
                raise EngineLoadError(self._broken.message)
            entry = _Entry(
                request=request,
                order=(order, next(self._sequence)),
                cost=self.engine.cost(request),
                queued_s=time.monotonic(),
                outcome=asyncio.get_running_loop().create_future(),
            )
            self._enqueue(entry)
            try:
                return await entry.outcome
            finally:
                if entry.outcome.cancelled() and entry in self._queue:
                    self._queue.remove(entry)

    def stats(self) -> PoolStats:
        return PoolStats(
            name=self.name,
            num_items=self._num_items,
            num_failed=self._num_failed,
            num_batches=self._num_batches,
            num_lost_replicas=self._num_lost,
            engine_s=self._engine_s,
            queue_items=len(self._queue),
        )

    # --- queue and dispatch

    def _enqueue(self, entry: _Entry) -> None:
        bisect.insort(self._queue, entry, key=lambda waiting: waiting.order)
        self._wake.set()

    async def _dispatch(self) -> None:
        while True:
            decision = dispatch(
                [QueuedItem(cost=entry.cost, queued_s=entry.queued_s, alone=entry.alone) for entry in self._queue],
                [ReplicaLoad(id=slot.id, num_batches=len(slot.batches)) for slot in self._slots if slot.replica is not None],
                self._config.batch,
                time.monotonic(),
            )
            for assignment in decision.assignments:
                self._send(assignment)
            timeout_s = None if decision.wake_at_s is None else max(0.0, decision.wake_at_s - time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            self._wake.clear()

    def _send(self, assignment: Assignment) -> None:
        entries = self._queue[: assignment.num_items]
        del self._queue[: assignment.num_items]
        slot = self._slots[assignment.replica_id]
        assert slot.replica is not None  # dispatch was only offered replicas that are up
        batch = asyncio.create_task(self._run_batch(slot, slot.replica, entries))
        slot.batches.add(batch)

        def done(task: asyncio.Task[None]) -> None:
            slot.batches.discard(task)
            self._wake.set()

        batch.add_done_callback(done)

    async def _run_batch(self, slot: _Slot, replica: Replica, entries: Sequence[_Entry]) -> None:
        try:
            async with asyncio.timeout(self._config.call_timeout_s):
                report = await replica.run([entry.request for entry in entries])
        except (ReplicaDiedError, TimeoutError) as error:
            slot.died.set()
            self._after_loss(entries, error)
        except EngineError as error:
            for entry in entries:
                self._settle(entry, ItemError(error.message))
        else:
            self._num_batches += 1
            self._engine_s += report.run_s
            for entry, result in zip(entries, report.results, strict=True):
                self._settle(entry, result.error if isinstance(result, ItemFailure) else result)

    def _settle(self, entry: _Entry, outcome: Any) -> None:
        self._num_items += 1
        if entry.outcome.done():  # its caller has gone
            return
        if isinstance(outcome, Exception):
            self._num_failed += 1
            entry.outcome.set_exception(outcome)
        else:
            entry.outcome.set_result(outcome)

    # --- replicas and their deaths

    async def _supervise(self, slot: _Slot) -> None:
        num_load_failures = 0
        while True:
            replica = self._start_replica()
            try:
                async with asyncio.timeout(self._config.load_timeout_s):
                    await replica.load()
            except asyncio.CancelledError:
                replica.kill()
                raise
            except (EngineLoadError, ReplicaDiedError, TimeoutError) as error:
                replica.kill()
                num_load_failures += 1
                log.warning("replica did not load pool=%s slot=%d failures=%d error=%r", self.name, slot.id, num_load_failures, error)
                # A missing package or file stays missing: only a death or a time-out is worth another try.
                hopeless = isinstance(error, EngineLoadError) or num_load_failures >= self._config.max_load_failures
                if hopeless and all(other.replica is None for other in self._slots):
                    self._break(error)
                    return
                await asyncio.sleep(min(MAX_RESTART_DELAY_S, self._config.restart_delay_s * 2 ** (num_load_failures - 1)))
                continue
            num_load_failures = 0
            await self._serve(slot, replica)

    async def _serve(self, slot: _Slot, replica: Replica) -> None:
        """Let the replica take batches until it dies or the pool is closed."""
        slot.died.clear()
        slot.replica = replica
        self._wake.set()
        try:
            await slot.died.wait()
        except asyncio.CancelledError:
            slot.replica = None
            for batch in slot.batches:
                batch.cancel()
            await replica.close()
            raise
        self._num_lost += 1
        log.warning("replica lost pool=%s slot=%d", self.name, slot.id)
        slot.replica = None
        replica.kill()

    def _after_loss(self, entries: Sequence[_Entry], error: Exception) -> None:
        for entry in entries:
            entry.num_losses += 1
            decision = after_loss(entry.num_losses, entry.alone or len(entries) == 1, self._config.max_losses)
            if decision is AfterLoss.GIVE_UP:
                self._settle(
                    entry,
                    ReplicaLostError(
                        f"{self.name} must answer within {self._config.call_timeout_s:g} s and stay alive; "
                        f"{entry.num_losses} replicas were lost with this request, last {error!r}"
                    ),
                )
                continue
            entry.alone = decision is AfterLoss.RETRY_ALONE
            self._enqueue(entry)

    def _break(self, error: Exception) -> None:
        self._broken = error if isinstance(error, EngineLoadError) else EngineLoadError(
            f"{self.name} must load within {self._config.load_timeout_s:g} s; "
            f"{self._config.max_load_failures} replicas did not, last {error!r}"
        )
        for entry in self._queue:
            self._settle(entry, EngineLoadError(self._broken.message))
        self._queue.clear()
