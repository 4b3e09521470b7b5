"""Turns to replace lost replicas."""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import Sequence

import pytest

from cluster.config.schema import RayConfig
from cluster.pools.ray_session import max_starting
from cluster.pools.replicas import ReplicaDiedError
from cluster.pools.start_limit import MAX_TURN_S, StartLimiter
from tests.standins.echo import Item
from tests.standins.replicas import World
from tests.virtual_time import in_virtual_time


async def hold(start_limiter: StartLimiter, begun: list[str], name: str, share: float, hold_s: float = 1.0) -> None:
    async with start_limiter.slot(lambda: share):
        begun.append(name)
        await asyncio.sleep(hold_s)


@in_virtual_time
async def test_so_many_at_a_time_and_the_smallest_share_first() -> None:
    start_limiter, begun = StartLimiter(2), list[str]()
    shares = {"a": 0.9, "b": 0.9, "c": 0.5, "d": 0.1, "e": 0.5}
    tasks = [asyncio.create_task(hold(start_limiter, begun, name, share)) for name, share in shares.items()]
    await asyncio.sleep(0.5)
    assert begun == ["a", "b"]
    await asyncio.sleep(1.0)
    assert begun == ["a", "b", "d", "c"]
    await asyncio.gather(*tasks)
    assert begun == ["a", "b", "d", "c", "e"]


@in_virtual_time
async def test_a_start_that_waits_for_a_node_does_not_hold_the_others_up() -> None:
    start_limiter, begun = StartLimiter(1), list[str]()
    tasks = [asyncio.create_task(hold(start_limiter, begun, name, 0.0, 1e3)) for name in "abc"]
    await asyncio.sleep(MAX_TURN_S - 1)
    assert begun == ["a"]
    await asyncio.sleep(2)
    assert begun == ["a", "b"]
    await asyncio.gather(*tasks)
    assert begun == ["a", "b", "c"]
    await hold(start_limiter, begun, "d", 0.0)  # turns that were over early are not given twice


@pytest.mark.parametrize("begins", [True, False])
@in_virtual_time
async def test_who_is_cancelled_leaves_the_turn_to_the_next(begins: bool) -> None:
    start_limiter, begun = StartLimiter(1), list[str]()
    first = asyncio.create_task(hold(start_limiter, begun, "a", 0.0))
    second = asyncio.create_task(hold(start_limiter, begun, "b", 0.0))
    third = asyncio.create_task(hold(start_limiter, begun, "c", 0.5))
    await asyncio.sleep(1.0 if begins else 0.5)  # as it is its turn, or waiting
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert begun[0] == "a"
    assert begun[-1] == "c"
    await hold(start_limiter, begun, "d", 0.0)


@in_virtual_time
async def test_pools_start_all_at_once_at_first_and_replace_what_they_lost_in_turns() -> None:
    """Two of four lost is less than two of two: once the first is under way, the small pool goes first."""
    names: list[str] = []
    num_starting = most = 0

    async def load(name: str) -> None:
        nonlocal num_starting, most
        names.append(name)
        num_starting += 1
        most = max(most, num_starting)
        await asyncio.sleep(1.0)
        num_starting -= 1

    def die_twice(deaths: list[Item], batch: Sequence[Item]) -> None:
        if len(deaths) < 2:
            deaths += batch
            raise ReplicaDiedError("killed from outside")

    start_limiter, worlds = StartLimiter(1), {"large": World(), "small": World()}
    for name, world in worlds.items():
        world.on_load = functools.partial(load, name)
        world.on_batch = functools.partial(die_twice, [])
    large, small = (
        worlds[name].pool(number, start_limiter=start_limiter) for name, number in (("large", 4), ("small", 2))
    )
    async with large, small:
        await asyncio.sleep(1.5)
        assert most == 6
        names.clear()
        most = 0
        results = [pool.submit(Item(value=value)) for value, pool in enumerate([large, large, small, small])]
        assert await asyncio.gather(*results) == [0, 1, 2, 3]
        await asyncio.sleep(10.0)
        assert most == 1
        assert names == ["large", "small", "small", "large"]
        assert (large.stats().num_serving, small.stats().num_serving) == (4, 2)


def test_where_ray_runs_on_one_machine_as_many_start_as_it_has_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def most(**settings: object) -> float:
        return max_starting(RayConfig.model_validate(settings))

    assert most(mode="local") == most(mode="auto") == os.cpu_count()
    assert most(mode="local", max_starting=7) == 7
    assert most(mode="cluster") == most(mode="inline") == most(address="head:6379") == math.inf
