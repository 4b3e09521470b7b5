"""A pool: replicas of one engine behind one bounded queue.

Requests from all videos and languages wait in one queue, which takes turns between jobs; micro-batches go
to the least loaded replica, two at a time, so that none waits on this driver. A replica that dies or hangs
is replaced and its requests run elsewhere. What to do is decided in `scheduling.py` and `fairness.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from actors.engine import make_engine
from actors.errors import EngineError, EngineLoadError, ItemError, ReplicaLostError
from actors.host import BatchReport
from actors.types import ItemFailure, Task
from cluster.config import PoolConfig, StageConfig
from cluster.deadline import within
from cluster.fairness import Door, FairQueue, Ticket
from cluster.fleet import Fleet, ReplicaState, Serving, rest
from cluster.logs import log_context, new_context
from cluster.memory_limit import MemoryLimit
from cluster.pool_metrics import metrics_of
from cluster.pool_stats import PoolStats, Stopwatch
from cluster.quarantine import Quarantine
from cluster.replicas import (
    Replica,
    ReplicaDiedError,
    ReplicaGoneError,
    ReplicaHungError,
    ReplicaOutOfMemoryError,
    ResultLostError,
)
from cluster.scheduling import AfterLoss, Backlog, ReplicaLoad, Send, after_loss, next_batch
from cluster.starting import Starts

log = logging.getLogger(__name__)

E = TypeVar("E", bound=BaseException)

MAX_LOST_RESULTS = 6
"""Of one request: by default for the quarter of a minute in which a full disk or store may come to have room."""
MEASURED_WEIGHT = 0.2
"""Of the latest batch in the moving average of the engine's pace."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Entry(Ticket):
    """A request from its submission to its outcome."""

    request: Any
    outcome: asyncio.Future[Any]
    num_losses: int = 0
    num_lost_results: int = 0
    alone: bool = False
    """It and others were on replicas that died, or in a batch that failed: it gets one to itself."""


class Pool:
    """Use as ``async with Pool(...) as pool: result = await pool.submit(request)``.

    Starts ``num_replicas``, by default as many as it always keeps.
    """

    def __init__(
        self,
        task: Task,
        stage: StageConfig,
        start_replica: Callable[[Task, StageConfig], Replica],
        num_replicas: int | None = None,
        starts: Starts | None = None,
    ) -> None:
        self.name = f"{task}/{stage.engine}"
        self.config: PoolConfig = stage.pool
        self._engine = make_engine(task, stage.engine, stage.options)  # never loaded here: it knows what requests cost
        self._num_at_start = self.config.smallest if num_replicas is None else num_replicas
        self._queue: FairQueue[_Entry] = FairQueue()
        self._suspects: deque[_Entry] = deque()
        held_items = self.config.largest * self.config.batch.in_flight * self.config.batch.max_items
        max_items = max(self.config.max_pending_items, held_items)
        self._door = Door(max_items, self.config.max_pending_items_per_job or max_items)
        self._wake = asyncio.Event()
        self._fleet: Fleet[_Entry] = Fleet(
            self.name,
            self.config,
            functools.partial(start_replica, task, stage),
            on_change=self._wake.set,
            on_unloadable=self._fail_waiting,
            on_defect=self._check,
            starts=starts or Starts(),
        )
        self._quarantine = Quarantine(self.config.quarantine_s)
        self._memory = MemoryLimit(self.config.batch)
        self._dispatching: asyncio.Task[None] | None = None
        self.on_demand: Callable[[], None] = lambda: None
        """Called when there is work and no replica is wanted."""
        self._busy = Stopwatch()
        self._metrics = metrics_of(self.name)
        self._closed: EngineError | None = EngineError(f"{self.name} must be open: use it inside `async with`")
        self._num_items = self._num_failed = self._num_batches = self._num_lost = 0
        self._engine_s = 0.0
        self._s_per_cost: float | None = None

    async def __aenter__(self) -> Self:
        self._closed = None
        context = new_context(stage=self.name)
        self._dispatching = asyncio.get_running_loop().create_task(
            self._dispatch(), name=f"{self.name} dispatch", context=context
        )
        self._dispatching.add_done_callback(self._check)
        self.resize(self._num_at_start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(EngineError(f"{self.name} must stay open until its requests are answered; it was closed"))
        assert self._dispatching is not None
        self._dispatching.cancel()
        await asyncio.gather(self._dispatching, return_exceptions=True)
        await self._fleet.close()

    @property
    def is_open(self) -> bool:
        return self._closed is None

    def resize(self, num_replicas: int) -> None:
        """Want this many replicas from now on; those spared finish what they have."""
        self._fleet.resize(num_replicas)

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any:
        """The engine's result for one request; waits while the queue is full.

        Jobs take turns, by the work they ask for over their ``weight``; of one job, the lowest ``order`` runs
        first: the time it is needed. A class of higher ``priority`` goes before, and leaves the one below a
        sixteenth of the work.
        Raises ItemError if this request failed, ReplicaLostError if replicas kept dying with it,
        EngineLoadError if the engine cannot be made ready, EngineError if the pool is not open.
        """
        await self._door.enter(job)
        try:
            return await self._submit(request, order, job, priority, weight)
        finally:
            self._door.leave(job)

    async def _submit(self, request: Any, order: float, job: str, priority: int, weight: float) -> Any:
        refusal = self._closed or self._fleet.unloadable
        if refusal is not None:
            raise _copy(refusal)
        loop = asyncio.get_running_loop()
        now_s, cost = loop.time(), self._engine.cost(request)
        if self._quarantine.has(request, cost, now_s):
            raise ReplicaLostError(
                f"{self.name} must survive this request; replicas were lost with the same one before, and it is "
                f"refused for {self.config.quarantine_s:g} s after that"
            )
        entry = _Entry(
            job=job,
            priority=priority,
            order=order,
            cost=cost,
            queued_s=now_s,
            weight=weight,
            request=request,
            outcome=loop.create_future(),
        )
        self._enqueue(entry)
        try:
            return await entry.outcome
        except asyncio.CancelledError:
            if entry in self._queue:  # else on a replica already: its result will be dropped
                self._queue.remove(entry)
            with contextlib.suppress(ValueError):
                self._suspects.remove(entry)
            raise

    def stats(self) -> PoolStats:
        oldest_s = self._queue.oldest_s
        states = self._fleet.states()
        running = self._under_way()
        now_s = asyncio.get_running_loop().time()
        return PoolStats(
            name=self.name,
            num_items=self._num_items,
            num_failed=self._num_failed,
            num_batches=self._num_batches,
            num_lost_replicas=self._num_lost,
            engine_s=self._engine_s,
            queue_items=len(self._queue) + len(self._suspects),
            queue_cost=self._queue.cost + sum(entry.cost for entry in self._suspects),
            running_items=sum(len(batch) for batch in running),
            running_cost=sum(entry.cost for batch in running for entry in batch),
            oldest_wait_s=0.0 if oldest_s is None else now_s - oldest_s,
            target=self._fleet.target,
            num_serving=states[ReplicaState.SERVING],
            num_loading=states[ReplicaState.LOADING],
            num_pending=states[ReplicaState.PENDING],
            num_draining=states[ReplicaState.DRAINING],
            num_resting=states[ReplicaState.RESTING],
            num_busy=self._busy.number,
            busy_s=self._busy.total_s(now_s),
            s_per_cost=self._s_per_cost,
            memory_cost_limit=self._memory.max_cost,
            num_quarantined=len(self._quarantine),
            last_error=self._fleet.last_error,
        )

    def report(self) -> None:
        """Tell the metrics how it is."""
        stats = self.stats()
        states = self._fleet.states()
        replicas = {state.value: states[state] for state in ReplicaState}
        self._metrics.look(stats.queue_items, stats.oldest_wait_s, replicas)

    # --- queue and dispatch

    def _enqueue(self, entry: _Entry) -> None:
        if entry.alone:
            self._suspects.append(entry)
        else:
            self._queue.push(entry)
        self._wake.set()
        if not self._fleet.target:
            self.on_demand()

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            decision = next_batch(self._backlog(), self._loads(), self._memory.limits, loop.time())
            if isinstance(decision, Send):
                self._send(decision)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(decision.until_s):
                    await self._wake.wait()
            self._wake.clear()

    def _backlog(self) -> Backlog:
        queue = self._queue
        return Backlog(num_items=len(queue), cost=queue.cost, oldest_s=queue.oldest_s, num_suspects=len(self._suspects))

    def _loads(self) -> list[ReplicaLoad]:
        return [serving.load for serving in self._fleet.serving.values()]

    def _send(self, decision: Send) -> None:
        serving = self._fleet.serving[decision.replica_id]
        if decision.suspect:
            entries = [self._suspects.popleft()]
        else:
            entries = self._queue.take(decision.max_items, self._memory.limits.max_cost)
        # Batches run one after another: this one may wait for those before it.
        timeout_s = self.config.call_timeout_s * (len(serving.batches) + 1)
        now_s = asyncio.get_running_loop().time()
        self._metrics.batch_sent(len(entries), now_s - min(entry.queued_s for entry in entries))
        if not serving.batches:
            self._busy.add(1, now_s)
        batch = asyncio.create_task(self._run_batch(serving, entries, timeout_s, decision.suspect))
        serving.begin(batch, entries, now_s, decision.suspect)
        batch.add_done_callback(functools.partial(self._after_batch, serving))

    async def _run_batch(
        self, serving: Serving[_Entry], entries: Sequence[_Entry], timeout_s: float, suspect: bool
    ) -> None:
        outcomes: Sequence[Any]
        try:
            if suspect:
                await within(timeout_s, _check_it_lives(serving.replica))
            report = await within(timeout_s, serving.replica.run([entry.request for entry in entries]))
        except ReplicaDiedError as error:
            return self._lose(serving, error)
        except TimeoutError as error:
            return self._lose(serving, ReplicaHungError(str(error)))
        except ResultLostError as error:
            return await self._after_lost_result(serving, entries, error)
        except Exception as error:  # the host has confined what its engine raised: this befell requests on their way
            if len(entries) > 1:
                return self._retry_alone(entries)
            outcomes = [_item_error(error)]
        else:
            outcomes = report.results
            self._note(report, entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._settle(entry, outcome.error if isinstance(outcome, ItemFailure) else outcome)

    def _note(self, report: BatchReport, entries: Sequence[_Entry]) -> None:
        self._num_batches += 1
        self._engine_s += report.run_s
        self._metrics.batch_done(report.run_s)
        cost = sum(entry.cost for entry in entries)
        if cost > 0:
            pace = report.run_s / cost
            known = pace if self._s_per_cost is None else self._s_per_cost
            self._s_per_cost = known + MEASURED_WEIGHT * (pace - known)
        if report.exhausted_cost is None:
            self._memory.note_well()
        else:
            self._note_exhausted(report.exhausted_cost)

    def _note_exhausted(self, cost: float) -> None:
        self._memory.note_exhausted(cost)
        with log_context(stage=self.name):
            log.warning("out of memory cost=%g limits=%s", cost, self._memory.limits)

    def _after_batch(self, serving: Serving[_Entry], batch: asyncio.Task[None]) -> None:
        self._fleet.batch_ended(serving, batch)
        if not serving.batches:
            self._busy.add(-1, asyncio.get_running_loop().time())
        self._wake.set()
        self._check(batch)

    def _settle(self, entry: _Entry, outcome: Any) -> None:
        if entry.outcome.done():  # its caller has gone
            return
        self._num_items += 1
        if isinstance(outcome, Exception):
            self._num_failed += 1
            self._metrics.items_failed(1)
            entry.outcome.set_exception(outcome)
        else:
            entry.outcome.set_result(outcome)

    # --- deaths

    def _lose(self, serving: Serving[_Entry], error: ReplicaDiedError) -> None:
        """Queue again what a dead or hung replica had; its supervisor makes an end of it."""
        if not self._fleet.lose(serving, error):
            return
        self._num_lost += 1
        self._metrics.replica_lost()
        batches = list(serving.batches.values())
        with log_context(stage=self.name, replica=str(serving.id)):
            log.warning("replica lost items=%d error=%s", sum(map(len, batches)), error)
        if isinstance(error, ReplicaOutOfMemoryError) and len(batches[0]) > 1:
            self._note_exhausted(sum(entry.cost for entry in batches[0]))
        num_blamed = _num_blamed(error, len(batches))
        for entry in itertools.chain.from_iterable(batches[num_blamed:]):
            self._retry(entry)
        for batch in batches[:num_blamed]:
            self._after_loss(batch, error)

    def _after_loss(self, entries: Sequence[_Entry], error: ReplicaDiedError) -> None:
        for entry in entries:
            entry.num_losses += 1
            decision = after_loss(entry.num_losses, entry.alone, self.config.max_losses)
            if decision is AfterLoss.GIVE_UP:
                self._give_up(entry, error)
            else:
                entry.alone = decision is AfterLoss.RETRY_ALONE
                self._retry(entry)

    async def _after_lost_result(
        self, serving: Serving[_Entry], entries: Sequence[_Entry], error: ResultLostError
    ) -> None:
        """Try again, when what was full may have room."""
        for entry in entries:
            entry.num_lost_results += 1
        await rest(self.config, max(entry.num_lost_results for entry in entries))
        if serving.lost:  # meanwhile, and with it all that it had
            return
        for entry in entries:
            if entry.num_lost_results < MAX_LOST_RESULTS:
                self._retry(entry)
                continue
            message = (
                f"{self.name} must get its results; this one was lost on its way {MAX_LOST_RESULTS} times: {error}"
            )
            self._settle(entry, _caused(ItemError(message), error))

    def _retry_alone(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            entry.alone = True
            self._retry(entry)

    def _retry(self, entry: _Entry) -> None:
        if not entry.outcome.done():
            self._enqueue(entry)

    def _give_up(self, entry: _Entry, error: ReplicaDiedError) -> None:
        self._quarantine.add(entry.request, entry.cost, asyncio.get_running_loop().time())
        message = (
            f"{self.name} must answer within {self.config.call_timeout_s:g} s and stay alive; "
            f"{entry.num_losses} replicas were lost with this request, the last with nothing else on it: {error}"
        )
        self._settle(entry, _caused(ReplicaLostError(message), error))

    # --- the end

    def _check(self, task: asyncio.Task[None]) -> None:
        """Should a task of the pool itself fail, no caller may wait in vain."""
        if not task.cancelled() and (error := task.exception()) is not None:
            with log_context(stage=self.name):
                log.error("pool failed", exc_info=error)
            self._close(_caused(EngineError(f"{self.name} failed: {type(error).__name__}: {error}"), error))
            self._fleet.resize(0)  # no replica holds a GPU for nobody

    def _close(self, reason: EngineError) -> None:
        self._closed = reason
        self._fail_waiting(reason)

    def _fail_waiting(self, reason: EngineError | EngineLoadError) -> None:
        waiting = [*self._queue.drain(), *self._suspects]
        self._suspects.clear()
        for entry in itertools.chain(waiting, *self._under_way()):
            self._settle(entry, _copy(reason))

    def _under_way(self) -> list[Sequence[_Entry]]:
        return [batch for serving in self._fleet.at_work() for batch in serving.batches.values()]


async def _check_it_lives(replica: Replica) -> None:
    """What was lost with others is not to be blamed for a replica that died while idle. Raises ReplicaGoneError."""
    try:
        await replica.place()
    except ReplicaDiedError as error:
        raise ReplicaGoneError(str(error)) from error


def _num_blamed(error: ReplicaDiedError, num_batches: int) -> int:
    """How many of a lost replica's batches, in the order in which they ran or would have run, may have been its end."""
    if isinstance(error, ReplicaGoneError):
        return 0
    if isinstance(error, ReplicaHungError):
        return 1
    return num_batches  # the answer to the first may have died with the process when the next had begun


def _item_error(error: Exception) -> ItemError:
    message = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    return _caused(ItemError(message), error)


def _copy(error: EngineError) -> EngineError:
    """One for each caller: an exception that several raise collects all their tracebacks."""
    return _caused(type(error)(error.message), error)


def _caused(error: E, cause: BaseException) -> E:
    error.__cause__ = cause
    return error
