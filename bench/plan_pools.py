"""A batch on the code's own pools, streams and turns, on a clock that jumps: what `bench_plan.py` compares plans with.

Only replicas and models are simulated: a replica is ready after a random time, and a call takes a random one. Costs of
real requests: some thousand lines take a minute.
"""

from __future__ import annotations

import asyncio
import functools
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from actors.host import BatchReport
from actors.types import Task
from bench.plan_simulation import WINDOW_S, World
from cluster.analysis.plan import DriverPlan, PoolOfDriver
from cluster.analysis.workload import Workload
from cluster.batch.sharding import Sharding
from cluster.config.schema import BatchLimits, Config, PoolConfig, StageConfig
from cluster.pools.fairness import job_weight
from cluster.pools.pool import Pool
from cluster.pools.replicas import Replica
from cluster.streams import flatten, ordered_map, tee
from tests.virtual_time import run_in_virtual_time

Submit = Callable[[int], Awaitable[Any]]


class _Simulated(Replica):
    """Runs batches one after another."""

    def __init__(self, time_s: Callable[[float], float], ready_s: float, chance: random.Random, spread: float) -> None:
        self._time_s, self._ready_s, self._chance, self._spread = time_s, ready_s, chance, spread
        self._free_at_s = 0.0

    async def load(self) -> None:
        await asyncio.sleep(self._ready_s)

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        loop = asyncio.get_running_loop()
        call_s = self._time_s(len(batch)) * self._chance.lognormvariate(-(self._spread**2) / 2, self._spread)
        self._free_at_s = max(loop.time(), self._free_at_s) + call_s
        await asyncio.sleep(self._free_at_s - loop.time())
        return BatchReport(results=list(batch), run_s=call_s)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


class _Driver:
    """The pools of one driver, and the videos on them."""

    def __init__(self, workload: Workload, config: Config, cluster: DriverPlan, languages: int, world: World) -> None:
        self._workload, self._config, self._cluster, self._languages = workload, config, cluster, languages
        self._world = world
        self._pools: dict[str, list[Pool]] = {}
        self._decoder = asyncio.Lock()

    async def open(self, stack: AsyncExitStack, chance: random.Random) -> None:
        for kind in self._cluster.pools:
            pools = [self._pool(kind, chance) for _ in range(kind.num_pools)]
            self._pools[kind.work.name] = [await stack.enter_async_context(pool) for pool in pools]

    def _pool(self, kind: PoolOfDriver, chance: random.Random) -> Pool:
        max_items = max(round(kind.work.batch_items), kind.settings.batch.max_items)
        batch = BatchLimits(max_items=max_items, lead_s=0.0)
        config = PoolConfig(replicas=kind.replicas, batch=batch, max_pending_items=4096, call_timeout_s=1e6)
        stage = StageConfig(engine="tests.standins.sleeping", options={"service_s": 0.0}, pool=config)

        def start(task: Task, stage: StageConfig) -> Replica:
            return _Simulated(kind.work.time_s, chance.uniform(*self._world.start_s), chance, self._world.spread)

        return Pool("translation", stage, start)

    async def dub(self, name: str, media_s: float) -> None:
        hours, bounds = media_s / 3600, self._config.pipeline
        num_lines = max(1, round(hours * self._workload.lines_per_hour))
        num_windows = max(1, round(media_s / WINDOW_S))
        asking = functools.partial(_asking, name, job_weight(media_s))

        async def windows() -> AsyncIterator[int]:
            for window in range(num_windows):
                async with self._decoder:  # the driver's own work
                    await asyncio.sleep(WINDOW_S / self._world.driver_realtime)
                yield window

        async def lines_of(window: int) -> range:
            for kind in self._cluster.pools:
                if kind.work.shared_per_hour:
                    per_window = kind.work.shared_per_hour * hours / num_windows
                    await asking(per_window, self._pools[kind.work.name][0])(window)
            return range(num_lines * window // num_windows, num_lines * (window + 1) // num_windows)

        def steps_of(language: int) -> tuple[list[Submit], list[Submit]]:
            """Steps up to speech, each with its own bound, and those beside the dub."""
            path, beside = [], []
            for kind in self._cluster.pools:
                if kind.work.language_per_hour:
                    own = self._pools[kind.work.name]
                    per_line = kind.work.language_per_hour / self._workload.lines_per_hour
                    step = asking(per_line, own[language % len(own)])
                    (beside if kind.work.task == "transcription" else path).append(step)
            return path, beside

        async def branch(language: int, lines: AsyncIterator[int]) -> None:
            path, beside = steps_of(language)
            for step in path:
                lines = ordered_map(lines, step, bounds.max_utterances)
            async with asyncio.TaskGroup() as group:
                async for line in lines:
                    for step in beside:
                        group.create_task(step(line))  # type: ignore[arg-type]

        heard = flatten(ordered_map(windows(), lines_of, bounds.max_windows))
        async with tee(heard, self._languages, bounds.max_utterances) as readers, asyncio.TaskGroup() as group:
            for language, reader in enumerate(readers):
                group.create_task(branch(language, reader))


def _asking(job: str, weight: float, per_unit: float, pool: Pool) -> Submit:
    """A step that makes so many requests for each unit, on average."""

    async def ask(unit: int) -> int:
        number = math.ceil((unit + 1) * per_unit - 1e-6) - math.ceil(unit * per_unit - 1e-6)
        await asyncio.gather(*(pool.submit(unit, order=unit, job=job, weight=weight) for _ in range(number)))
        return unit

    return ask


def wall_s(
    workload: Workload, config: Config, cluster: DriverPlan, videos_s: Sequence[float], languages: int, world: World
) -> float:
    """The wall time of the batch."""

    async def batch() -> float:
        loop, chance = asyncio.get_running_loop(), random.Random(world.seed)
        sharding = Sharding(videos_s, cluster.num_drivers, cluster.max_videos, 3)
        drivers = [_Driver(workload, config, cluster, languages, world) for _ in range(cluster.num_drivers)]
        async with AsyncExitStack() as stack:
            for driver in drivers:
                await driver.open(stack, chance)
            async with asyncio.TaskGroup() as group:

                def give(number: int) -> None:
                    while (index := sharding.take(number)) is not None:
                        group.create_task(one(number, index))

                async def one(number: int, index: int) -> None:
                    await drivers[number].dub(str(index), videos_s[index])
                    sharding.finish(number, index)
                    give(number)

                for number in range(cluster.num_drivers):
                    give(number)
            return loop.time()

    return run_in_virtual_time(batch())
