"""A request that would wait too long for its turn is told so, and when to come again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.errors import CapacityError
from cluster.pools.stats import PoolStats
from serve.inference.admission import AdmissionQueue


class Slow:
    """Answers when it is told to."""

    name = "translation/slow"

    def __init__(self, s_per_cost: float | None, num_serving: int = 2) -> None:
        self.done = asyncio.Event()
        self._s_per_cost = s_per_cost
        self._num_serving = num_serving

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any:
        await self.done.wait()
        if request == "bad":
            raise ValueError(request)
        return request

    def stats(self) -> PoolStats:
        counts = {"num_items": 0, "num_failed": 0, "num_batches": 0, "num_lost_replicas": 0, "queue_items": 0}
        return PoolStats(
            name=self.name, engine_s=0.0, s_per_cost=self._s_per_cost, num_serving=self._num_serving, **counts
        )


def queue_before(pool: Slow) -> AdmissionQueue:
    return AdmissionQueue(pool, lambda request: len(request.split()), 2.0)


async def asked(queue: AdmissionQueue, *requests: str) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(queue.submit(request)) for request in requests]
    await asyncio.sleep(0)
    return tasks


async def test_those_inside_make_the_next_one_wait_and_then_not() -> None:
    pool = Slow(s_per_cost=0.5)
    queue = queue_before(pool)
    first = await asked(queue, "three words each", "three words each")
    queue.check()  # 6 words × 0.5 s ÷ 2 replicas = 1.5 s
    others = await asked(queue, "three words each", "bad", "cancelled")
    with pytest.raises(CapacityError, match=r"served within 2 s; translation/slow needs 2\.8 s") as refused:
        queue.check()
    assert refused.value.retry_after_s == pytest.approx(0.75)
    others[-1].cancel()
    pool.done.set()
    await asyncio.gather(*first, *others, return_exceptions=True)
    assert queue.wait_s == 0.0
    queue.check()


async def test_a_large_request_is_taken_if_nobody_waits() -> None:
    queue = queue_before(Slow(s_per_cost=100.0))
    queue.check()


@pytest.mark.parametrize("pool", [Slow(s_per_cost=None), Slow(s_per_cost=None, num_serving=0)])
async def test_nobody_is_refused_while_the_pace_is_unknown(pool: Slow) -> None:
    queue = queue_before(pool)
    tasks = await asked(queue, *["word"] * 1000)
    queue.check()
    pool.done.set()
    await asyncio.gather(*tasks)


async def test_a_pool_whose_replicas_are_all_being_replaced_counts_as_one() -> None:
    pool = Slow(s_per_cost=1.0, num_serving=0)
    queue = queue_before(pool)
    tasks = await asked(queue, "one two three")
    assert queue.wait_s == pytest.approx(3.0)
    pool.done.set()
    await asyncio.gather(*tasks)
