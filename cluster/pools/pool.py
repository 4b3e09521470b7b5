"""A pool: replicas of one engine behind one bounded queue.

Requests from all videos and languages wait in one queue, which takes turns between jobs. Each replica is handed
its next micro-batch shortly before it ends one if that is full, so that it never waits for this driver, and when it
is idle else. A replica that dies or hangs is replaced and its requests run elsewhere. Decisions are
made by pure functions in `scheduling.py` and `fairness.py`; `recovery.py` handles losses, `fleet.py` the replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from actors.engine import make_engine
from actors.errors import EngineError, EngineLoadError
from actors.host import BatchReport
from actors.types import ItemFailure, Task
from cluster import logs
from cluster.config.schema import PoolConfig, PriceConfig, StageConfig
from cluster.logs import log_context, new_context
from cluster.pools.batch_trace import trace_batch, trace_load
from cluster.pools.call_times import CallTimes
from cluster.pools.fairness import AdmissionLimiter
from cluster.pools.fleet import Fleet, Placing, ReplicaState, Serving
from cluster.pools.memory_limit import MemoryLimit
from cluster.pools.recovery import LossRecovery, check_alive, with_cause
from cluster.pools.replicas import Replica, ReplicaDiedError, ReplicaHungError, ResultLostError
from cluster.pools.request_queue import PendingRequest, RequestQueue
from cluster.pools.scheduling import Send, next_batch
from cluster.pools.start_limit import StartLimiter
from cluster.pools.stats import PoolActivity, PoolStats, RoomWait
from cluster.streams import within
from cluster.tracing import spans
from cluster.tracing.spans import SpanSink

log = logging.getLogger(__name__)


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
        start_limiter: StartLimiter | None = None,
        price: PriceConfig = PriceConfig(),
        tracer: SpanSink | None = None,
    ) -> None:
        self.name = f"{task}/{stage.engine}"
        self.config: PoolConfig = stage.pool
        self._engine = make_engine(task, stage.engine, stage.options)  # never loaded here: it knows what requests cost
        self._num_at_start = self.config.smallest if num_replicas is None else num_replicas
        self._queue = RequestQueue()
        held_items = self.config.largest * self.config.batch.in_flight * self.config.batch.max_items
        max_items = max(self.config.max_pending_items, held_items)
        self._admission = AdmissionLimiter(max_items, self.config.max_pending_items_per_job or max_items)
        self._wake = asyncio.Event()
        self._fleet: Fleet[PendingRequest] = Fleet(
            self.name,
            self.config,
            functools.partial(start_replica, task, stage),
            on_change=self._wake.set,
            on_unloadable=self._fail_all,
            on_defect=self._check,
            on_ready=functools.partial(trace_load, tracer, self.name),
            start_limiter=start_limiter or StartLimiter(),
        )
        self._memory = MemoryLimit(self.config.batch)
        self._times = CallTimes()
        self._recovery = LossRecovery(self.name, self.config, self._memory, retry=self._retry, settle=self._settle)
        self._activity = PoolActivity(self.name, self.config, price)
        self._on_demand: Callable[[], None] | None = None
        self._wait: RoomWait | None = None
        self._dispatching: asyncio.Task[None] | None = None
        self._closed: EngineError | None = EngineError(f"{self.name} must be open: use it inside `async with`")

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
        self.report()

    @property
    def is_open(self) -> bool:
        return self._closed is None

    def resize(self, num_replicas: int) -> None:
        """Want this many replicas from now on; superfluous ones finish their batches first."""
        self._fleet.resize(num_replicas)

    def placing(self) -> list[Placing]:
        return self._fleet.placing()

    def note_wait(self, wait: RoomWait | None) -> None:
        """Tell in the statistics what the pool waits for."""
        self._wait = wait

    def notify_on_demand(self, notify: Callable[[], None]) -> None:
        """Call ``notify`` whenever a request comes while no replica is wanted."""
        self._on_demand = notify

    # --- submit

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
        await self._admission.enter(job)
        try:
            return await self._submit(request, order, job, priority, weight)
        finally:
            self._admission.leave(job)

    async def _submit(self, request: Any, order: float, job: str, priority: int, weight: float) -> Any:
        refusal = self._closed or self._fleet.unloadable
        if refusal is not None:
            raise _copy(refusal)
        loop = asyncio.get_running_loop()
        now_s, cost = loop.time(), self._engine.cost(request)
        self._recovery.check(request, cost, now_s)
        entry = PendingRequest(
            job=job,
            priority=priority,
            order=order,
            cost=cost,
            queued_s=now_s,
            weight=weight,
            request=request,
            outcome=loop.create_future(),
            log_fields=logs.fields(),
            span=spans.current(),
        )
        self._enqueue(entry)
        try:
            return await entry.outcome
        except asyncio.CancelledError:
            self._queue.discard(entry)
            raise

    # --- queue

    def _enqueue(self, entry: PendingRequest) -> None:
        self._queue.push(entry)
        self._wake.set()
        if not self._fleet.target and self._on_demand is not None:
            self._on_demand()

    def _retry(self, entry: PendingRequest) -> None:
        if not entry.outcome.done():
            self._enqueue(entry)

    # --- dispatch

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            limits, lead_s = self._memory.limits, self.config.batch.lead_s + self._times.delivery_s
            backlog, loads = self._queue.backlog(), self._fleet.loads
            choice = loads.all() if backlog.num_suspects else loads.candidates(lead_s, loop.time())
            decision = next_batch(backlog, choice, limits, lead_s, loop.time(), loads.num_idle)
            if isinstance(decision, Send):
                self._send(decision)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(decision.until_s):
                    await self._wake.wait()
            self._wake.clear()

    def _send(self, decision: Send) -> None:
        serving = self._fleet.serving[decision.replica_id]
        if decision.suspect:
            entries: Sequence[PendingRequest] = [self._queue.take_suspect()]
        else:
            entries = self._queue.take(decision.max_items, self._memory.limits.max_cost)
        # Batches run one after another: this one may wait for those before it.
        timeout_s = self.config.call_timeout_s * (len(serving.batches) + 1)
        now_s = asyncio.get_running_loop().time()
        self._activity.batch_sent(len(entries), now_s - min(entry.queued_s for entry in entries))
        is_idle = not serving.batches
        if is_idle:
            self._activity.busy.add(1, now_s)
        expected_s = self._times.shortest_s(sum(entry.cost for entry in entries))
        fields = logs.fields_of_jobs(entry.log_fields for entry in entries)
        with log_context(replica=str(serving.id), **fields):
            batch = asyncio.create_task(self._run_batch(serving, entries, timeout_s, decision.suspect, is_idle))
        self._fleet.begin_batch(serving, batch, entries, expected_s, decision.suspect)
        batch.add_done_callback(functools.partial(self._after_batch, serving))

    async def _run_batch(
        self,
        serving: Serving[PendingRequest],
        entries: Sequence[PendingRequest],
        timeout_s: float,
        suspect: bool,
        is_idle: bool,
    ) -> None:
        clock = asyncio.get_running_loop().time
        start_s = clock()
        try:
            if suspect:
                await within(timeout_s, check_alive(serving.replica))
                start_s = clock()
            report = await within(timeout_s, serving.replica.run([entry.request for entry in entries]))
        except ReplicaDiedError as error:
            trace_batch(self.name, serving.id, entries, start_s, clock(), None)
            self._lose(serving, error)
        except TimeoutError as error:
            self._lose(serving, ReplicaHungError(str(error)))
        except ResultLostError as error:
            await self._recovery.after_lost_result(serving, entries, error)
        except Exception as error:  # the host confines its engine's errors: this one befell requests on their way
            self._recovery.after_failed_batch(entries, error)
        else:
            serving.gpu = report.gpu
            if is_idle:
                self._times.note_delivery(max(0.0, clock() - start_s - report.run_s))
            trace_batch(self.name, serving.id, entries, start_s, clock(), report)
            self._complete(report, entries)

    def _lose(self, serving: Serving[PendingRequest], error: ReplicaDiedError) -> None:
        """Recover the requests of a dead or hung replica; its supervisor replaces it."""
        if not self._fleet.lose(serving, error):
            return
        self._activity.replica_lost()
        batches = list(serving.batches.values())
        with log_context(stage=self.name, replica=str(serving.id)):
            log.warning("replica lost items=%d error=%s", sum(map(len, batches)), error)
        self._recovery.after_lost_replica(batches, error)

    # --- complete

    def _complete(self, report: BatchReport, entries: Sequence[PendingRequest]) -> None:
        cost = sum(entry.cost for entry in entries)
        self._times.note_call(cost, report.run_s)
        self._activity.batch_done(report.run_s, cost)
        if report.exhausted_cost is None:
            self._memory.note_well()
        else:
            self._memory.note_exhausted(report.exhausted_cost)
        for entry, outcome in zip(entries, report.results, strict=True):
            self._settle(entry, outcome.error if isinstance(outcome, ItemFailure) else outcome)

    def _settle(self, entry: PendingRequest, outcome: Any) -> None:
        if entry.outcome.done():  # its caller has gone
            return
        failed = isinstance(outcome, Exception)
        self._activity.item_done(failed=failed)
        if failed:
            entry.outcome.set_exception(outcome)
        else:
            entry.outcome.set_result(outcome)

    def _after_batch(self, serving: Serving[PendingRequest], batch: asyncio.Task[None]) -> None:
        self._fleet.batch_ended(serving, batch)
        if not serving.batches:
            self._activity.busy.add(-1, asyncio.get_running_loop().time())
        self._wake.set()
        self._check(batch)

    # --- close

    def _check(self, task: asyncio.Task[None]) -> None:
        """Close the pool if one of its own tasks failed, so that no caller waits in vain."""
        if not task.cancelled() and (error := task.exception()) is not None:
            with log_context(stage=self.name):
                log.error("pool failed", exc_info=error)
            self._close(with_cause(EngineError(f"{self.name} failed: {type(error).__name__}: {error}"), error))
            self._fleet.resize(0)  # no replica holds a GPU for nobody

    def _close(self, reason: EngineError) -> None:
        self._closed = reason
        self._fail_all(reason)

    def _fail_all(self, reason: EngineError | EngineLoadError) -> None:
        """Fail all requests, waiting and running."""
        for entry in itertools.chain(self._queue.drain(), *self._running()):
            self._settle(entry, _copy(reason))

    def _running(self) -> list[Sequence[PendingRequest]]:
        return [batch for serving in self._fleet.at_work() for batch in serving.batches.values()]

    # --- statistics

    def stats(self) -> PoolStats:
        activity, queue, states, running = self._activity, self._queue, self._fleet.states(), self._running()
        now_s = asyncio.get_running_loop().time()
        return PoolStats(
            name=self.name,
            num_items=activity.num_items,
            num_failed=activity.num_failed,
            num_batches=activity.num_batches,
            num_lost_replicas=activity.num_lost_replicas,
            engine_s=activity.engine_s,
            queue_items=len(queue),
            queue_cost=queue.cost,
            running_items=sum(len(batch) for batch in running),
            running_cost=sum(entry.cost for batch in running for entry in batch),
            oldest_wait_s=0.0 if queue.oldest_s is None else now_s - queue.oldest_s,
            target=self._fleet.target,
            num_serving=states[ReplicaState.SERVING],
            num_loading=states[ReplicaState.LOADING],
            num_pending=states[ReplicaState.PENDING],
            num_waiting=0 if self._wait is None else self._wait.number,
            waiting_s=0.0 if self._wait is None else self._wait.seconds,
            waiting=None if self._wait is None else self._wait.text,
            num_draining=states[ReplicaState.DRAINING],
            num_resting=states[ReplicaState.RESTING],
            num_busy=activity.busy.number,
            busy_s=activity.busy.total_s(now_s),
            s_per_cost=activity.s_per_cost,
            memory_cost_limit=self._memory.max_cost,
            gpus={each.id: each.gpu for each in self._fleet.at_work() if each.gpu is not None},
            num_quarantined=self._recovery.num_quarantined,
            last_error=self._fleet.last_error,
        )

    def report(self) -> None:
        """Export the current state to Prometheus."""
        stats, states = self.stats(), self._fleet.states()
        replicas = {state.value: states[state] for state in ReplicaState}
        self._activity.export_state(stats.queue_items, stats.oldest_wait_s, replicas)
        self._activity.export_wait(stats.num_waiting, stats.waiting_s)
        self._activity.export_gpus(stats.gpus)


def _copy(error: EngineError) -> EngineError:
    """One for each caller: an exception that several raise collects all their tracebacks."""
    return with_cause(type(error)(error.message), error)
