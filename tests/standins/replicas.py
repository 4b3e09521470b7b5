"""Fake replicas, which run as tasks of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from actors.device import GpuUse
from actors.host import BatchReport
from actors.types import Task
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import Replica, ReplicaDiedError
from cluster.pools.start_limit import StartLimiter
from tests.standins.echo import Item


class Fake(Replica):
    """Runs batches one at a time, as an actor does; an item may kill it, or hang."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.received: list[list[int]] = []
        self.state = "new"
        self._turn = asyncio.Lock()
        self._died = asyncio.Event()

    async def place(self) -> None:
        if self._died.is_set():
            raise ReplicaDiedError("fake died")

    async def load(self) -> None:
        await self.world.on_load()
        self.state = "loaded"

    async def run(self, batch: Sequence[Item]) -> BatchReport:
        await self.place()
        self.received.append([item.value for item in batch])
        work, death = asyncio.ensure_future(self._work(batch)), asyncio.ensure_future(self._died.wait())
        try:
            await asyncio.wait((work, death), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ReplicaDiedError("fake died")
            return await work
        finally:
            work.cancel()
            death.cancel()

    async def _work(self, batch: Sequence[Item]) -> BatchReport:
        async with self._turn:
            await asyncio.sleep(0)
            await self.world.gate.wait()
            self.world.order_run += [item.value for item in batch]
            exhausted_cost = self.world.on_batch(batch)
            if any(item.die for item in batch):
                self._died.set()
                raise ReplicaDiedError("fake died")
            if any(item.hang for item in batch):
                await asyncio.Event().wait()
            await asyncio.sleep(max(item.sleep_s for item in batch))
            results = [self.world.on_item(item) for item in batch]
        for _ in range(self.world.lag):
            await asyncio.sleep(0)
        return BatchReport(results=results, run_s=self.world.run_s, exhausted_cost=exhausted_cost, gpu=self.world.gpu)

    async def _unload(self) -> None:
        self.state = "closed"

    def kill(self) -> None:
        if self.state != "closed":
            self.state = "killed"
        self._died.set()


class World:
    """Makes fake replicas, and sets their behaviour."""

    def __init__(self) -> None:
        self.replicas: list[Fake] = []
        self.order_run: list[int] = []
        self.run_s = 0.5
        """Engine time that each batch reports."""
        self.gpu: GpuUse | None = None
        """Reading of the GPU that each batch reports."""
        self.lag = 0
        """Turns of the loop by which an answer is late: it is lost if the next batch kills the replica."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.on_item: Callable[[Item], Any] = lambda item: item.value
        self.on_load: Callable[[], Any] = self._load
        self.on_batch: Callable[[Sequence[Item]], float | None] = lambda batch: None

    async def _load(self) -> None:
        await asyncio.sleep(0)

    def start(self, task: Task, stage: StageConfig) -> Fake:
        self.replicas.append(Fake(self))
        return self.replicas[-1]

    def pool(
        self,
        replicas: int = 1,
        max_items: int = 4,
        in_flight: int = 2,
        start_limiter: StartLimiter | None = None,
        **settings: Any,
    ) -> Pool:
        batch = BatchLimits(max_items=max_items, in_flight=in_flight)
        config = PoolConfig(replicas=replicas, batch=batch, **{"restart_delay_s": 0.0, **settings})
        return Pool("translation", stage_with(config), self.start, start_limiter=start_limiter)


def stage_with(config: PoolConfig, **options: Any) -> StageConfig:
    return StageConfig(engine="tests.standins.echo", options=options, pool=config)
