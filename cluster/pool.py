"""A pool: replicas of one engine behind one bounded queue.

Requests from all videos and languages wait in one queue, the next one needed first; micro-batches
go to the least loaded replica, two at a time, so that none waits on this driver. A replica that
dies or hangs is replaced and its requests run elsewhere. What to do is decided in `scheduling.py`.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from actors.engine import make_engine
from actors.errors import EngineError, EngineLoadError, ItemError, ReplicaLostError
from actors.types import ItemFailure, Task
from cluster.config import PoolConfig, StageConfig
from cluster.logs import log_context, new_context
from cluster.replicas import Replica, ReplicaDiedError
from cluster.scheduling import AfterLoss, Assignment, QueuedItem, ReplicaLoad, after_loss, dispatch

log = logging.getLogger(__name__)

E = TypeVar("E", bound=BaseException)

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
    num_hits: int = 0
    """Results that lay in the store, and never came here."""
    num_misses: int = 0
    num_corrupt: int = 0
    """Of the misses: values found damaged, and removed."""
    num_shared: int = 0
    """Requests that were under way already, and took that one's result."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A request from its submission to its outcome."""

    request: Any
    order: tuple[float, int]
    item: QueuedItem
    outcome: asyncio.Future[Any]
    num_losses: int = 0


@dataclass(slots=True, eq=False)
class _Serving:
    """A replica from loaded to lost, and what it has been given."""

    id: int
    replica: Replica
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    batches: dict[asyncio.Task[None], Sequence[_Entry]] = field(default_factory=dict)

    @property
    def load(self) -> ReplicaLoad:
        alone = any(entries[0].item.alone for entries in self.batches.values())
        return ReplicaLoad(id=self.id, num_batches=len(self.batches), alone=alone)


class Pool:
    """Use as ``async with Pool(...) as pool: result = await pool.submit(request)``."""

    def __init__(self, task: Task, stage: StageConfig, start_replica: Callable[[Task, StageConfig], Replica]) -> None:
        self.name = f"{task}/{stage.engine}"
        self._engine = make_engine(task, stage.engine, stage.options)  # never loaded here: it knows what requests cost
        self._config: PoolConfig = stage.pool
        self._start_replica = functools.partial(start_replica, task, stage)
        self._queue: list[_Entry] = []
        self._sequence = itertools.count()
        held_items = self._config.replicas * self._config.batch.in_flight * self._config.batch.max_items
        self._room = asyncio.Semaphore(max(self._config.max_pending_items, held_items))
        self._wake = asyncio.Event()
        self._serving: dict[int, _Serving] = {}
        self._hopeless: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed: EngineError | None = EngineError(f"{self.name} must be open: use it inside `async with`")
        self._unloadable: EngineLoadError | None = None
        self._has_loaded = False
        self._num_items = self._num_failed = self._num_batches = self._num_lost = 0
        self._engine_s = 0.0

    async def __aenter__(self) -> Self:
        self._closed = None
        self._start(self._dispatch(), f"{self.name} dispatch")
        for id in range(self._config.replicas):
            self._start(self._supervise(id), f"{self.name}#{id}", replica=str(id))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(EngineError(f"{self.name} must stay open until its requests are answered; it was closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def submit(self, request: Any, *, order: float = 0.0) -> Any:
        """The engine's result for one request; waits while the queue is full.

        Of what waits, the lowest ``order`` runs first: the time it is needed.
        Raises ItemError if this request failed, ReplicaLostError if replicas kept dying with it,
        EngineLoadError if the engine cannot be made ready, EngineError if the pool is not open.
        """
        async with self._room:
            refusal = self._closed or self._unloadable
            if refusal is not None:
                raise _copy(refusal)
            loop = asyncio.get_running_loop()
            entry = _Entry(
                request=request,
                order=(order, next(self._sequence)),
                item=QueuedItem(cost=self._engine.cost(request), queued_s=loop.time()),
                outcome=loop.create_future(),
            )
            self._enqueue(entry)
            try:
                return await entry.outcome
            except asyncio.CancelledError:
                with contextlib.suppress(ValueError):  # on a replica already: its result will be dropped
                    self._queue.remove(entry)
                raise

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
                [entry.item for entry in self._queue],
                [serving.load for serving in self._serving.values()],
                self._config.batch,
                asyncio.get_running_loop().time(),
            )
            for assignment in decision.assignments:
                self._send(assignment)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(decision.wake_at_s):
                    await self._wake.wait()
            self._wake.clear()

    def _send(self, assignment: Assignment) -> None:
        entries = self._queue[: assignment.num_items]
        del self._queue[: assignment.num_items]
        serving = self._serving[assignment.replica_id]
        # Batches run one after another: this one may wait for those before it.
        timeout_s = self._config.call_timeout_s * (len(serving.batches) + 1)
        batch = asyncio.create_task(self._run_batch(serving, entries, timeout_s))
        serving.batches[batch] = entries
        batch.add_done_callback(functools.partial(self._after_batch, serving))

    async def _run_batch(self, serving: _Serving, entries: Sequence[_Entry], timeout_s: float) -> None:
        outcomes: Sequence[Any]
        try:
            async with asyncio.timeout(timeout_s):
                report = await serving.replica.run([entry.request for entry in entries])
        except ReplicaDiedError as error:
            return self._lose(serving, error)
        except TimeoutError:
            return self._lose(serving, ReplicaDiedError(f"no answer within {timeout_s:g} s"))
        except Exception as error:
            outcomes = [_item_error(error) for _ in entries]
        else:
            outcomes = report.results
            self._num_batches += 1
            self._engine_s += report.run_s
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._settle(entry, outcome.error if isinstance(outcome, ItemFailure) else outcome)

    def _after_batch(self, serving: _Serving, batch: asyncio.Task[None]) -> None:
        del serving.batches[batch]
        self._wake.set()
        self._check(batch)

    def _settle(self, entry: _Entry, outcome: Any) -> None:
        if entry.outcome.done():  # its caller has gone
            return
        self._num_items += 1
        if isinstance(outcome, Exception):
            self._num_failed += 1
            entry.outcome.set_exception(outcome)
        else:
            entry.outcome.set_result(outcome)

    # --- replicas and their deaths

    async def _supervise(self, id: int) -> None:
        """Keep one replica up: load it, let it serve, replace it when it is lost."""
        num_failures = 0
        while True:
            replica = self._start_replica()
            try:
                async with asyncio.timeout(self._config.load_timeout_s):
                    await replica.load()
            except (EngineLoadError, ReplicaDiedError, TimeoutError) as error:
                replica.kill()
                num_failures += 1
                self._after_load_failure(id, num_failures, error)
                delay_s = self._config.restart_delay_s * 2 ** min(num_failures - 1, 16)
                await asyncio.sleep(min(MAX_RESTART_DELAY_S, delay_s))
            except BaseException:
                replica.kill()
                raise
            else:
                num_failures = 0
                await self._serve(id, replica)

    async def _serve(self, id: int, replica: Replica) -> None:
        """Let the replica take batches until it is lost or the pool is closed."""
        serving = self._serving[id] = _Serving(id=id, replica=replica)
        self._has_loaded = True
        self._hopeless.discard(id)
        self._unloadable = None
        self._wake.set()
        try:
            await serving.lost.wait()
        finally:
            under_way = tuple(serving.batches)
            for batch in under_way:
                batch.cancel()
            if under_way or serving.lost.is_set():
                replica.kill()
            else:
                await replica.close()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _lose(self, serving: _Serving, error: ReplicaDiedError) -> None:
        """Queue again what a dead or hung replica had; its supervisor makes an end of it."""
        if serving.lost.is_set():
            return
        serving.lost.set()
        self._serving.pop(serving.id, None)
        self._num_lost += 1
        entries = [entry for batch in serving.batches.values() for entry in batch if not entry.outcome.done()]
        with log_context(stage=self.name, replica=str(serving.id)):
            log.warning("replica lost items=%d error=%s", len(entries), error)
        for entry in entries:
            self._after_loss(entry, error)

    def _after_loss(self, entry: _Entry, error: ReplicaDiedError) -> None:
        entry.num_losses += 1
        decision = after_loss(entry.num_losses, entry.item.alone, self._config.max_losses)
        if decision is AfterLoss.GIVE_UP:
            message = (
                f"{self.name} must answer within {self._config.call_timeout_s:g} s and stay alive; "
                f"{entry.num_losses} replicas were lost with this request, the last with nothing else on it: {error}"
            )
            self._settle(entry, _caused(ReplicaLostError(message), error))
        else:
            entry.item = replace(entry.item, alone=decision is AfterLoss.RETRY_ALONE)
            self._enqueue(entry)

    def _after_load_failure(self, id: int, num_failures: int, error: Exception) -> None:
        log.warning("replica did not load failures=%d error=%r", num_failures, error)
        # A missing package or file stays missing; an engine that has loaded before deserves more tries.
        needs_help = isinstance(error, EngineLoadError) and not self._has_loaded
        if needs_help or num_failures >= self._config.max_load_failures:
            self._hopeless.add(id)
        if len(self._hopeless) < self._config.replicas:
            return
        # Tries go on, ever more rarely: what is missing may come back. Nobody waits for it.
        message = (
            f"{self.name} must load within {self._config.load_timeout_s:g} s; "
            f"{num_failures} replicas did not, the last one with {error!r}"
        )
        reason = error if isinstance(error, EngineLoadError) else _caused(EngineLoadError(message), error)
        self._unloadable = reason
        self._fail_waiting(reason)

    # --- the end

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str, replica: str = "-") -> None:
        """Run for the pool's life, in the context of no job."""
        context = new_context(stage=self.name, replica=replica)
        task = asyncio.get_running_loop().create_task(coroutine, name=name, context=context)
        task.add_done_callback(self._check)
        self._tasks.append(task)

    def _check(self, task: asyncio.Task[None]) -> None:
        """Should a task of the pool itself fail, no caller may wait in vain."""
        if not task.cancelled() and (error := task.exception()) is not None:
            with log_context(stage=self.name):
                log.error("pool failed", exc_info=error)
            self._close(_caused(EngineError(f"{self.name} failed: {type(error).__name__}: {error}"), error))

    def _close(self, reason: EngineError) -> None:
        self._closed = reason
        self._fail_waiting(reason)

    def _fail_waiting(self, reason: EngineError) -> None:
        under_way = [batch for serving in self._serving.values() for batch in serving.batches.values()]
        for entry in itertools.chain(self._queue, *under_way):
            self._settle(entry, _copy(reason))
        self._queue.clear()


def _item_error(error: Exception) -> ItemError:
    message = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    return _caused(ItemError(message), error)


def _copy(error: EngineError) -> EngineError:
    """One for each caller: an exception that several raise collects all their tracebacks."""
    return _caused(type(error)(error.message), error)


def _caused(error: E, cause: BaseException) -> E:
    error.__cause__ = cause
    return error
