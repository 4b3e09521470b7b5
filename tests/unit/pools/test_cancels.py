"""Callers that go at random moments, in virtual time: the others get their results, and nothing of the gone is left."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import ReplicaLostError
from cluster.pools.pool import Pool
from tests.standins.echo import Item
from tests.standins.replicas import World
from tests.virtual_time import run_in_virtual_time

NUM_ITEMS = 60
PATIENCE_S = 600.0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 3),
    max_items=st.integers(1, 6),
    in_flight=st.integers(1, 3),
    max_pending=st.integers(1, 20),
)
def test_cancels_at_random_moments_cost_nobody_else(
    seed: int, replicas: int, max_items: int, in_flight: int, max_pending: int
) -> None:
    chance = random.Random(seed)

    async def one(pool: Pool, number: int) -> object:
        """The item's result; None for a caller that has gone."""
        await asyncio.sleep(chance.uniform(0, 20))
        item = Item(value=number, sleep_s=chance.uniform(0, 3), die=number % 20 == 7)
        asked = asyncio.create_task(pool.submit(item, job=f"job {number % 4}"))
        if number % 3 == 0:
            asyncio.get_running_loop().call_later(chance.uniform(0, 10), asked.cancel)
        try:
            return await asked
        except asyncio.CancelledError:
            return None
        except ReplicaLostError:
            return ReplicaLostError

    async def run() -> None:
        world = World()
        async with (
            asyncio.timeout(PATIENCE_S),
            world.pool(replicas, max_items, in_flight, max_pending_items=max_pending) as pool,
        ):
            results = await asyncio.gather(*(one(pool, number) for number in range(NUM_ITEMS)))
            for number, result in enumerate(results):
                expected = ReplicaLostError if number % 20 == 7 else number
                assert result == expected or (number % 3 == 0 and result is None), number
            await asyncio.sleep(PATIENCE_S / 2)  # what the gone left runs out
            assert pool.stats().queue_items == pool.stats().running_items == 0
            assert await pool.submit(Item(value=NUM_ITEMS)) == NUM_ITEMS
        assert len(asyncio.all_tasks()) == 1

    run_in_virtual_time(run())
