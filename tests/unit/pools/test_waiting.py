"""Waits for room: told in words, and ended where none will come."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from actors.errors import CapacityError, EngineLoadError
from actors.types import Task
from cluster.config.schema import PoolConfig, RayConfig, StageConfig
from cluster.pools import waiting
from cluster.pools.capacity import ClusterView, Growth
from cluster.pools.needs import Need, Node
from cluster.pools.pool import Pool
from cluster.pools.reservation import Reservation
from cluster.pools.stats import RoomWait
from cluster.pools.waiting import PlacementWatch, WaitLog, free_text, wait_for_room
from tests.standins.echo import Item
from tests.standins.replicas import Fake, World
from tests.virtual_time import in_virtual_time

HALVES = (Node(cpus=0.5), Node(cpus=0.5))


class Placeless(Fake):
    async def place(self) -> None:
        await asyncio.Event().wait()


class Cluster:
    """A cluster in which no node has room for one CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, growth: Growth) -> None:
        self.growth = growth
        monkeypatch.setattr(waiting, "look_at_cluster", self._look)

    async def _look(self) -> ClusterView:
        return ClusterView(growth=self.growth, nodes=(), free=HALVES, unplaced=({"CPU": 1.0},))


def pool_of(world: World, **settings: Any) -> Pool:
    def start(task: Task, stage: StageConfig) -> Fake:
        return Placeless(world)

    stage = StageConfig(engine="tests.standins.echo", pool=PoolConfig(**{"num_cpus": 1, **settings}))
    return Pool("speech", stage, start)


async def watched(watch: PlacementWatch, seconds: int) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1.0)
        await watch.step()


@in_virtual_time
async def test_a_wait_is_told_within_ten_seconds_and_fails_in_time_if_no_node_may_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cluster(monkeypatch, Growth.FIXED)
    async with pool_of(World()) as pool:
        watch = PlacementWatch(RayConfig(), lambda: [pool], None, is_patient=False)
        request = asyncio.create_task(pool.submit(Item(value=1)))
        await watched(watch, 9)
        expected = "waiting 9 s for 1 replica of speech/tests.standins.echo: 1 CPU; free: 0.5, 0.5"
        assert pool.stats().waiting == expected
        assert [wait.text for wait in watch.waits] == [expected]
        assert "waiting 4 s for 1 replica" in caplog.text
        await watched(watch, 49)
        assert not request.done()
        await watched(watch, 4)
        with pytest.raises(EngineLoadError, match=r"in 6\d s no node had 1 CPU"):
            await request


@in_virtual_time
async def test_no_wait_is_too_long_while_a_node_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, Growth.COMING)
    async with pool_of(World(), place_timeout_s=100) as pool:
        watch = PlacementWatch(RayConfig(), lambda: [pool], None, is_patient=False)
        request = asyncio.create_task(pool.submit(Item(value=1)))
        await watched(watch, 1000)
        assert not request.done()
        cluster.growth = Growth.POSSIBLE
        await watched(watch, 102)
        with pytest.raises(EngineLoadError):
            await request


@in_virtual_time
async def test_a_patient_process_is_stuck_when_no_pool_works(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, Growth.FIXED)
    world = World()
    async with pool_of(world, place_timeout_s=10) as pool, world.pool(max_items=1) as other:
        watch = PlacementWatch(RayConfig(full_timeout_s=30), lambda: [pool, other], None, is_patient=True)
        request = asyncio.create_task(pool.submit(Item(value=1)))
        work = asyncio.create_task(other.submit(Item(value=1, sleep_s=200)))
        await watched(watch, 100)
        assert not watch.is_stuck
        await watched(watch, 105)
        assert work.done()
        assert not watch.is_stuck
        await watched(watch, 30)
        assert watch.is_stuck
        assert not request.done()
        request.cancel()


class Group:
    """A placement group that is never placed."""

    async def ready(self) -> None:
        await asyncio.Event().wait()


def reservation() -> Reservation:
    group: Any = Group()
    needs = (Need(name="driver", cpus=1), Need(name="speech/x", cpus=0.5))
    return Reservation(group=group, needs=needs)


@in_virtual_time
async def test_room_for_a_driver_is_waited_for_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, Growth.FIXED)
    told: list[RoomWait | None] = []
    clock = asyncio.get_running_loop().time
    with pytest.raises(CapacityError, match="the cluster must have room for all of it at the same time"):
        await wait_for_room(reservation(), RayConfig(), 600.0, on_wait=told.append, may_wait=lambda: clock() < 1000)
    assert 1055 < clock() < 1065
    assert told[-1] is None
    assert told[0] is not None
    assert told[0].text == (
        "waiting 4 s for a driver and one replica of each pool: 1.5 CPU (driver 1, speech/x 0.5); free: 0.5, 0.5"
    )


def test_free_amounts_are_named_where_there_are_several_kinds() -> None:
    nodes = [Node(cpus=1, cards=(1.0, 0.25)), Node(cpus=2)]
    assert free_text([Need(name="a", cpus=1)], nodes) == "2, 1"
    assert free_text([Need(name="a", cpus=1, gpus=0.5)], nodes) == "2, 1 CPU; 1.25, 0 GPU"
    assert free_text([Need(name="a", cpus=1)], []) == "no node"


def test_a_wait_is_logged_ever_more_rarely_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cluster.pools.waiting")
    told = WaitLog("driver 0 is ")
    for seconds in range(5, 50):
        told.note([RoomWait(name="x", number=1, seconds=seconds, text=f"waiting {seconds} s")])
    told.note([])
    assert caplog.messages == [
        *(f"driver 0 is waiting {seconds} s" for seconds in (5, 10, 20, 40)),
        "driver 0 is no longer waiting for x",
    ]
