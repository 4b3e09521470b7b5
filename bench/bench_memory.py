"""Measures a driver's memory against the number of segments it has seen.

    python bench/bench_memory.py [--segments 100000] [--json]

Segments of a thousand jobs, eight at a time, each through three pools of replicas that answer at once; some
fail, some replicas die. Bound: after the last tenth the process holds at most 5,000 blocks of memory and
5 MB more than after the second; the first fills what is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import sys
import time
from collections.abc import AsyncIterator

import psutil

from actors.errors import EngineError
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.streams import ordered_map
from tests.standins.echo import Item
from tests.standins.replicas import World

NUM_JOBS = 1000
BOUND_BLOCKS, BOUND_BYTES = 5_000, 5_000_000


async def dub(job: int, number: int, pools: list[Pool]) -> None:
    async def segments() -> AsyncIterator[int]:
        for index in range(number):
            yield index

    async def one(index: int) -> None:
        with contextlib.suppress(EngineError):
            for pool in pools:
                # One job in fifty has a line that kills whatever speaks it.
                item = Item(value=job * number + index, die=index == 7 and job % 50 == 0)
                await pool.submit(item, order=index, job=f"job {job}")

    async for _ in ordered_map(segments(), one, max_pending=16):
        pass


async def measure(num_segments: int) -> list[tuple[int, int]]:
    """After each tenth: blocks allocated, and resident bytes."""
    worlds = [World() for _ in range(3)]
    config = PoolConfig(replicas=4, batch=BatchLimits(max_items=8), restart_delay_s=0.0, quarantine_s=60.0)
    stage = StageConfig(engine="tests.standins.echo", pool=config)
    found = []
    async with contextlib.AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(Pool("translation", stage, world.start)) for world in worlds]
        room = asyncio.Semaphore(8)

        async def one(job: int) -> None:
            async with room:
                await dub(job, num_segments // NUM_JOBS, pools)

        for tenth in range(10):
            await asyncio.gather(*(one(tenth * NUM_JOBS // 10 + job) for job in range(NUM_JOBS // 10)))
            for world in worlds:  # the stand-ins remember; a cluster does not
                world.order_run.clear()
                del world.replicas[:-4]
                for replica in world.replicas:
                    replica.received.clear()
            gc.collect()
            found.append((sys.getallocatedblocks(), psutil.Process().memory_info().rss))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    start_s = time.monotonic()
    found = asyncio.run(measure(given.segments))
    wall_s = time.monotonic() - start_s
    blocks, rss_bytes = (last - second for second, last in zip(found[1], found[-1], strict=True))
    print(
        f"{given.segments} segments of 3 requests in {wall_s:.0f} s; from the second tenth to the last "
        f"{blocks:+d} blocks (of {found[-1][0]}), {rss_bytes / 1e6:+.2f} MB resident (of {found[-1][1] / 1e6:.0f})"
    )
    if given.json:
        shows = blocks <= BOUND_BLOCKS and rss_bytes <= BOUND_BYTES
        print(json.dumps({"blocks": blocks, "resident_bytes": rss_bytes, "wall_s": wall_s, "shows": shows}))


if __name__ == "__main__":
    main()
