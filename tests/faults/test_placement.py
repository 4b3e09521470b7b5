"""Clusters that are just large enough, on real nodes of this machine: placing, waiting, and nodes that are lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from actors.errors import EngineLoadError
from cluster.batch.ledger import ItemStatus
from cluster.batch.runner import ItemOutcome
from cluster.config.load import load_config
from cluster.config.schema import PoolConfig, StageConfig
from cluster.pools.fairness import JobPriority
from cluster.pools.needs import Need
from cluster.pools.pool_set import PoolSet
from cluster.pools.replicas import RayReplica
from cluster.pools.reservation import Bundles, reserve
from tests.media import AudioSpec, make_media, speech
from tests.standins.echo import Item
from tests.standins.nodes import Node, cluster
from tests.standins.tight_batch import TightBatch, groups_left, processes

PATIENCE_S = 300.0
TOLD_S = 10.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """Two nodes of two cores and two cards; the head has none."""
    with cluster(2, num_cpus=2, head_cpus=0, num_gpus=2) as (_, workers):
        yield workers


@pytest.fixture
def four_nodes(nodes: list[Node]) -> list[Node]:
    while len(nodes) < 4:
        nodes.append(nodes[0].add_like(num_cpus=2))
    return nodes


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    audio = AudioSpec(samples=speech("Good evening."))
    return make_media(tmp_path_factory.mktemp("clips") / "short.m4a", audio=[audio])


def errors(outcomes: Sequence[ItemOutcome | ItemStatus]) -> list[str | None]:
    return [outcome.error for outcome in outcomes]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def until_free() -> None:
    """No group is left, and all resources of the nodes that live are free."""
    await until(lambda: not groups_left() and ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


@asynccontextmanager
async def room_taken(*bundles: dict[str, float]) -> AsyncIterator[None]:
    """Other work holds these."""
    group = placement_group(list(bundles))
    await group.ready()
    try:
        yield
    finally:
        remove_placement_group(group)


async def test_what_fits_in_sum_is_placed(nodes: list[Node], clip: Path, tmp_path: Path) -> None:
    assert errors(await TightBatch(tmp_path, clip).outcomes()) == [None] * 4
    await until_free()


async def test_a_command_without_drivers_has_its_room_as_a_whole_too(
    nodes: list[Node], clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = TightBatch(tmp_path, clip, num_videos=1)
    async with room_taken({"CPU": 2}):
        work = asyncio.create_task(batch.outcomes_here())
        await until(lambda: "waiting" in caplog.text)
        assert not processes("ActorHost")
    assert errors(await work) == [None]
    await until_free()


async def test_shares_of_cards_are_packed(nodes: list[Node]) -> None:
    """In the order of pools, 0.5, 0.5 and 0.75 or four shares would leave splinters."""
    for shares in ((0.5, 0.5, 0.75), (0.4, 0.4, 0.6, 0.6)):
        needs = [Need(name=f"speech/{number}", cpus=0.1, gpus=share) for number, share in enumerate(shares)]
        reservation = reserve(needs)
        assert reservation is not None
        bundles = Bundles(reservation)
        async with asyncio.timeout(PATIENCE_S):
            await reservation.ready()
            replicas = []
            for number, share in enumerate(shares):
                pool = PoolConfig(num_cpus=0.1, num_gpus=share)
                stage = StageConfig(engine="tests.standins.echo", pool=pool)
                replicas.append(RayReplica("speech", stage, bundles, str(number)))
                await replicas[-1].place()
        assert all(replica.is_reserved for replica in replicas)
        for replica in replicas:
            await replica.close()
        reservation.remove()
    await until_free()


async def test_a_dead_replica_has_its_place_again(nodes: list[Node], clip: Path, tmp_path: Path) -> None:
    """Also where all other room is taken."""
    batch = TightBatch(tmp_path, clip, "speech.options.service_s=0.5")
    work = asyncio.create_task(batch.outcomes())
    await until(batch.log.exists)
    psutil.Process(int(batch.log.read_text().split()[0])).kill()
    assert errors(await work) == [None] * 4
    assert len({line.split()[0] for line in batch.log.read_text().splitlines()}) == 2
    assert not batch.told
    await until_free()


async def test_a_wait_is_told_and_ends_when_room_comes(nodes: list[Node], clip: Path, tmp_path: Path) -> None:
    batch = TightBatch(tmp_path, clip, "ray.full_timeout_s=1000")
    async with room_taken({"CPU": 1}):
        work = asyncio.create_task(batch.outcomes())
        await until(lambda: batch.told)
    assert batch.told[0].seconds <= TOLD_S
    assert "for a driver and one replica of each pool: 4 CPU (driver 1," in batch.told[0].text
    assert batch.told[0].text.endswith("; free: 2, 1, 0")
    assert errors(await work) == [None] * 4
    await until_free()


async def test_without_an_autoscaler_a_wait_ends_after_a_number_of_tries(
    nodes: list[Node], clip: Path, tmp_path: Path
) -> None:
    batch = TightBatch(
        tmp_path, clip, "ray.full_timeout_s=5", "drivers.max_start_failures=2", "drivers.restart_delay_s=0.1"
    )
    async with room_taken({"CPU": 1}):
        found = errors(await batch.outcomes())
    assert all("the cluster must have room for all of it at the same time" in str(error) for error in found)
    await until_free()


async def test_a_pool_that_waits_is_told_in_log_and_statistics_and_then_fails(
    nodes: list[Node], caplog: pytest.LogCaptureFixture
) -> None:
    stage = StageConfig(engine="tests.standins.echo", pool=PoolConfig(num_cpus=1.5, place_timeout_s=1000))
    config = load_config("base", ["ray.mode=cluster", "store.url=none", "ray.full_timeout_s=8"])
    async with room_taken({"CPU": 2}, {"CPU": 1}), PoolSet(config) as pools:
        pool = await pools.get("translation", stage)
        request = asyncio.create_task(pool.submit(Item(value=1)))
        await until(lambda: pools.stats()[0].num_waiting)
        stats = pools.stats()[0]
        assert stats.waiting_s <= TOLD_S
        assert stats.waiting is not None
        assert stats.waiting.endswith("s for 1 replica of translation/tests.standins.echo: 1.5 CPU; free: 1, 0, 0")
        assert stats.waiting in caplog.text
        with pytest.raises(EngineLoadError, match=r"in \d+ s no node had 1.5 CPU"):
            await request
    await until_free()


async def test_a_replica_beyond_the_reservation_moves_into_what_another_pool_gives_up(
    nodes: list[Node],
) -> None:
    """Two jobs with voices of their own, and room for one voice at a time."""
    config = load_config("base", ["ray.mode=cluster", "store.url=none"])
    reservation = reserve([Need(name="speech/a", cpus=2)])
    assert reservation is not None
    await reservation.ready()
    stages = [
        StageConfig(engine="tests.standins.echo", options={"exhaust_above": number}, pool=PoolConfig(num_cpus=2))
        for number in (100, 200)
    ]
    async with room_taken({"CPU": 2}), PoolSet(config, reservation, is_patient=True) as pools:
        one, other = JobPriority(name="one"), JobPriority(name="other")
        async with pools.reserved_for(one):
            assert (await (await pools.get("speech", stages[0], one)).submit(Item(value=1))).value == 1
            waiting = asyncio.create_task((await pools.get("speech", stages[1], other)).submit(Item(value=2)))
            await until(lambda: pools.watch.waits)
        assert (await waiting).value == 2
    reservation.remove()
    await until_free()


@pytest.mark.parametrize("moment", ["replica", "work"])
async def test_two_drivers_end_all_though_a_node_is_lost(
    moment: str, four_nodes: list[Node], clip: Path, tmp_path: Path
) -> None:
    """Each needs 4 CPUs: there is room for both, then for one and a half."""
    batch = TightBatch(tmp_path, clip, "ray.full_timeout_s=6", "speech.options.service_s=0.3", num_drivers=2)
    work = asyncio.create_task(batch.outcomes())
    await until(batch.log.exists if moment == "work" else lambda: processes("ActorHost"))
    await asyncio.to_thread(four_nodes.pop().drop)
    assert errors(await work) == [None] * 4
    await until_free()
