"""Whether a small job is starved by a big one on the same pools.

    python bench/bench_fairness.py [--json]

A small job (40 segments) and a big one (800) go through two pools of in-process replicas that sleep, in
batches of 4: alone, started together, and the small one started when the big one has filled every queue.
Bound: the small one's time at most 2 × its time alone. Then the same at a higher priority: at most 1.5 ×.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator

from cluster.config import PoolConfig, StageConfig
from cluster.pool import Pool
from cluster.replicas import InlineReplica
from cluster.scheduling import BatchLimits
from cluster.streams import ordered_map
from tests.standins.echo import Item

BIG, SMALL = 800, 40
FAIR_BOUND, PRIORITY_BOUND = 2.0, 1.5
MAX_PENDING = 32
"""Segments of one job under way, as pipeline.max_utterances."""


def pool_of(replicas: int) -> Pool:
    config = PoolConfig(replicas=replicas, batch=BatchLimits(max_items=4), max_pending_items=64)
    return Pool("translation", StageConfig(engine="tests.standins.echo", pool=config), InlineReplica)


async def dub(job: str, number: int, pools: tuple[Pool, Pool], priority: int = 0) -> float:
    """Seconds for so many segments, first to last."""

    async def segments() -> AsyncIterator[int]:
        for index in range(number):
            yield index

    async def one(index: int) -> int:
        for pool, sleep_s in zip(pools, (0.005, 0.02), strict=True):
            await pool.submit(Item(value=index, sleep_s=sleep_s), order=index, job=job, priority=priority)
        return index

    start_s = time.monotonic()
    assert [index async for index in ordered_map(segments(), one, MAX_PENDING)] == list(range(number))
    return time.monotonic() - start_s


async def measure(late_s: float | None, priority: int = 0) -> float:
    """Seconds of the small job: alone if ``late_s`` is None, else so long after the big one began."""
    async with pool_of(1) as first, pool_of(2) as second:
        pools = first, second
        await dub("warm", 8, pools)
        if late_s is None:
            return await dub("small", SMALL, pools)
        big = asyncio.create_task(dub("big", BIG, pools))
        await asyncio.sleep(late_s)
        small_s = await dub("small", SMALL, pools, priority)
        assert not big.done(), "the big job must outlast the small one"
        big.cancel()
        await asyncio.gather(big, return_exceptions=True)
        return small_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    as_json: bool = parser.parse_args().json
    alone_s = asyncio.run(measure(None))
    together = asyncio.run(measure(0.0)) / alone_s
    late = asyncio.run(measure(1.0)) / alone_s
    preferred = asyncio.run(measure(1.0, priority=1)) / alone_s
    shows = max(together, late) <= FAIR_BOUND and preferred <= PRIORITY_BOUND
    print(f"small job alone {alone_s:.2f} s; × that, started together: {together:.2f}, late: {late:.2f}", end="")
    print(f" (bound {FAIR_BOUND}), late at higher priority: {preferred:.2f} (bound {PRIORITY_BOUND})")
    if as_json:
        found = {"alone_s": alone_s, "together": together, "late": late, "preferred": preferred}
        print(json.dumps(found | {"shows": shows}))


if __name__ == "__main__":
    main()
