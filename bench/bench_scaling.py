"""Measures how one driver scales, its cost, how drivers add up, and memory over time.

    python bench/bench_scaling.py [--quick] [--ray] [--plot docs/scaling.svg] [--json]

Segments go through three pools by the pipeline's own streams. Replicas are simulated inside the driver:
each serves one call at a time, `SERVICE_S` long, and costs no process, so that 64 of them fit any machine.
 - efficiency: lower bound ÷ wall time with 1 to 64 replicas a pool
 - ceiling: segments of three calls each per second of the driver's CPU, with replicas that answer at once
 - drivers: 1, 2 and 4 processes at the same time, 16 replicas a pool each; their rates added up
 - memory: the driver's resident memory after 10,000 and after 100,000 segments
With --ray the cost of a segment is also measured on real Ray actors, which answer at once, 2 a pool.

Bounds: efficiency ≥ 95 %, ceiling ≥ 300 segments/s, drivers add up to ≥ 95 %, memory grows by ≤ 20 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from actors.host import BatchReport
from actors.types import Task
from bench.plots import drawn
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import RayReplica, Replica
from cluster.streams import ordered_map

SERVICE_S = 0.2
NUM_STAGES = 3
MAX_PENDING = 256
MIN_EFFICIENCY, MIN_CEILING, MAX_GROWTH_BYTES = 0.95, 300.0, 20_000_000


class Simulated(Replica):
    """Serves batches one after another, ``service_s`` each."""

    service_s = SERVICE_S

    def __init__(self, task: Task, stage: StageConfig) -> None:
        self._free_at_s = 0.0

    async def load(self) -> None:
        pass

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        loop = asyncio.get_running_loop()
        self._free_at_s = max(loop.time(), self._free_at_s) + self.service_s
        await asyncio.sleep(self._free_at_s - loop.time())
        return BatchReport(results=list(batch), run_s=self.service_s)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


class Instant(Simulated):
    async def run(self, batch: Sequence[Any]) -> BatchReport:
        return BatchReport(results=list(batch), run_s=0.0)


def lower_bound_s(num_segments: int, num_replicas: int) -> float:
    """One stage's calls shared among its replicas, and a segment's time in the other stages."""
    return (math.ceil(num_segments / num_replicas) + NUM_STAGES - 1) * SERVICE_S


async def stream(
    start_replica: Callable[[Task, StageConfig], Replica],
    num_replicas: int,
    num_segments: int,
    on_segment: Callable[[int], None] = lambda index: None,
) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process, once the pools have answered."""
    batch = BatchLimits(max_items=1)
    stage = StageConfig(
        engine="tests.standins.sleeping",
        options={"service_s": 0.0},
        pool=PoolConfig(replicas=num_replicas, num_cpus=0.01, batch=batch, max_pending_items=2 * MAX_PENDING),
    )

    async def source() -> AsyncIterator[int]:
        for index in range(num_segments):
            yield index

    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(Pool("translation", stage, start_replica)) for _ in range(NUM_STAGES)]
        await asyncio.gather(*(pool.submit(0) for pool in pools for _ in range(2 * num_replicas)))
        segments: AsyncIterator[Any] = source()
        for pool in pools:
            segments = ordered_map(segments, pool.submit, MAX_PENDING)
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        num = 0
        async for _ in segments:
            num += 1
            on_segment(num)
        if num != num_segments:
            raise RuntimeError(f"{num_segments} segments went in, {num} came out")
        return time.monotonic() - start_s, time.process_time() - start_cpu_s


def efficiency(num_replicas: int, rounds: int) -> float:
    num_segments = num_replicas * rounds
    wall_s, _ = asyncio.run(stream(Simulated, num_replicas, num_segments))
    return lower_bound_s(num_segments, num_replicas) / wall_s


def ceiling(num_segments: int) -> tuple[float, float]:
    """Segments per second of CPU, and per second."""
    wall_s, cpu_s = asyncio.run(stream(Instant, 8, num_segments))
    return num_segments / cpu_s, num_segments / wall_s


def drivers(num_drivers: int, rounds: int) -> float:
    """Their rates added up, as a share of what as many drivers could do at most."""
    with multiprocessing.get_context("spawn").Pool(num_drivers) as processes:
        shares = processes.starmap(efficiency, [(16, rounds)] * num_drivers, chunksize=1)
    return sum(shares) / num_drivers


def memory_bytes(num_segments: int) -> tuple[int, int]:
    """Resident after a tenth of the segments, and after all."""
    found = []

    def note(num: int) -> None:
        if num in (num_segments // 10, num_segments):
            found.append(psutil.Process().memory_info().rss)

    asyncio.run(stream(Instant, 8, num_segments, note))
    return found[0], found[1]


def ray_cost_ms(num_segments: int) -> float:
    """The driver's CPU per segment on real actors."""
    from bench.contenders import ray_cluster

    with ray_cluster():
        _, cpu_s = asyncio.run(stream(RayReplica, 2, num_segments))
    return 1e3 * cpu_s / num_segments


def plot(path: Path, efficiencies: Mapping[int, float]) -> None:
    """Calls a second with so many replicas, and with as many that never wait."""
    with drawn(path) as axis:
        ideal = [NUM_STAGES * number / SERVICE_S for number in efficiencies]
        axis.plot(list(efficiencies), ideal, "--", label="lower bound of the time")
        reached = [most * share for most, share in zip(ideal, efficiencies.values(), strict=True)]
        axis.plot(list(efficiencies), reached, "o-", label="raydub, one driver")
        axis.set(xlabel="replicas in each of three pools", ylabel="calls/s")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_formatter("{x:g}")
        axis.legend(loc="upper left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--rounds", type=int, default=40, help="calls of each replica where efficiency is measured")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--plot", type=Path, help="write it here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    rounds = options.rounds // 4 if options.quick else options.rounds

    efficiencies = {}
    for num_replicas in (1, 2, 4, 8, 16, 32, 64):
        efficiencies[num_replicas] = round(efficiency(num_replicas, rounds), 4)
        print(f"{num_replicas:3} replicas a pool: {efficiencies[num_replicas]:.1%} of the lower bound", flush=True)
    per_cpu_s, per_s = ceiling(10_000 // share)
    print(f"ceiling: {per_cpu_s:.0f} segments per second of CPU, {per_s:.0f} per second", flush=True)
    added = {num: round(drivers(num, rounds), 4) for num in (1, 2, 4)}
    for num, found in added.items():
        print(f"{num} drivers: {found:.1%} of what as many could do at most", flush=True)
    early_bytes, late_bytes = memory_bytes(100_000 // share)
    growth_bytes = late_bytes - early_bytes
    print(f"memory: {early_bytes / 1e6:.0f} MB, then {late_bytes / 1e6:.0f} MB", flush=True)
    ray_ms = None
    if options.ray:
        ray_ms = round(ray_cost_ms(1_000 // share), 3)
        print(f"on real actors: {ray_ms:.2f} ms of the driver's CPU a segment", flush=True)
    if options.plot is not None:
        plot(options.plot, efficiencies)
    if options.json:
        shows = (
            min(efficiencies.values()) >= MIN_EFFICIENCY
            and per_cpu_s >= MIN_CEILING
            and min(added.values()) >= MIN_EFFICIENCY
            and growth_bytes <= MAX_GROWTH_BYTES
        )
        found = {
            "efficiency_by_replicas": efficiencies,
            "ceiling_per_cpu_s": round(per_cpu_s, 1),
            "ceiling_per_s": round(per_s, 1),
            "share_by_drivers": added,
            "memory_bytes": [early_bytes, late_bytes],
            "ray_driver_cpu_ms_per_segment": ray_ms,
            "shows": shows,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
