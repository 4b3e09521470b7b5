"""Pools that follow the work: a burst from zero to four replicas and back, and a bottleneck that moves.

    python bench/bench_autoscaling.py [--inline] [--plot docs/autoscaling.svg] [--json]

Stand-in engines in Ray actors (in threads with --inline). First one pool of 0 to 4 replicas under a burst;
then two stages in a row under a budget of 5 GPUs (of bookkeeping only), whose times change places midway.
Shows: 0 → 4 → 0 replicas; the slower stage has most of the budget in each half; never more than the budget.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray

from cluster.config.schema import AutoscalingConfig, BatchLimits, PoolConfig, StageConfig
from cluster.pools.autoscaler import Autoscaler
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica, RayReplica
from cluster.streams import ordered_map
from tests.standins.echo import Item

BUDGET = 5
SAMPLE_S = 0.1


@dataclass(slots=True)
class Trace:
    """One pool's figures at every sample."""

    name: str
    at_s: list[float] = field(default_factory=list)
    serving: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    """Replicas wanted, and those that drain."""
    waiting: list[int] = field(default_factory=list)


def pool_of(replica: type[RayReplica] | type[InlineReplica], high: int) -> Pool:
    config = PoolConfig(
        min_replicas=0,
        max_replicas=high,
        num_cpus=0.1,
        num_gpus=1.0,
        target_drain_s=0.5,
        up_delay_s=0.5,
        down_delay_s=3.0,
        batch=BatchLimits(max_items=2),
    )
    stage = StageConfig(engine="tests.standins.echo", pool=config)
    return Pool("translation", stage, replica, num_replicas=0)


async def watch(pools: Sequence[Pool], traces: Sequence[Trace]) -> None:
    start_s = time.monotonic()
    while True:
        for pool, trace in zip(pools, traces, strict=True):
            stats = pool.stats()
            trace.at_s.append(time.monotonic() - start_s)
            trace.serving.append(stats.num_serving)
            trace.held.append(stats.target + stats.num_draining)
            trace.waiting.append(stats.queue_items)
        await asyncio.sleep(SAMPLE_S)


@contextlib.asynccontextmanager
async def scaled(pools: Sequence[Pool], max_gpus: float, traces: Sequence[Trace]) -> AsyncIterator[None]:
    async with Autoscaler(AutoscalingConfig(max_gpus=max_gpus)) as scaler, AsyncExitStack() as stack:
        for index, pool in enumerate(pools):
            await stack.enter_async_context(pool)
            scaler.add(str(index), pool)
        watching = asyncio.create_task(watch(pools, traces))
        try:
            yield
        finally:
            watching.cancel()


async def burst(replica: type[RayReplica] | type[InlineReplica]) -> list[Trace]:
    """Two idle seconds, 25 s of work for one replica, and idle again until all is given up."""
    pool, trace = pool_of(replica, 4), Trace("one pool")
    async with scaled([pool], BUDGET, [trace]):
        await asyncio.sleep(2)
        await asyncio.gather(*(pool.submit(Item(value=value, sleep_s=0.1)) for value in range(250)))
        async with asyncio.timeout(60):
            while pool.stats().num_serving or pool.stats().num_draining:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(SAMPLE_S)
        await asyncio.sleep(1)
    return [trace]


async def bottleneck(replica: type[RayReplica] | type[InlineReplica]) -> list[Trace]:
    """Halfway the slow stage becomes the fast one."""
    pools = [pool_of(replica, 4), pool_of(replica, 4)]
    traces = [Trace("first stage"), Trace("second stage")]
    number = 800

    async def segments() -> AsyncIterator[int]:
        for index in range(number):
            yield index

    async def one(index: int) -> None:
        times_s = (0.02, 0.1) if index < number // 2 else (0.1, 0.02)
        for pool, sleep_s in zip(pools, times_s, strict=True):
            await pool.submit(Item(value=index, sleep_s=sleep_s), order=index)

    async with scaled(pools, BUDGET, traces):
        async for _ in ordered_map(segments(), one, max_pending=64):
            pass
    return traces


def plot(first: Sequence[Trace], second: Sequence[Trace], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(8, 6), layout="constrained")
    for axis, traces, title in zip(axes, (first, second), ("A burst", "The slow stage moves"), strict=True):
        queue = axis.twinx()
        for index, trace in enumerate(traces):
            axis.step(trace.at_s, trace.serving, where="post", color=f"C{index}", label=f"{trace.name}: replicas")
            queue.plot(trace.at_s, trace.waiting, ":", color=f"C{index}", alpha=0.6, label=f"{trace.name}: waiting")
        axis.set(title=title, xlabel="s", ylabel="replicas serving", ylim=(0, BUDGET + 1.5))
        queue.set(ylabel="requests waiting (dotted)")
        axis.legend(loc="upper center", ncols=2)
    figure.savefig(path, metadata={"Date": None})


def mean_share(traces: Sequence[Trace], of: int, first: float, last: float) -> float:
    """Mean number of replicas serving, over this part of the time."""
    number = len(traces[0].at_s)
    part = slice(round(first * number), round(last * number))
    mine, everybody = sum(traces[of].serving[part]), sum(sum(trace.serving[part]) for trace in traces)
    return mine / everybody


@contextlib.contextmanager
def ray_or_not(inline: bool) -> Iterator[type[RayReplica] | type[InlineReplica]]:
    if inline:
        yield InlineReplica
        return
    ray.init("local", num_cpus=4, num_gpus=BUDGET, include_dashboard=False, log_to_driver=False)
    try:
        yield RayReplica
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inline", action="store_true", help="replicas in threads, no Ray")
    parser.add_argument("--plot", type=Path, help="write it here")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    with ray_or_not(given.inline) as replica:
        one, two = asyncio.run(burst(replica)), asyncio.run(bottleneck(replica))
    if given.plot is not None:
        plot(one, two, given.plot)

    changes = [number for at, number in enumerate(one[0].serving) if not at or number != one[0].serving[at - 1]]
    most_held = max(sum(held) for traces in (one, two) for held in zip(*(trace.held for trace in traces), strict=True))
    # The second half of each half: what comes before is the following.
    early, late = mean_share(two, 1, 0.25, 0.5), mean_share(two, 0, 0.75, 1.0)
    shows = changes[0] == changes[-1] == 0 and max(changes) == 4 and min(early, late) > 0.5 and most_held <= BUDGET
    print(f"a burst: {' → '.join(map(str, changes))} replicas; never more than {most_held} held (budget {BUDGET})")
    print(f"share of the slow stage: {early:.0%} while it is the second, {late:.0%} when it is the first")
    if given.json:
        found = {"changes": changes, "most_held": most_held, "second_share": early, "first_share": late}
        print(json.dumps(found | {"shows": shows}))


if __name__ == "__main__":
    main()
