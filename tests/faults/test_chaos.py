"""Everything goes wrong at once, on a Ray cluster of three nodes: nothing is lost but what is poison."""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray

from actors.errors import ReplicaLostError
from cluster.config.schema import AutoscalingConfig, BatchLimits, PoolConfig, RayConfig, StageConfig
from cluster.metrics.jobs import measured
from cluster.metrics.meters import exposition
from cluster.pools.autoscaler import Autoscaler
from cluster.pools.pool import Pool
from cluster.pools.ray_session import max_starting
from cluster.pools.replicas import RayReplica
from tests.standins import chaos, nodes
from tests.standins.echo import Echo, Item
from tests.unit.manifests import sample_manifest

PATIENCE_S = 300.0
POISON = frozenset({123, 256, 389})


@pytest.fixture(scope="module")
def workers() -> Iterator[list[nodes.Node]]:
    with nodes.cluster(num_workers=2, metrics_interval_ms=500, num_gpus=4, labels={"kind": "gpu"}) as (_, workers):
        yield workers


def stage_with(**settings: object) -> StageConfig:
    config = PoolConfig.model_validate({"num_cpus": 0.1, "batch": BatchLimits(max_items=2), **settings})
    return StageConfig(engine="tests.standins.echo", pool=config)


async def until(pool: Pool, num_serving: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (pool.stats().num_serving, pool.stats().num_draining) != (num_serving, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_pool_of_actors_grows_in_a_burst_and_gives_everything_up_after_it(workers: list[nodes.Node]) -> None:
    stage = stage_with(
        min_replicas=0, max_replicas=3, num_gpus=0.5, target_drain_s=0.2, up_delay_s=0.1, down_delay_s=0.5
    )
    pool = Pool("translation", stage, RayReplica, num_replicas=0)
    async with Autoscaler(AutoscalingConfig(max_gpus=1.5)) as scaler, pool:
        scaler.add("echo", pool)
        echoes: list[Echo] = []
        while pool.stats().num_serving < 3:
            wave = range(len(echoes), len(echoes) + 40)
            echoes += await asyncio.gather(*(pool.submit(Item(value=value, sleep_s=0.1)) for value in wave))
        await until(pool, 0)
        assert [echo.value for echo in echoes] == list(range(len(echoes)))
        again = await pool.submit(Item(value=1))
        assert again.pid not in {echo.pid for echo in echoes}


async def test_replicas_run_where_their_labels_and_resources_say(workers: list[nodes.Node]) -> None:
    """And one that no node fits is pending, to be seen as demand."""

    head = ray.get_runtime_context().get_node_id()
    nodes_of = {}
    for kind in ("gpu", "!gpu"):
        async with Pool("translation", stage_with(node_labels={"kind": kind}), RayReplica) as pool:
            echo = await pool.submit(Item(value=1))
            nodes_of[kind] = echo.node_id
    assert nodes_of["gpu"] != head
    assert nodes_of["!gpu"] == head
    async with Pool("translation", stage_with(accelerator_type="H100"), RayReplica) as pool:
        async with asyncio.timeout(PATIENCE_S):
            while pool.stats().num_pending != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert pool.stats().num_serving == 0


def test_in_a_cluster_any_number_starts_whether_or_not_it_is_named(
    workers: list[nodes.Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert max_starting(RayConfig()) == math.inf


async def test_prometheus_is_told(workers: list[nodes.Node]) -> None:
    async with Pool("translation", stage_with(max_losses=2), RayReplica) as pool:
        await pool.submit(Item(value=1))
        with pytest.raises(ReplicaLostError):
            await pool.submit(Item(value=2, die=True))
        pool.report()
        async with measured(-1) as job:
            job.note_end(sample_manifest())
        [head] = [node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id()]
        url = f"http://127.0.0.1:{head['MetricsExportPort']}/metrics"
        wanted = {
            'ray_raydub_pool_batch_items_count{.*pool="translation/tests.standins.echo"',
            "ray_raydub_pool_wait_seconds_count",
            "ray_raydub_pool_engine_seconds_sum",
            "ray_raydub_pool_lost_replicas_total",
            "ray_raydub_pool_failed_items_total",
            "ray_raydub_pool_queue_items{",
            "ray_raydub_pool_waiting_replicas{",
            "ray_raydub_pool_waiting_seconds{",
            'ray_raydub_pool_replicas{.*state="serving"',
            "ray_raydub_pool_cpu_seconds_total",
            'ray_raydub_jobs_total{.*outcome="degraded"',
            "ray_raydub_job_wall_seconds_count",
            "ray_raydub_jobs_running_peak",
        }
        own = exposition().decode()
        assert [each for each in wanted if not re.search(each, own)] == []
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient() as client:
            while wanted:
                told = (await client.get(url)).text
                wanted = {each for each in wanted if not re.search(each, told)}
                await asyncio.sleep(0.2)


async def test_chaos_loses_nothing_but_poison(workers: list[nodes.Node], tmp_path: Path) -> None:
    """As the bench does with 1,000: on a busy machine most of the time here goes into starting replicas."""
    plan = chaos.Plan(
        num_videos=4,
        kill_every_segments=20,
        poison=POISON,
        hang=tmp_path / "hung",
        exhaust_above=2,
        after={0.3: workers[0].drop},
    )
    outcome = await chaos.run(plan)
    segments = [segment for video in outcome.videos for segment, _ in video]
    assert segments == list(range(400))
    assert outcome.failed == POISON
    assert outcome.num_kills > 0
    assert (tmp_path / "hung").exists()
    _, speaking = outcome.stats
    assert speaking.memory_cost_limit is not None
    assert speaking.memory_cost_limit <= 2.0
    assert speaking.num_quarantined == len(POISON)
    left = [psutil.Process(pid) for pid in outcome.pids if psutil.pid_exists(pid)]
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, PATIENCE_S)
    assert alive == []
