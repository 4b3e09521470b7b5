"""Measures the cost of a pool for its driver: CPU time per request, with replicas that do nothing.

    python bench/bench_pool.py [--items 5000]

Prints milliseconds of CPU per request for batches of 1 and of 8, on replicas that answer at once in
the event loop, and on in-process replicas with a thread each. Aim: under 0.3 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

from actors.host import BatchReport
from actors.types import Task
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica, Replica
from tests.standins.echo import Item


class Idle(Replica):
    def __init__(self, task: Task, stage: StageConfig) -> None:
        pass

    async def load(self) -> None:
        pass

    async def run(self, batch: Sequence[Item]) -> BatchReport:
        return BatchReport(results=list(batch), run_s=0.0)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


async def cpu_ms(replica: type[Replica], max_items: int, num_items: int) -> float:
    pool = PoolConfig(replicas=4, batch=BatchLimits(max_items=max_items))
    stage = StageConfig(engine="tests.standins.echo", pool=pool)
    async with Pool("translation", stage, replica) as running:
        await running.submit(Item(value=0))
        start_s = time.process_time()
        await asyncio.gather(*(running.submit(Item(value=value), order=value) for value in range(num_items)))
        return (time.process_time() - start_s) / num_items * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5000)
    num_items: int = parser.parse_args().items
    for replica in (Idle, InlineReplica):
        for max_items in (1, 8):
            found = asyncio.run(cpu_ms(replica, max_items, num_items))
            print(f"{replica.__name__:14} batches of {max_items}: {found:.3f} ms of CPU per request")


if __name__ == "__main__":
    main()
