"""What a pool of real Ray actors does when they die, hang or are killed."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray

from actors.errors import EngineLoadError, ItemError, ReplicaLostError
from actors.types import Task
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica, RayReplica, Replica
from tests.standins.echo import Item

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Replicas import engines of the tests, and one of bench/acceptance.
        paths = [str(ROOT), str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=1,
            include_dashboard=False,
            object_store_memory=100_000_000,
            log_to_driver=False,
        )
    yield
    ray.shutdown()


class Started:
    """Starts replicas, and remembers them."""

    def __init__(self) -> None:
        self.replicas: list[RayReplica] = []

    def __call__(self, task: Task, stage: StageConfig) -> RayReplica:
        self.replicas.append(RayReplica(task, stage))
        return self.replicas[-1]


def pool_of(start: Any, replicas: int = 2, max_items: int = 4, **settings: Any) -> Pool:
    options = settings.pop("options", {})
    batch = BatchLimits(max_items=max_items)
    config = PoolConfig(replicas=replicas, num_cpus=1, batch=batch, restart_delay_s=0.05, **settings)
    return Pool("translation", StageConfig(engine="tests.standins.echo", options=options, pool=config), start)


async def submit_all(pool: Pool, requests: list[Item]) -> list[Any]:
    return await asyncio.gather(*(pool.submit(request) for request in requests), return_exceptions=True)


def values(outcomes: list[Any]) -> list[Any]:
    return [getattr(outcome, "value", type(outcome)) for outcome in outcomes]


@pytest.mark.parametrize("max_items", [1, 4])
async def test_poison_kills_only_itself(max_items: int) -> None:
    async with pool_of(Started(), max_items=max_items) as pool:
        outcomes = await submit_all(pool, [Item(value=i, die=i == 7) for i in range(20)])
    assert values(outcomes) == [ReplicaLostError if i == 7 else i for i in range(20)]
    assert "RayActorError" in str(outcomes[7]) or "ActorDiedError" in str(outcomes[7])


async def test_poison_that_breaks_its_device_costs_only_itself() -> None:
    async with pool_of(Started()) as pool:
        outcomes = await submit_all(pool, [Item(value=i, break_device=i == 7) for i in range(20)])
        assert pool.stats().num_lost_replicas == 3
    assert values(outcomes) == [ReplicaLostError if i == 7 else i for i in range(20)]
    assert "its device must work" in outcomes[7].message


async def test_a_replica_killed_from_outside_loses_nothing() -> None:
    start = Started()
    async with pool_of(start) as pool:
        work = [asyncio.create_task(pool.submit(Item(value=i, sleep_s=0.01), order=i)) for i in range(60)]
        await pool.submit(Item(value=60), order=20)
        assert any(task.done() for task in work)
        assert not all(task.done() for task in work)
        start.replicas[0].kill()
        assert values(await asyncio.gather(*work)) == list(range(60))
        while len(start.replicas) < 3:  # the other one may have done all that was left, and nobody asked the dead one
            await submit_all(pool, [Item(value=0)] * 16)
        assert pool.stats().num_lost_replicas == 1


async def test_nobody_is_blamed_for_replicas_whose_processes_are_killed_while_idle() -> None:
    async with pool_of(Started(), replicas=3, max_items=1, max_losses=2) as pool:
        pids: set[int] = set()
        while len(pids) < 3:
            pids |= {echo.pid for echo in await submit_all(pool, [Item(value=0, sleep_s=0.1)] * 6)}
        for pid in pids:
            psutil.Process(pid).kill()
        assert (await pool.submit(Item(value=1))).value == 1


async def test_a_hung_replica_is_replaced(tmp_path: Path) -> None:
    start = Started()
    async with pool_of(start, call_timeout_s=3.0) as pool:
        requests = [Item(value=i, hang_once=str(tmp_path / "hung") if i == 3 else None) for i in range(20)]
        assert values(await submit_all(pool, requests)) == list(range(20))
        assert pool.stats().num_lost_replicas >= 1


async def test_what_always_hangs_is_given_up() -> None:
    async with pool_of(Started(), replicas=1, call_timeout_s=4.0, max_losses=2) as pool:
        outcomes = await submit_all(pool, [Item(value=i, hang=i == 2) for i in range(6)])
    assert values(outcomes) == [ReplicaLostError if i == 2 else i for i in range(6)]
    assert "no answer within 4 s" in outcomes[2].message


async def test_a_replica_that_dies_while_loading_is_tried_again(tmp_path: Path) -> None:
    start = Started()
    async with pool_of(start, replicas=1, options={"die_loading_until": str(tmp_path / "loads")}) as pool:
        assert values(await submit_all(pool, [Item(value=1)])) == [1]
    assert len(start.replicas) == 3


async def test_what_cannot_load_is_an_error_with_its_reason() -> None:
    async with pool_of(Started(), options={"load_error": True}) as pool:
        outcomes = await submit_all(pool, [Item(value=i) for i in range(5)])
    assert values(outcomes) == [EngineLoadError] * 5
    assert "echo must find its weights" in outcomes[0].message


async def test_what_can_never_be_placed_is_an_error_and_no_hang() -> None:
    async with pool_of(Started(), replicas=1, resources={"moon": 1}, place_timeout_s=0.5, max_load_failures=1) as pool:
        outcomes = await submit_all(pool, [Item(value=0)])
    assert values(outcomes) == [EngineLoadError]
    assert "1 moon" in outcomes[0].message


@pytest.mark.parametrize("busy", [False, True])
async def test_no_actor_outlives_its_pool(busy: bool) -> None:
    async with pool_of(Started()) as pool:
        echoes = await submit_all(pool, [Item(value=i, sleep_s=0.01) for i in range(10)])
        processes = [psutil.Process(pid) for pid in {echo.pid for echo in echoes}]
        assert processes
        if busy:
            left = asyncio.create_task(submit_all(pool, [Item(value=0, hang=True), Item(value=1, hang=True)]))
            await asyncio.sleep(0.1)
    if busy:
        await left
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 300)
    assert alive == []


async def test_inline_and_ray_give_the_same() -> None:
    requests = [Item(value=i, fail=i % 5 == 0) for i in range(20)]
    found = []
    start: type[Replica]
    for start in (InlineReplica, RayReplica):
        async with pool_of(start, replicas=2) as pool:
            found.append(values(await submit_all(pool, requests)))
    assert found[0] == found[1] == [ItemError if i % 5 == 0 else i for i in range(20)]


def test_shares_of_a_gpu_as_the_first_hour_with_one_checks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check 9 of ``bench/gpu_acceptance.py``, on a CPU: what each share sees, a broken device, two pools on one GPU."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    cluster, report, shapes = (
        importlib.import_module(f"acceptance.{name}") for name in ("cluster", "report", "shapes")
    )
    found = report.Findings()
    cluster.ray_shares(report.Bench(device="cpu", sizes=shapes.TINY, folder=tmp_path), found)
    assert found.unmet == []
    assert found.figures["answered"] == cluster.NUM_ITEMS
