from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.errors import ConfigError, EngineError
from actors.types import Task, TranslateRequest
from cluster.config.load import item_config, load_config
from cluster.config.schema import Config, PoolConfig, StageConfig
from cluster.pools.fairness import JobPriority
from cluster.pools.pool_set import JobPool, PoolSet
from cluster.pools.replicas import Replica
from cluster.steps.progress import Progress
from tests.standins.echo import Item
from tests.standins.replicas import Fake, World
from tests.virtual_time import in_virtual_time

INLINE = ["ray.mode=inline", "store.url=none"]
ECHO = [*INLINE, "translation.engine=tests.standins.echo"]


def echo(**settings: object) -> StageConfig:
    return StageConfig(engine="tests.standins.echo", pool=PoolConfig.model_validate(settings))


async def test_a_pool_starts_when_it_is_first_asked_for_and_is_shared() -> None:
    async with PoolSet(load_config("offline", INLINE)) as pools:
        one = await pools.get("translation", echo(replicas=2), JobPriority(name="one"))
        other = await pools.get("translation", echo(replicas=2), JobPriority(name="other", priority=1))
        assert (await one.submit(Item(value=1))).value == 1
        assert (await other.submit(Item(value=2))).value == 2
        [stats] = pools.stats()
        assert (stats.target, stats.num_items) == (2, 2)


async def test_a_pool_without_replicas_is_given_one_by_its_first_request() -> None:
    async with PoolSet(load_config("offline", INLINE)) as pools:
        pool = await pools.get("translation", echo(min_replicas=0))
        assert pools.stats()[0].target == 0
        assert (await pool.submit(Item(value=1))).value == 1
        assert pools.stats()[0].target == 1


async def test_pools_that_no_budget_can_hold_are_refused() -> None:
    async with PoolSet(load_config("offline", [*INLINE, "autoscaling.max_gpus=1"])) as pools:
        await pools.get("translation", echo(num_gpus=0.5))
        for _ in range(3):
            with pytest.raises(ConfigError, match="set min_replicas of some pools to 0"):
                await pools.get("speech", echo(num_gpus=1))
        assert len(pools.stats()) == len(dispatchers()) == 1


async def test_a_job_whose_pool_is_refused_takes_nothing_from_others(tmp_path: Path) -> None:
    config = load_config("offline", ["ray.mode=inline", f"store.url={tmp_path}", "autoscaling.max_gpus=1"])
    translator = StageConfig(engine="tests.standins.counted_translator", options={"log": str(tmp_path / "log")})
    speaker = StageConfig(engine="kokoro", pool=PoolConfig(num_gpus=2))
    async with PoolSet(config) as pools:
        one = await pools.get("translation", translator, JobPriority(name="one"))
        with pytest.raises(ConfigError, match="found 1 and inf"):
            await pools.get("speech", speaker, JobPriority(name="other"))
        translation = await one.submit(TranslateRequest(text="hello", source_language="en", target_language="pt"))
        assert translation.candidates[0].text == "pt hello"


async def test_what_is_asked_for_while_the_pools_close_starts_nothing(tmp_path: Path) -> None:
    translator = StageConfig(engine="tests.standins.counted_translator", options={"log": str(tmp_path / "log")})
    config = load_config("offline", ["ray.mode=inline", f"store.url={tmp_path}"])
    async with asyncio.timeout(60), PoolSet(config) as pools:
        pool = await pools.get("translation", translator)
        asked = asyncio.create_task(
            pool.submit(TranslateRequest(text="hello", source_language="en", target_language="pt"))
        )
        await asyncio.sleep(0)
    with pytest.raises(EngineError, match="must be open"):
        await asked
    assert dispatchers() == []


def with_own_options(config: Config, number: int) -> Config:
    return item_config(config, {"translation": {"options": {"exhaust_above": 100 + number}}})


async def dub_like(pools: PoolSet, stage: StageConfig, job: str, pause_s: float = 1.0) -> None:
    """Bursts of requests, as a job has them."""
    priority = JobPriority(name=job)
    async with pools.reserved_for(priority):
        pool = await pools.get("translation", stage, priority)
        for _ in range(3):
            assert await asyncio.gather(*(pool.submit(Item(value=value, sleep_s=0.1)) for value in range(20))) == [
                *range(20)
            ]
            await asyncio.sleep(pause_s)


@pytest.mark.parametrize(("room", "at_a_time"), [(1, 1), (1, 2), (2, 2)])
@in_virtual_time
async def test_jobs_with_options_of_their_own_take_turns_in_what_there_is(
    room: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, turn, num_pools = World(), asyncio.Semaphore(at_a_time), list[int]()
    config = load_config("offline", [*ECHO, "translation.pool.num_cpus=1", f"autoscaling.max_cpus={room}"])

    async def one(number: int) -> None:
        async with turn:
            await dub_like(pools, with_own_options(config, number).translation, str(number))
            num_pools.append(len(pools.stats()))

    async with PoolSet(config) as pools:
        running = counted(pools, world, monkeypatch)
        await asyncio.gather(*(one(number) for number in range(10)))
    assert max(running) == room
    assert max(num_pools) <= at_a_time + room
    assert {replica.state for replica in world.replicas} == {"closed"}


@in_virtual_time
async def test_what_no_job_uses_is_closed_and_what_is_kept_warm_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    config = load_config("offline", ECHO)
    async with PoolSet(config) as pools:
        monkeypatch.setattr(pools, "_start_replica", world.start)
        warm = await pools.get("translation", config.translation)
        long = asyncio.create_task(dub_like(pools, with_own_options(config, 100).translation, "long", pause_s=300))
        for number in range(10):
            await dub_like(pools, with_own_options(config, number).translation, str(number))
            await asyncio.sleep(60)
        await long
        assert [stats.target for stats in pools.stats()] == [1, 0, 0]
        assert [replica.state for replica in world.replicas] == ["loaded"] + ["closed"] * 13
        assert await warm.submit(Item(value=1)) == 1
        assert len(dispatchers()) == 3


@in_virtual_time
async def test_a_pool_that_no_job_uses_makes_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    async with PoolSet(load_config("offline", [*INLINE, "autoscaling.max_gpus=1"])) as pools:
        monkeypatch.setattr(pools, "_start_replica", world.start)
        first, second = echo(num_gpus=1), echo(num_gpus=1, niceness=1)
        one = asyncio.create_task(dub_like(pools, first, "one"))
        await asyncio.sleep(0.1)
        with pytest.raises(ConfigError, match="that is 2 GPUs"):
            await dub_like(pools, second, "other")
        await one
        assert [replica.state for replica in world.replicas] == ["loaded"]
        await dub_like(pools, second, "other")
        assert [replica.state for replica in world.replicas] == ["closed", "loaded"]


@in_virtual_time
async def test_nobody_grows_into_what_a_pool_that_is_closed_still_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unload(self: Fake) -> None:
        await asyncio.sleep(3)
        self.state = "closed"

    monkeypatch.setattr(Fake, "_unload", unload)
    world = World()
    async with PoolSet(load_config("offline", [*INLINE, "autoscaling.max_gpus=2"])) as pools:
        running = counted(pools, world, monkeypatch)
        await dub_like(pools, echo(num_gpus=1), "one")
        busy = await pools.get("translation", echo(num_gpus=1, max_replicas=2, up_delay_s=0, batch={"max_items": 1}))
        work = [asyncio.create_task(busy.submit(Item(value=value, sleep_s=1.0))) for value in range(30)]
        await asyncio.sleep(1.5)
        await dub_like(pools, echo(num_gpus=1, niceness=1), "other")
        await asyncio.gather(*work)
    assert max(running) == 2


def counted(pools: PoolSet, world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the pools' replicas come from this world: how many run as each start_limiter."""
    running = []

    def start(task: Task, stage: StageConfig) -> Replica:
        started = world.start(task, stage)
        running.append(sum(replica.state in ("new", "loaded") for replica in world.replicas))
        return started

    monkeypatch.setattr(pools, "_start_replica", start)
    return running


def dispatchers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().endswith("dispatch")]


async def test_a_job_tells_the_pool_who_asks() -> None:
    asked: list[tuple[str, int, float, float]] = []

    class Asked:
        name = "fake/engine"

        async def submit(self, request: object, *, order: float, job: str, priority: int, weight: float) -> None:
            asked.append((job, priority, order, weight))

    one, other = (Progress(job="talk.mp4", priority=-1) for _ in range(2))
    one.begin(2400.0)
    await JobPool(Asked(), one.job_priority).submit("request", order=3.0)  # type: ignore[arg-type]  # no stats
    assert asked == [(f"talk.mp4#{one.number}", -1, 3.0, 0.5)]
    assert one.job_priority != other.job_priority
