from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.device import GpuUse
from actors.device.memory import FIRST_PATIENCE_BATCHES
from actors.errors import ConfigError, EngineError, EngineLoadError, ItemError, ReplicaLostError
from actors.types import ItemFailure
from cluster.config.schema import BatchLimits, PoolConfig, PriceConfig
from cluster.pools import metrics
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica, ReplicaDiedError, ReplicaOutOfMemoryError, ResultLostError
from tests.standins.echo import Item
from tests.standins.replicas import World, stage_with
from tests.virtual_time import in_virtual_time


@pytest.fixture(autouse=True)
async def _leaves_no_task() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


def items(*values: int) -> list[Item]:
    return [Item(value=value) for value in values]


async def submit_all(pool: Pool, requests: Sequence[Item]) -> list[Any]:
    return await asyncio.gather(*(pool.submit(request) for request in requests), return_exceptions=True)


def failing_with_3(error: Exception) -> Callable[[Sequence[Item]], None]:
    """Any batch that has item 3."""

    def fail(batch: Sequence[Item]) -> None:
        if any(item.value == 3 for item in batch):
            raise error

    return fail


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_each_result_goes_to_its_submitter() -> None:
    world = World()
    async with world.pool(replicas=3) as pool:
        assert await submit_all(pool, items(*range(100))) == list(range(100))
        stats = pool.stats()
    assert (stats.num_items, stats.num_failed, stats.num_lost_replicas, stats.queue_items) == (100, 0, 0, 0)
    assert stats.engine_s == 0.5 * stats.num_batches
    assert [replica.state for replica in world.replicas] == ["closed"] * 3


async def test_a_failed_item_fails_alone() -> None:
    world = World()
    world.on_item = lambda item: ItemFailure(error=ItemError("bad")) if item.fail else item.value
    async with world.pool() as pool:
        outcomes = await submit_all(pool, [*items(0, 1), Item(value=2, fail=True), *items(3)])
    assert isinstance(outcomes.pop(2), ItemError)
    assert outcomes == [0, 1, 3]


@pytest.mark.parametrize("error", [EngineError("out of luck"), ValueError("surprise")])
async def test_a_failed_batch_fails_its_items_and_keeps_the_cause(error: Exception) -> None:
    world = World()

    def fail(item: Item) -> None:
        raise error

    world.on_item = fail
    async with world.pool() as pool:
        outcomes = await submit_all(pool, items(0, 1))
        world.on_item = lambda item: item.value
        assert await pool.submit(Item(value=7)) == 7
    assert [type(outcome) for outcome in outcomes] == [ItemError] * 2
    assert all(outcome.__cause__ is error for outcome in outcomes)


async def test_the_earliest_needed_runs_first_and_equals_in_order_of_submission() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1) as pool:
        world.gate.clear()
        first = asyncio.create_task(pool.submit(Item(value=-1)))
        await settle()
        orders = [5.0, 1.0, 3.0, 1.0, 0.5, 3.0]
        rest = [asyncio.create_task(pool.submit(Item(value=i), order=order)) for i, order in enumerate(orders)]
        await settle()
        world.gate.set()
        await asyncio.gather(first, *rest)
    assert world.order_run == [-1, 4, 1, 3, 2, 5, 0]


async def test_a_backlog_fills_batches_with_two_in_flight_on_each_replica() -> None:
    world = World()
    async with world.pool(replicas=2, max_items=4) as pool:
        await settle()
        world.gate.clear()
        submissions = [asyncio.create_task(pool.submit(item)) for item in items(*range(40))]
        await settle()
        assert [[len(batch) for batch in replica.received] for replica in world.replicas] == [[4, 4], [4, 4]]
        world.gate.set()
        await asyncio.gather(*submissions)
    sizes = [len(batch) for replica in world.replicas for batch in replica.received]
    assert sizes == [4] * 10


async def test_cost_limits_a_batch() -> None:
    world = World()
    batch = BatchLimits(max_items=8, max_cost=10)
    async with Pool("translation", stage_with(PoolConfig(batch=batch)), world.start) as pool:
        await submit_all(pool, [Item(value=i, cost=4.0) for i in range(6)] + [Item(value=6, cost=50.0)])
    assert [len(batch) for batch in world.replicas[0].received] == [2, 2, 2, 1]


async def test_more_than_may_be_pending_wait_at_the_door() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1, max_pending_items=5) as pool:
        world.gate.clear()
        submissions = [asyncio.create_task(pool.submit(item)) for item in items(*range(20))]
        await settle()
        assert pool.stats().queue_items == 4
        world.gate.set()
        assert await asyncio.gather(*submissions) == list(range(20))


async def test_replicas_are_kept_busy_even_if_less_may_be_pending_than_they_hold() -> None:
    world = World()
    async with world.pool(replicas=2, max_items=4, max_pending_items=1) as pool:
        await settle()
        world.gate.clear()
        submissions = [asyncio.create_task(pool.submit(item)) for item in items(*range(16))]
        await settle()
        assert [[len(batch) for batch in replica.received] for replica in world.replicas] == [[4, 4], [4, 4]]
        world.gate.set()
        await asyncio.gather(*submissions)


# --- deaths


@settings(max_examples=60)
@given(
    poison=st.sets(st.integers(0, 23), max_size=3),
    replicas=st.integers(1, 3),
    max_items=st.integers(1, 8),
    in_flight=st.integers(1, 3),
    max_losses=st.integers(2, 4),
    lag=st.sampled_from([0, 8]),
)
def test_only_poison_is_lost(
    poison: set[int], replicas: int, max_items: int, in_flight: int, max_losses: int, lag: int
) -> None:
    async def run() -> None:
        world = World()
        world.lag = lag
        async with world.pool(replicas, max_items, in_flight, max_losses=max_losses) as pool:
            outcomes = await submit_all(pool, [Item(value=i, die=i in poison) for i in range(24)])
            lost = {i for i, outcome in enumerate(outcomes) if isinstance(outcome, ReplicaLostError)}
            assert lost == poison
            assert all(outcomes[i] == i for i in range(24) if i not in poison)
            assert pool.stats().num_items == 24
            assert pool.stats().num_failed == len(poison)
            assert pool.stats().num_lost_replicas <= len(poison) * max_losses
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


@pytest.mark.parametrize("max_items", [1, 4])
@in_virtual_time
async def test_what_hangs_is_lost_alone_and_its_replica_replaced(max_items: int) -> None:
    world = World()
    async with world.pool(max_items=max_items) as pool:
        outcomes = await submit_all(pool, [*items(0, 1), Item(value=2, hang=True), *items(3, 4, 5)])
    assert isinstance(outcomes.pop(2), ReplicaLostError)
    assert outcomes == [0, 1, 3, 4, 5]
    assert [replica.state for replica in world.replicas] == ["killed"] * 3 + ["closed"]


@in_virtual_time
async def test_a_batch_may_wait_for_those_before_it() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=3, call_timeout_s=10.0) as pool:
        assert await submit_all(pool, [Item(value=i, sleep_s=9.0) for i in range(6)]) == list(range(6))
    assert len(world.replicas) == 1


@in_virtual_time
async def test_a_busy_replicas_next_batch_is_fixed_just_before_it_ends() -> None:
    world = World()
    world.run_s = 9.0
    limits = BatchLimits(max_items=3, lead_s=0.5)
    async with Pool("translation", stage_with(PoolConfig(batch=limits)), world.start) as pool:
        for _ in range(20):  # until it has learnt how long a call takes
            await pool.submit(Item(value=0, sleep_s=9.0))
        del world.replicas[0].received[:]
        work = [asyncio.create_task(pool.submit(Item(value=0, sleep_s=9.0)))]
        await asyncio.sleep(1)
        work += [asyncio.create_task(pool.submit(item, order=item.value)) for item in items(1, 2, 3, 4)]
        await asyncio.sleep(7)
        assert world.replicas[0].received == [[0]]
        work.append(asyncio.create_task(pool.submit(Item(value=7), order=0)))
        await asyncio.sleep(0.7)
        assert world.replicas[0].received == [[0], [7, 1, 2]]
        await asyncio.gather(*work)
    assert world.replicas[0].received == [[0], [7, 1, 2], [3, 4]]


@in_virtual_time
async def test_a_batch_that_is_long_on_its_way_is_handed_over_earlier() -> None:
    """Delivery: the time that an idle replica had to wait for its batch, besides the call itself."""
    world = World()
    world.run_s = 6.0  # of the 9 s that each batch takes
    async with world.pool(max_items=2) as pool:
        for _ in range(20):
            await pool.submit(Item(value=0, sleep_s=9.0))
        del world.replicas[0].received[:]
        work = [asyncio.create_task(pool.submit(Item(value=0, sleep_s=9.0)))]
        await asyncio.sleep(0.1)
        work += [asyncio.create_task(pool.submit(item)) for item in items(1, 2)]
        await asyncio.sleep(2.5)
        assert world.replicas[0].received == [[0]]
        await asyncio.sleep(0.6)
        assert world.replicas[0].received == [[0], [1, 2]]
        await asyncio.gather(*work)


@pytest.mark.parametrize("num_clients", [4, 6, 11])
@in_virtual_time
async def test_clients_that_ask_again_after_each_answer_fill_batches(num_clients: int) -> None:
    """Too few for two batches in flight, they would run in a full one and a small one by turns."""
    world = World()
    world.run_s = 1.0

    async def ask(pool: Pool) -> None:
        for _ in range(50):
            await pool.submit(Item(value=0, sleep_s=1.0))

    async with world.pool(max_items=4) as pool:
        await asyncio.gather(*(ask(pool) for _ in range(num_clients)))
    sizes = [len(batch) for batch in world.replicas[0].received]
    assert sum(size == 4 for size in sizes) >= len(sizes) - 3


async def test_what_runs_alone_gets_no_company() -> None:
    world = World()

    async def load() -> None:
        if len(world.replicas) == 3:  # the first two died with the suspect
            world.gate.clear()

    world.on_load = load
    async with world.pool() as pool:
        suspect = asyncio.create_task(pool.submit(Item(value=0, die=True)))
        await settle()
        innocent = asyncio.create_task(pool.submit(Item(value=1)))
        await settle()
        assert world.replicas[2].received == [[0]]
        world.gate.set()
        with pytest.raises(ReplicaLostError):
            await suspect
        assert await innocent == 1
    assert world.order_run == [0, 0, 0, 1]


async def test_a_death_between_batches_loses_nothing() -> None:
    world = World()
    async with world.pool() as pool:
        assert await pool.submit(Item(value=1)) == 1
        world.replicas[0].kill()
        assert await submit_all(pool, items(*range(20))) == list(range(20))
        assert pool.stats().num_lost_replicas == 1


async def test_nobody_is_blamed_for_replicas_that_died_idle() -> None:
    world = World()
    async with world.pool(replicas=5, max_losses=2) as pool:
        await settle()
        for replica in world.replicas:
            replica.kill()
        assert await pool.submit(Item(value=1)) == 1
        assert pool.stats().num_quarantined == 0
    assert world.order_run == [1]


async def test_a_replica_that_died_hurts_its_successor_by_nothing() -> None:
    """The loss of one replica's second batch comes to light when another has taken its place."""
    world = World()
    async with world.pool(max_items=1) as pool:
        await submit_all(pool, [Item(value=0, die=True), *items(1, 2, 3)])
        num_replicas = len(world.replicas)
        assert await submit_all(pool, items(*range(20))) == list(range(20))
        assert len(world.replicas) == num_replicas


async def test_a_replica_that_dies_loading_is_replaced() -> None:
    world = World()
    num_loads = 0

    async def load() -> None:
        nonlocal num_loads
        num_loads += 1
        if num_loads <= 2:
            raise ReplicaDiedError("died loading")

    world.on_load = load
    async with world.pool() as pool:
        assert await submit_all(pool, items(1, 2)) == [1, 2]
    assert [replica.state for replica in world.replicas] == ["killed", "killed", "closed"]


@in_virtual_time
async def test_a_replica_that_hangs_loading_is_given_up() -> None:
    world = World()
    world.on_load = asyncio.Event().wait
    async with world.pool(max_load_failures=2, restart_delay_s=1.0) as pool:
        outcomes = await submit_all(pool, items(1, 2))
    assert [type(outcome) for outcome in outcomes] == [EngineLoadError] * 2
    assert "within 600 s" in outcomes[0].message
    assert len(world.replicas) == 2


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_load_failure_reaches_all_submitters_even_those_at_the_door(replicas: int) -> None:
    world = World()

    async def load() -> None:
        await asyncio.sleep(0)
        raise EngineLoadError("weights missing")

    world.on_load = load
    # Each replica tries once and no more while this test looks: the next try is seconds away.
    async with world.pool(replicas, max_items=1, in_flight=1, max_pending_items=3, restart_delay_s=30) as pool:
        outcomes = await submit_all(pool, items(*range(10)))
        with pytest.raises(EngineLoadError, match="weights missing"):
            await pool.submit(Item(value=1))
    assert [type(outcome) for outcome in outcomes] == [EngineLoadError] * 10
    assert len({id(outcome) for outcome in outcomes}) == 10
    assert all("weights missing" in outcome.message for outcome in outcomes)
    assert len(world.replicas) == replicas


async def test_one_replica_that_cannot_load_leaves_the_work_to_the_others() -> None:
    world = World()
    num_loads = 0

    async def load() -> None:
        nonlocal num_loads
        num_loads += 1
        if num_loads == 1:
            raise EngineLoadError("no memory on this device")

    world.on_load = load
    async with world.pool(replicas=2, restart_delay_s=30) as pool:
        assert await submit_all(pool, items(*range(9))) == list(range(9))


async def test_an_engine_that_has_loaded_before_is_given_more_tries() -> None:
    world = World()
    num_loads = 0

    async def load() -> None:
        nonlocal num_loads
        num_loads += 1
        if num_loads == 2:
            raise EngineLoadError("the memory of the dead one is not free yet")

    world.on_load = load
    async with world.pool(max_items=1) as pool:
        assert await pool.submit(Item(value=1)) == 1
        world.replicas[0].kill()
        assert await pool.submit(Item(value=2)) == 2


@in_virtual_time
async def test_a_pool_recovers_when_its_engine_loads_at_last() -> None:
    world = World()
    missing = True

    async def load() -> None:
        if missing:
            raise EngineLoadError("weights missing")

    world.on_load = load
    async with world.pool(restart_delay_s=0.5) as pool:
        with pytest.raises(EngineLoadError):
            await pool.submit(Item(value=1))
        await asyncio.sleep(3600)
        assert 60 < len(world.replicas) < 70  # tries: 0.5, 1, 2 … seconds apart, then about every minute
        missing = False
        await asyncio.sleep(75)
        assert await pool.submit(Item(value=2)) == 2


@pytest.mark.parametrize("error", [TypeError("broken fake"), KeyError("x")])
async def test_a_defect_of_the_pools_own_reaches_callers(error: Exception) -> None:
    world = World()

    async def load() -> None:
        await asyncio.sleep(0)
        raise error

    world.on_load = load
    async with world.pool() as pool:
        outcomes = await submit_all(pool, items(1, 2))
        assert [type(outcome) for outcome in outcomes] == [EngineError] * 2
        with pytest.raises(EngineError, match=type(error).__name__):
            await pool.submit(Item(value=3))
    assert world.replicas[0].state == "killed"


async def test_a_defect_leaves_no_replica_to_idle() -> None:
    world = World()

    async def load() -> None:
        if len(world.replicas) == 2:
            raise TypeError("broken fake")

    async with world.pool() as pool:
        assert await pool.submit(Item(value=1)) == 1
        world.on_load = load
        pool.resize(2)
        await settle()
        assert not pool.is_open
        assert [replica.state for replica in world.replicas] == ["closed", "killed"]


@pytest.mark.parametrize("error", [ConfigError("no model folder here"), ResultLostError("its node has gone")])
async def test_a_replica_that_does_not_load_leaves_the_others_serving(error: Exception) -> None:
    world = World()

    async def load() -> None:
        if len(world.replicas) == 2:
            raise error

    async with world.pool() as pool:
        assert await pool.submit(Item(value=1)) == 1
        world.on_load = load
        pool.resize(2)
        await settle()
        assert await pool.submit(Item(value=2)) == 2
        assert pool.stats().num_serving == 2  # it was tried again


@in_virtual_time
async def test_only_what_ran_is_blamed_for_a_hang() -> None:
    """With one loss allowed before the last, those behind it would run alone; they run together."""
    world = World()
    async with world.pool(max_items=4, max_losses=2) as pool:
        await settle()
        outcomes = await submit_all(pool, [Item(value=0, hang=True), *items(*range(1, 8))])
    assert isinstance(outcomes[0], ReplicaLostError)
    assert [4, 5, 6, 7] in [batch for replica in world.replicas[1:] for batch in replica.received]


async def test_poison_that_takes_the_answer_before_it_along_is_found_out() -> None:
    """It always runs second, and the first answer is lost with the replica each time."""
    world = World()
    world.lag = 8
    async with world.pool(max_items=1, max_losses=3) as pool:
        await settle()
        outcomes = await submit_all(pool, [*items(0), Item(value=1, die=True), *items(*range(2, 20))])
        assert pool.stats().num_lost_replicas == 3
    assert isinstance(outcomes.pop(1), ReplicaLostError)
    assert outcomes == [0, *range(2, 20)]


async def test_a_request_that_was_given_up_is_refused_when_it_comes_again() -> None:
    world = World()
    async with world.pool(max_losses=2) as pool:
        with pytest.raises(ReplicaLostError):
            await pool.submit(Item(value=1, die=True))
        with pytest.raises(ReplicaLostError, match="refused"):
            await pool.submit(Item(value=1, die=True))
        assert await pool.submit(Item(value=1)) == 1
        assert world.order_run == [1, 1, 1]
        assert pool.stats().num_quarantined == 1


async def test_what_replicas_use_of_their_gpus_is_in_the_statistics() -> None:
    world = World()
    async with world.pool() as pool:
        await pool.submit(Item(value=1))
        assert pool.stats().gpus == {}
        world.gpu = GpuUse(process_bytes=5, used_bytes=7, total_bytes=24, utilisation=0.5)
        await pool.submit(Item(value=2))
        assert pool.stats().gpus == {0: world.gpu}


def test_gpus_are_exported_by_replica_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[tuple[str, str, float]] = []

    def gauge(name: str) -> SimpleNamespace:
        return SimpleNamespace(set=lambda value, tags: exported.append((name, tags["replica"], value)))

    monkeypatch.setattr(metrics, "_gpu_memory_bytes", gauge("bytes"))
    monkeypatch.setattr(metrics, "_gpu_utilisation", gauge("utilisation"))
    pool = metrics.PoolMetrics("translation", PoolConfig(), PriceConfig())
    use = GpuUse(process_bytes=5, used_bytes=7, total_bytes=24, utilisation=0.5)
    pool.set_gpus({0: use, 1: dataclasses.replace(use, process_bytes=None)})
    assert exported == [("bytes", "0", 5), ("utilisation", "0", 0.5), ("utilisation", "1", 0.5)]
    exported.clear()
    pool.set_gpus({1: use})
    assert exported == [("bytes", "0", 0), ("utilisation", "0", 0), ("bytes", "1", 5), ("utilisation", "1", 0.5)]


async def test_a_batch_too_large_for_memory_limits_those_after_it() -> None:
    world = World()
    world.on_batch = lambda batch: float(len(batch)) if len(batch) > 3 else None
    async with world.pool(max_items=8) as pool:
        assert await submit_all(pool, items(*range(40))) == list(range(40))
        assert pool.stats().memory_cost_limit == 2.0
        assert pool.stats().num_lost_replicas == 0
        world.replicas[0].received.clear()
        assert await submit_all(pool, items(*range(40))) == list(range(40))
    assert {len(batch) for batch in world.replicas[0].received} == {2}


async def test_a_node_out_of_memory_halves_batches_and_costs_no_item() -> None:
    world = World()

    def refuse(batch: Sequence[Item]) -> None:
        if len(batch) > 2:
            raise ReplicaOutOfMemoryError("node is low on memory")

    world.on_batch = refuse
    async with world.pool(max_items=8, max_losses=2) as pool:
        assert await submit_all(pool, items(*range(40))) == list(range(40))
        assert pool.stats().num_failed == 0
        assert pool.stats().num_lost_replicas == 2
        assert pool.stats().memory_cost_limit == 2.0


async def test_an_item_that_alone_is_too_much_for_its_node_is_given_up() -> None:
    world = World()
    world.on_batch = failing_with_3(ReplicaOutOfMemoryError("node is low on memory"))
    async with world.pool(max_items=16) as pool:
        outcomes = await submit_all(pool, items(*range(16)))
        assert pool.stats().num_lost_replicas == 3
    assert isinstance(outcomes.pop(3), ReplicaLostError)
    assert outcomes == [0, 1, 2, *range(4, 16)]


async def test_batches_grow_again_once_memory_has_sufficed_for_a_while() -> None:
    world = World()
    world.on_batch = lambda batch: float(len(batch)) if len(batch) > 3 else None
    async with world.pool(max_items=8) as pool:
        await submit_all(pool, items(*range(8)))
        world.on_batch = lambda batch: None
        assert pool.stats().memory_cost_limit == 4.0
        await submit_all(pool, items(*range(4 * FIRST_PATIENCE_BATCHES)))
        assert pool.stats().memory_cost_limit is None
        world.replicas[0].received.clear()
        await submit_all(pool, items(*range(80)))
    assert [len(batch) for batch in world.replicas[0].received] == [8] * 10


async def test_a_lost_result_is_computed_again_on_the_same_replica() -> None:
    world = World()
    num_batches = 0

    def lose(batch: Sequence[Item]) -> None:
        nonlocal num_batches
        num_batches += 1
        if num_batches <= 2:
            raise ResultLostError("its node has gone")

    world.on_batch = lose
    async with world.pool() as pool:
        assert await submit_all(pool, items(*range(10))) == list(range(10))
    assert len(world.replicas) == 1


@in_virtual_time
async def test_results_that_are_lost_for_seconds_are_waited_for() -> None:
    world = World()
    full_until_s = asyncio.get_running_loop().time() + 10

    def lose(batch: Sequence[Item]) -> None:
        if asyncio.get_running_loop().time() < full_until_s:
            raise ResultLostError("the disk is full")

    world.on_batch = lose
    async with world.pool(restart_delay_s=0.5) as pool:
        assert await submit_all(pool, items(*range(10))) == list(range(10))


async def test_a_result_that_is_always_lost_costs_its_item_and_no_replica() -> None:
    world = World()
    world.on_batch = failing_with_3(ResultLostError("too large for the object store"))
    async with world.pool(max_items=1) as pool:
        outcomes = await submit_all(pool, items(*range(5)))
        assert pool.stats().num_lost_replicas == 0
    assert isinstance(outcomes[3], ItemError)
    assert "lost on its way 6 times: too large" in outcomes.pop(3).message
    assert outcomes == [0, 1, 2, 4]


async def test_a_replica_lost_while_its_lost_result_is_waited_for_runs_nothing_twice() -> None:
    world = World()
    lost = asyncio.Event()

    def lose(batch: Sequence[Item]) -> None:
        if not lost.is_set():
            lost.set()
            raise ResultLostError("its node is going")

    world.on_batch = lose
    async with world.pool(max_items=1, restart_delay_s=0.05) as pool:
        await settle()
        first = asyncio.create_task(pool.submit(Item(value=0)))
        await lost.wait()
        await settle()
        world.replicas[0].kill()
        assert await pool.submit(Item(value=1)) == 1
        assert await first == 0
        await asyncio.sleep(0.2)
    assert sorted(world.order_run) == [0, 0, 1]  # once for the result that was lost


async def test_what_fails_a_batch_on_its_way_fails_alone() -> None:
    world = World()
    world.on_batch = failing_with_3(EngineError("cannot be pickled"))
    async with world.pool(max_items=8) as pool:
        outcomes = await submit_all(pool, items(*range(8)))
    assert isinstance(outcomes.pop(3), ItemError)
    assert outcomes == [0, 1, 2, 4, 5, 6, 7]


# --- jobs


async def test_jobs_take_turns_and_a_small_one_is_done_in_twice_its_time() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1) as pool:
        big = [asyncio.create_task(pool.submit(item, job="big")) for item in items(*range(100))]
        small = [asyncio.create_task(pool.submit(item, job="small")) for item in items(*range(1000, 1010))]
        await asyncio.gather(*big, *small)
    last_of_small = max(world.order_run.index(value) for value in range(1000, 1010))
    assert last_of_small <= 2 * 10


async def test_a_higher_priority_goes_first_and_the_lower_is_served_too() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1) as pool:
        batch = [asyncio.create_task(pool.submit(item, job="batch")) for item in items(*range(50))]
        await settle()
        live = [asyncio.create_task(pool.submit(item, job="live", priority=1)) for item in items(*range(1000, 1050))]
        await asyncio.gather(*batch, *live)
    assert max(world.order_run.index(value) for value in range(1000, 1050)) < 60
    assert any(value < 1000 for value in world.order_run[30:50])


async def test_one_job_does_not_lock_another_out_at_the_door() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1, max_pending_items=5) as pool:
        world.gate.clear()
        big = [asyncio.create_task(pool.submit(item, job="big")) for item in items(*range(50))]
        await settle()
        small = [asyncio.create_task(pool.submit(item, job="small")) for item in items(1000, 1001)]
        await settle()
        world.gate.set()
        await asyncio.gather(*big, *small)
    assert world.order_run.index(1001) < 10


async def test_a_job_keeps_to_its_own_limit() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1, max_pending_items=50, max_pending_items_per_job=3) as pool:
        world.gate.clear()
        work = [asyncio.create_task(pool.submit(Item(value=1), job=job)) for job in "aabbbbb"]
        await settle()
        assert pool.stats().queue_items + pool.stats().running_items == 5
        world.gate.set()
        await asyncio.gather(*work)


# --- size


async def test_a_pool_grows_and_shrinks_and_drains_what_it_spares() -> None:
    world = World()
    async with world.pool(replicas=1, max_items=1, in_flight=1) as pool:
        pool.resize(3)
        await settle()
        assert pool.stats().num_serving == 3
        world.gate.clear()
        work = [asyncio.create_task(pool.submit(item)) for item in items(*range(6))]
        await settle()
        pool.resize(1)
        await settle()
        assert (pool.stats().num_serving, pool.stats().num_draining) == (1, 2)
        assert [replica.state for replica in world.replicas] == ["loaded"] * 3
        world.gate.set()
        assert await asyncio.gather(*work) == list(range(6))
        await settle()
        assert sorted(replica.state for replica in world.replicas) == ["closed", "closed", "loaded"]
        assert (pool.stats().num_serving, pool.stats().num_draining) == (1, 0)
        assert [len(replica.received) for replica in world.replicas if replica.state == "closed"] == [1, 1]


async def test_a_pool_goes_to_zero_and_comes_back() -> None:
    world = World()
    async with world.pool() as pool:
        assert await pool.submit(Item(value=1)) == 1
        pool.resize(0)
        await settle()
        assert [replica.state for replica in world.replicas] == ["closed"]
        waiting = asyncio.create_task(pool.submit(Item(value=2)))
        await settle()
        assert pool.stats().queue_items == 1
        pool.resize(1)
        assert await waiting == 2


async def test_numbers_of_replicas_that_are_gone_are_used_again() -> None:
    """Or metrics, with a series for each number, would grow with every replica that there ever was."""
    world = World()
    async with world.pool(replicas=2) as pool:
        for _ in range(5):
            pool.resize(0)
            await settle()
            pool.resize(2)
            await settle()
            assert pool.stats().num_serving == 2
        assert set(pool._fleet.serving) == {0, 1}
    assert len(world.replicas) > 2


async def test_what_is_spared_while_it_loads_is_killed() -> None:
    world = World()
    async with world.pool() as pool:
        await settle()
        world.on_load = asyncio.Event().wait
        pool.resize(3)
        await settle()
        assert (pool.stats().num_serving, pool.stats().num_loading) == (1, 2)
        pool.resize(1)
        await settle()
        assert [replica.state for replica in world.replicas] == ["loaded", "killed", "killed"]


async def test_a_replica_that_dies_draining_is_not_replaced_and_its_work_is_done_elsewhere() -> None:
    world = World()
    async with world.pool(replicas=2, max_items=1, in_flight=1) as pool:
        await settle()
        world.gate.clear()
        work = [asyncio.create_task(pool.submit(item)) for item in items(0, 1)]
        await settle()
        pool.resize(1)
        await settle()
        world.replicas[1].kill()  # the one that drains
        await settle()
        world.gate.set()
        assert await asyncio.gather(*work) == [0, 1]
        await settle()
        assert len(world.replicas) == 2
        assert pool.stats().num_lost_replicas == 1


async def test_a_pool_that_could_not_load_tries_again_after_it_was_at_zero() -> None:
    world = World()

    async def load() -> None:
        raise EngineLoadError("weights missing")

    world.on_load = load
    async with world.pool(restart_delay_s=30.0) as pool:
        with pytest.raises(EngineLoadError):
            await pool.submit(Item(value=1))
        pool.resize(0)
        world.on_load = world._load
        waiting = asyncio.create_task(pool.submit(Item(value=2)))
        await settle()
        pool.resize(1)
        assert await waiting == 2


# --- ends


async def test_a_cancelled_submitter_is_forgotten_queued_or_running() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1, max_pending_items=2) as pool:
        await settle()
        world.gate.clear()
        running, queued, at_the_door = (asyncio.create_task(pool.submit(item)) for item in items(1, 2, 3))
        await settle()
        for task in (running, queued):
            task.cancel()
        await settle()
        world.gate.set()
        assert await at_the_door == 3
        with pytest.raises(asyncio.CancelledError):
            await queued
        with pytest.raises(asyncio.CancelledError):
            await running
    assert world.order_run == [1, 3]
    assert pool.stats().num_items == 1


async def test_poison_whose_submitter_has_gone_is_not_tried_again() -> None:
    world = World()
    async with world.pool() as pool:
        await settle()
        world.gate.clear()
        task = asyncio.create_task(pool.submit(Item(value=1, die=True)))
        await settle()
        task.cancel()
        await settle()
        world.gate.set()
        assert await pool.submit(Item(value=2)) == 2
    assert world.order_run.count(1) == 1


async def test_closing_with_work_under_way_fails_it_and_kills() -> None:
    world = World()
    async with world.pool(max_items=2, max_pending_items=6) as pool:
        await settle()
        world.gate.clear()
        submissions = [asyncio.create_task(pool.submit(item)) for item in items(*range(9))]
        await settle()
    outcomes = await asyncio.gather(*submissions, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EngineError] * 9
    assert [replica.state for replica in world.replicas] == ["killed"]


async def test_closing_fails_what_a_spared_replica_still_had() -> None:
    world = World()
    async with world.pool(max_items=1, in_flight=1) as pool:
        await settle()
        world.gate.clear()
        work = asyncio.create_task(pool.submit(Item(value=1)))
        await settle()
        pool.resize(0)
        await settle()
        assert pool.stats().running_items == 1
    with pytest.raises(EngineError, match="closed"):
        await work


async def test_closing_while_loading_kills() -> None:
    world = World()
    world.on_load = asyncio.Event().wait
    async with world.pool(replicas=2) as pool:
        waiting = asyncio.create_task(pool.submit(Item(value=1)))
        await settle()
    with pytest.raises(EngineError, match="closed"):
        await waiting
    assert [replica.state for replica in world.replicas] == ["killed"] * 2


async def test_a_pool_that_is_not_open_says_so() -> None:
    pool = World().pool()
    with pytest.raises(EngineError, match="async with"):
        await pool.submit(Item(value=1))
    async with pool:
        pass
    with pytest.raises(EngineError, match="closed"):
        await pool.submit(Item(value=1))


# --- the inline replica


def inline(**settings: Any) -> Pool:
    return Pool("translation", stage_with(PoolConfig(**settings)), InlineReplica)


async def test_inline_runs_the_engine_in_this_process() -> None:
    async with inline(batch=BatchLimits(max_items=4)) as pool:
        outcomes = await submit_all(pool, [Item(value=i, fail=i == 3) for i in range(30)])
    assert isinstance(outcomes.pop(3), ItemError)
    assert [echo.value for echo in outcomes] == [i for i in range(30) if i != 3]


async def test_inline_reports_what_cannot_load() -> None:
    async with Pool("translation", stage_with(PoolConfig(), load_error=True), InlineReplica) as pool:
        with pytest.raises(EngineLoadError, match="weights"):
            await pool.submit(Item(value=1))


async def test_inline_poison_that_breaks_its_device_costs_only_itself() -> None:
    async with inline(restart_delay_s=0.0) as pool:
        outcomes = await submit_all(pool, [Item(value=i, break_device=i == 2) for i in range(6)])
    assert isinstance(outcomes.pop(2), ReplicaLostError)
    assert [outcome.value for outcome in outcomes] == [0, 1, 3, 4, 5]


async def test_inline_kill_ends_calls_that_wait_for_their_turn(tmp_path: Path) -> None:
    replica = InlineReplica("translation", stage_with(PoolConfig()))
    slow = asyncio.create_task(replica.run([Item(value=1, hang_until=str(tmp_path / "ended"))]))
    waiting = asyncio.create_task(replica.run(items(2)))
    await settle()
    replica.kill()
    with pytest.raises(ReplicaDiedError):
        await waiting
    with pytest.raises(ReplicaDiedError):
        await replica.run(items(3))
    (tmp_path / "ended").touch()
    assert (await slow).results[0].value == 1
