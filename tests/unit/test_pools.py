from __future__ import annotations

import pytest

from actors.errors import ConfigError
from cluster.config import PoolConfig, StageConfig, load_config
from cluster.pools import JobPool, Pools
from cluster.progress import Asker, Progress
from tests.standins.echo import Item

INLINE = ["ray.mode=inline", "store.url=none"]


def echo(**settings: object) -> StageConfig:
    return StageConfig(engine="tests.standins.echo", pool=PoolConfig.model_validate(settings))


async def test_a_pool_starts_when_it_is_first_asked_for_and_is_shared() -> None:
    async with Pools(load_config("offline", INLINE)) as pools:
        one = await pools.get("translation", echo(replicas=2), Asker(job="one"))
        other = await pools.get("translation", echo(replicas=2), Asker(job="other", priority=1))
        assert (await one.submit(Item(value=1))).value == 1
        assert (await other.submit(Item(value=2))).value == 2
        [stats] = pools.stats()
        assert (stats.target, stats.num_items) == (2, 2)


async def test_a_pool_without_replicas_is_given_one_by_its_first_request() -> None:
    async with Pools(load_config("offline", INLINE)) as pools:
        pool = await pools.get("translation", echo(min_replicas=0))
        assert pools.stats()[0].target == 0
        assert (await pool.submit(Item(value=1))).value == 1
        assert pools.stats()[0].target == 1


async def test_pools_that_no_budget_can_hold_are_refused() -> None:
    async with Pools(load_config("offline", [*INLINE, "autoscaling.max_gpus=1"])) as pools:
        await pools.get("translation", echo(num_gpus=0.5))
        with pytest.raises(ConfigError, match="set min_replicas of some pools to 0"):
            await pools.get("speech", echo(num_gpus=1))


async def test_a_job_tells_the_pool_who_asks() -> None:
    asked: list[tuple[str, int, float, float]] = []

    class Asked:
        name = "fake/engine"

        async def submit(self, request: object, *, order: float, job: str, priority: int, weight: float) -> None:
            asked.append((job, priority, order, weight))

    one, other = (Progress(job="talk.mp4", priority=-1) for _ in range(2))
    one.begin(2400.0)
    await JobPool(Asked(), one.asker).submit("request", order=3.0)  # type: ignore[arg-type]  # no stats
    assert asked == [(f"talk.mp4#{one.number}", -1, 3.0, 0.5)]
    assert one.asker != other.asker
