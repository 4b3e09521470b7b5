"""Ways to run the same three stages: what `bench_orchestration.py` compares.

Each contender is a context manager around warm pools that gives a function: so many segments → Timing.
A stage's replica works on one call at a time and sleeps for its service time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

from cluster.config.load import load_config
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.cached_pool import PoolLike
from cluster.pools.pool_set import PoolSet
from cluster.streams import ordered_map

EXTRACT_S = 0.10
MAX_PENDING = load_config("base").pipeline.max_utterances
"""Segments that raydub translates at a time, and speaks at a time, as in the pipeline."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    service_s: float
    replicas: int
    max_items: int = 1
    """Segments in one call, which takes ``service_s`` whatever their number."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    wall_s: float
    first_s: float
    cpu_s: float


Run = Callable[[int], Timing]


def stages_of(translators: int, aligners: int, speakers: int, max_items: int = 1) -> tuple[Stage, ...]:
    return (
        Stage(name="translate", service_s=0.050, replicas=translators, max_items=max_items),
        Stage(name="align", service_s=0.020, replicas=aligners),
        Stage(name="speak", service_s=0.100, replicas=speakers),
    )


def lower_bound_s(stages: Sequence[Stage], num_segments: int) -> float:
    """No order of work ends earlier: extraction, the fullest stage's calls shared among its replicas, and what
    one segment takes in the other stages, before the first reaches that stage and after the last has left it."""
    per_stage_s = [
        math.ceil(num_segments / (stage.replicas * stage.max_items)) * stage.service_s
        + sum(other.service_s for other in stages if other is not stage)
        for stage in stages
    ]
    return EXTRACT_S + max(per_stage_s)


class Meter:
    """Wall time and the CPU of this process and all that it started: Ray's daemons and workers too."""

    def __init__(self) -> None:
        self._cpu_s = tree_cpu_s()
        self._start_s = time.monotonic()
        self._first_s: float | None = None
        self._num = 0

    def tick(self) -> None:
        """A segment is ready."""
        self._num += 1
        if self._first_s is None:
            self._first_s = time.monotonic() - self._start_s

    def stop(self, num_segments: int) -> Timing:
        wall_s = time.monotonic() - self._start_s
        if self._num != num_segments or self._first_s is None:
            raise RuntimeError(f"{num_segments} segments went in, {self._num} came out")
        return Timing(wall_s=wall_s, first_s=self._first_s, cpu_s=tree_cpu_s() - self._cpu_s)


def tree_cpu_s() -> float:
    own = psutil.Process()
    total_s = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has ended meanwhile
            continue
        total_s += times.user + times.system
    return total_s


@contextmanager
def ray_cluster() -> Iterator[None]:
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=64,
        include_dashboard=False,
        object_store_memory=200_000_000,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


# --- one process, no Ray


@contextmanager
def one_at_a_time(stages: Sequence[Stage]) -> Iterator[Run]:
    """As the seed does it: a segment goes through all stages, then the next one."""

    def run(num_segments: int) -> Timing:
        meter = Meter()
        time.sleep(EXTRACT_S)
        for _ in range(num_segments):
            for stage in stages:
                time.sleep(stage.service_s)
            meter.tick()
        return meter.stop(num_segments)

    yield run


@contextmanager
def stage_by_stage(stages: Sequence[Stage]) -> Iterator[Run]:
    """All segments through one stage, then through the next, one at a time."""

    def run(num_segments: int) -> Timing:
        meter = Meter()
        time.sleep(EXTRACT_S)
        for stage in stages:
            for _ in range(num_segments):
                time.sleep(stage.service_s)
                if stage is stages[-1]:
                    meter.tick()
        return meter.stop(num_segments)

    yield run


@contextmanager
def thread_pools(stages: Sequence[Stage]) -> Iterator[Run]:
    """A thread per replica, in this process: no model that needs the interpreter would scale so."""
    pools = [ThreadPoolExecutor(stage.replicas) for stage in stages]

    def run(num_segments: int) -> Timing:
        meter = Meter()
        time.sleep(EXTRACT_S)
        ended: list[Future[None]] = [Future() for _ in range(num_segments)]

        def enter(index: int, depth: int) -> None:
            if depth == len(stages):
                ended[index].set_result(None)
                return
            call = pools[depth].submit(time.sleep, stages[depth].service_s)
            call.add_done_callback(lambda _: enter(index, depth + 1))

        for index in range(num_segments):
            enter(index, 0)
        for each in ended:
            each.result()
            meter.tick()
        return meter.stop(num_segments)

    try:
        yield run
    finally:
        for pool in pools:
            pool.shutdown()


# --- Ray Data


class DataStage:
    def __init__(self, stage: Stage, begun: str) -> None:
        self._service_s = stage.service_s
        self._begun = Path(begun) if stage.name == "translate" else None

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        if self._begun is not None and not self._begun.exists():
            self._begun.write_text(repr(time.monotonic()))  # one clock for all processes of a machine
        time.sleep(self._service_s)
        return rows


@contextmanager
def ray_data(stages: Sequence[Stage]) -> Iterator[Run]:
    """Streaming execution: an actor pool per stage, a block per call, four in flight per actor, in order.

    It starts its actors anew in every execution: the clock starts when the first call begins, once all
    of them are up, and extraction is added.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.wait_for_min_actors_s = 120
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True

    def run(num_segments: int) -> Timing:
        with tempfile.TemporaryDirectory() as folder:
            begun = Path(folder) / "begun"
            data = ray.data.from_items(
                list(range(num_segments)), override_num_blocks=math.ceil(num_segments / stages[0].max_items)
            )
            for stage in stages:
                data = data.map_batches(
                    DataStage,
                    fn_constructor_args=(stage, str(begun)),
                    batch_size=stage.max_items,
                    compute=ray.data.ActorPoolStrategy(size=stage.replicas, max_tasks_in_flight_per_actor=4),
                    num_cpus=0.01,
                )
            return _time_rows(data, begun, num_segments)

    yield run


def _time_rows(data: Any, begun: Path, num_segments: int) -> Timing:
    cpu_s = []

    def note_cpu() -> None:
        while not begun.exists():
            time.sleep(0.005)
        cpu_s.append(tree_cpu_s())

    watch = threading.Thread(target=note_cpu, daemon=True)
    watch.start()
    ready_s = [time.monotonic() for _ in data.iter_rows()]
    watch.join()
    if len(ready_s) != num_segments:
        raise RuntimeError(f"{num_segments} segments went in, {len(ready_s)} came out")
    start_s = float(begun.read_text()) - EXTRACT_S
    return Timing(wall_s=ready_s[-1] - start_s, first_s=ready_s[0] - start_s, cpu_s=tree_cpu_s() - cpu_s[0])


# --- Ray Serve


class ServeStage:
    def __init__(self, service_s: float) -> None:
        self._service_s = service_s
        self._engine = asyncio.Lock()

    async def __call__(self, item: int) -> tuple[int, int]:
        async with self._engine:
            await asyncio.sleep(self._service_s)
        return item, os.getpid()


MAX_ONGOING = 2


@contextmanager
def ray_serve(stages: Sequence[Stage]) -> Iterator[Run]:
    """A composition of deployments: two requests in a replica, in flight no more than all replicas hold, and a
    router that asks again every millisecond or two."""
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    router = RequestRouterConfig(initial_backoff_s=0.001, backoff_multiplier=1.2, max_backoff_s=0.005)
    handles = []
    for stage in stages:
        deployment = serve.deployment(ServeStage).options(
            name=stage.name,
            num_replicas=stage.replicas,
            max_ongoing_requests=MAX_ONGOING,
            ray_actor_options={"num_cpus": 0.01},
            request_router_config=router,
        )
        handles.append(serve.run(deployment.bind(stage.service_s), name=stage.name, route_prefix=None))
    in_flight = MAX_ONGOING * sum(stage.replicas for stage in stages)

    async def through(item: int) -> None:
        for handle in handles:
            item, _ = await handle.remote(item)

    with asyncio.Runner() as runner:
        for handle, stage in zip(handles, stages, strict=True):
            runner.run(warm(lambda item, handle=handle: _ask(handle, item), stage))
        try:
            yield lambda num_segments: runner.run(_unordered(num_segments, in_flight, through))
        finally:
            serve.shutdown()


async def _unordered(num_segments: int, max_pending: int, through: Callable[[int], Awaitable[None]]) -> Timing:
    """So many segments at a time, in whatever order they end."""
    meter, room = Meter(), asyncio.Semaphore(max_pending)
    await asyncio.sleep(EXTRACT_S)

    async def segment(index: int) -> None:
        async with room:
            await through(index)
        meter.tick()

    await asyncio.gather(*(segment(index) for index in range(num_segments)))
    return meter.stop(num_segments)


async def _ask(handle: Any, item: int) -> Any:
    return await handle.remote(item)


# --- actors alone


class RawStage:
    def __init__(self, service_s: float) -> None:
        self._service_s = service_s

    def run(self, item: int) -> tuple[int, int]:
        time.sleep(self._service_s)
        return item, os.getpid()


@contextmanager
def raw_actors(stages: Sequence[Stage]) -> Iterator[Run]:
    """Nothing above Ray: two calls in flight to each actor, a call to whichever has room, and a bounded number of
    segments at a time. No retries, no turns between jobs, no order."""
    import ray

    actor: Any = ray.remote(num_cpus=0.01)(RawStage)
    fleets = [[actor.remote(stage.service_s) for _ in range(stage.replicas)] for stage in stages]
    rooms: list[asyncio.Queue[Any]] = []
    for fleet in fleets:
        rooms.append(asyncio.Queue())
        for handle in fleet * MAX_ONGOING:
            rooms[-1].put_nowait(handle)

    async def ask(room: asyncio.Queue[Any], item: int) -> tuple[int, int]:
        handle = await room.get()
        try:
            answer: tuple[int, int] = await handle.run.remote(item)
            return answer
        finally:
            room.put_nowait(handle)

    async def through(index: int) -> None:
        for room in rooms:
            await ask(room, index)

    with asyncio.Runner() as runner:
        for room, stage in zip(rooms, stages, strict=True):
            runner.run(warm(lambda item, room=room: ask(room, item), stage))
        try:
            yield lambda num_segments: runner.run(_unordered(num_segments, MAX_PENDING, through))
        finally:
            for handle in itertools.chain.from_iterable(fleets):
                ray.kill(handle)


# --- raydub


@contextmanager
def raydub(stages: Sequence[Stage]) -> Iterator[Run]:
    """The pipeline's own streams and pools: a segment is aligned once translated, and spoken in its order."""

    async def open_pools(stack: AsyncExitStack) -> list[PoolLike]:
        owner = await stack.enter_async_context(PoolSet(load_config("base", ["ray.mode=cluster", "store.url=none"])))
        pools = []
        for stage in stages:
            config = StageConfig(
                engine="tests.standins.sleeping",
                options={"service_s": stage.service_s, "per": "call" if stage.max_items > 1 else "item"},
                pool=PoolConfig(replicas=stage.replicas, num_cpus=0.01, batch=BatchLimits(max_items=stage.max_items)),
            )
            pools.append(await owner.get("translation", config))
            await warm(pools[-1].submit, stage)
        return pools

    async def stream(pools: Sequence[PoolLike], num_segments: int) -> Timing:
        meter = Meter()
        translators, aligners, speakers = pools
        lines = ordered_map(_extract(num_segments), _through(translators, aligners), MAX_PENDING)
        async for _ in ordered_map(lines, _through(speakers), MAX_PENDING):
            meter.tick()
        return meter.stop(num_segments)

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        pools = runner.run(open_pools(stack))
        try:
            yield lambda num_segments: runner.run(stream(pools, num_segments))
        finally:
            runner.run(stack.aclose())


async def _extract(num_segments: int) -> AsyncIterator[int]:
    await asyncio.sleep(EXTRACT_S)
    for index in range(num_segments):
        yield index


def _through(*pools: PoolLike) -> Callable[[int], Any]:
    async def call(index: int) -> int:
        for pool in pools:
            await pool.submit(index, order=index)
        return index

    return call


async def warm(submit: Callable[[int], Any], stage: Stage) -> None:
    """Until every replica has answered."""
    seen: set[int] = set()
    for _ in itertools.count():
        answers = await asyncio.gather(*(submit(0) for _ in range(2 * stage.replicas)))
        seen |= {pid for _, pid in answers}
        if len(seen) == stage.replicas:
            return


CONTENDERS: dict[str, Callable[[Sequence[Stage]], Any]] = {
    "one at a time": one_at_a_time,
    "stage by stage": stage_by_stage,
    "thread pools": thread_pools,
    "Ray Data": ray_data,
    "Ray Serve": ray_serve,
    "raw actors": raw_actors,
    "raydub": raydub,
}
NEED_RAY = ("Ray Data", "Ray Serve", "raw actors", "raydub")
