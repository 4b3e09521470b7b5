"""Pools of fakes under the autoscaler, in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from actors.errors import ConfigError
from cluster.config.schema import AutoscalingConfig, BatchLimits, PoolConfig
from cluster.pools.autoscaler import Autoscaler
from cluster.pools.pool import Pool
from tests.standins.echo import Item
from tests.standins.replicas import World, stage_with
from tests.virtual_time import in_virtual_time


def pool_of(world: World, **settings: object) -> Pool:
    batch = BatchLimits(max_items=1)
    config = PoolConfig.model_validate(
        {"batch": batch, "target_drain_s": 1.0, "up_delay_s": 0.5, "down_delay_s": 5.0, **settings}
    )
    return Pool("translation", stage_with(config), world.start, num_replicas=0)


@asynccontextmanager
async def scaled(*pools: Pool, max_gpus: float | None = None, cluster_gpus: float = math.inf) -> AsyncIterator[None]:
    async def capacity() -> float:
        return cluster_gpus

    async with Autoscaler(AutoscalingConfig(max_gpus=max_gpus), capacity) as scaler, AsyncExitStack() as stack:
        for index, pool in enumerate(pools):
            await stack.enter_async_context(pool)
            scaler.add(str(index), pool)
        yield


async def work(pool: Pool, number: int, sleep_s: float = 0.2) -> None:
    await asyncio.gather(*(pool.submit(Item(value=value, sleep_s=sleep_s)) for value in range(number)))


@in_virtual_time
async def test_a_fixed_pool_is_started_and_left_alone() -> None:
    world = World()
    pool = pool_of(world, replicas=2)
    async with scaled(pool):
        await work(pool, 200)
        await asyncio.sleep(60)
        assert pool.stats().target == pool.stats().num_serving == 2
    assert len(world.replicas) == 2


@in_virtual_time
async def test_a_burst_grows_a_pool_which_then_shrinks_again() -> None:
    world = World()
    world.run_s = 0.2
    pool = pool_of(world, max_replicas=4)
    async with scaled(pool):
        await work(pool, 1)
        burst = asyncio.create_task(work(pool, 200))
        await asyncio.sleep(3)
        assert pool.stats().num_serving == 4
        await burst
        await asyncio.sleep(20)
        assert pool.stats().num_serving == 1
    assert {replica.state for replica in world.replicas} == {"closed"}


@in_virtual_time
async def test_an_idle_pool_holds_nothing_and_comes_back_with_the_first_request() -> None:
    world = World()
    pool = pool_of(world, min_replicas=0)
    async with scaled(pool):
        assert world.replicas == []
        await work(pool, 3)
        await asyncio.sleep(20)
        assert pool.stats().num_serving == 0
        assert [replica.state for replica in world.replicas] == ["closed"]
        start_s = asyncio.get_running_loop().time()
        await work(pool, 1, sleep_s=0.0)
        assert asyncio.get_running_loop().time() - start_s < 0.25  # it did not wait for the next look


@in_virtual_time
async def test_a_gpu_goes_from_an_idle_pool_to_one_that_needs_it_and_never_too_many_run() -> None:
    first, second = World(), World()
    first.run_s = second.run_s = 0.2
    pools = [pool_of(world, min_replicas=0, max_replicas=3, num_gpus=1, down_delay_s=600) for world in (first, second)]

    def running() -> int:
        states = [replica.state for world in (first, second) for replica in world.replicas]
        return sum(state in ("new", "loaded") for state in states)

    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, running())
            await asyncio.sleep(0.01)

    async with scaled(*pools, max_gpus=3):
        watching = asyncio.create_task(watch())
        await work(pools[0], 100)
        assert [pool.stats().target for pool in pools] == [3, 0]
        await work(pools[1], 100)
        assert [pool.stats().target for pool in pools] == [0, 3]
        watching.cancel()
    assert most == 3


@in_virtual_time
async def test_what_the_budget_can_never_serve_is_refused_when_it_is_added() -> None:
    world = World()
    with pytest.raises(ConfigError, match="that is 2 GPUs and 1 CPUs, found 1 and inf"):
        async with scaled(pool_of(world, num_gpus=2), max_gpus=1):
            pass
    with pytest.raises(ConfigError, match="that is 2 GPUs"):
        async with scaled(*(pool_of(world, num_gpus=1) for _ in range(2)), max_gpus=1):
            pass


@in_virtual_time
async def test_a_pool_at_rest_must_have_room_beside_what_the_others_always_keep() -> None:
    world = World()
    at_rest = [pool_of(world, min_replicas=0, num_gpus=num_gpus) for num_gpus in (0.5, 0.25)]
    async with scaled(*at_rest, pool_of(world, num_gpus=0.5), max_gpus=1):
        pass  # those at rest take turns
    with pytest.raises(ConfigError, match=r"that is 1\.25 GPUs and 2 CPUs, found 1 and inf"):
        async with scaled(*at_rest[1:], pool_of(world, num_gpus=1), max_gpus=1):
            pass


@in_virtual_time
async def test_pools_grow_to_the_gpus_of_a_cluster_that_cannot_grow() -> None:
    world = World()
    pool = pool_of(world, max_replicas=8, num_gpus=0.5)
    async with scaled(pool, cluster_gpus=1.0):
        await work(pool, 200)
        assert pool.stats().target == 2
    async with scaled(wide := pool_of(world, max_replicas=8, num_gpus=0.5), cluster_gpus=1.0, max_gpus=3):
        await work(wide, 200)
        assert wide.stats().target == 6


@in_virtual_time
async def test_voices_take_turns_on_a_cluster_that_cannot_hold_them_all() -> None:
    world = World()
    always = pool_of(world, num_gpus=0.75)
    voices = [pool_of(world, min_replicas=0, num_gpus=0.25, down_delay_s=600) for _ in range(3)]
    async with scaled(always, *voices, cluster_gpus=1.0):
        for voice in voices:
            await work(voice, 10)
            assert [pool.stats().target for pool in voices] == [pool is voice for pool in voices]


@in_virtual_time
async def test_what_a_cluster_lacks_for_now_is_asked_for_and_waited_for() -> None:
    world = World()
    pool = pool_of(world, num_gpus=2)
    async with scaled(pool, cluster_gpus=0.0):
        await work(pool, 10)
        assert pool.stats().target == 1
