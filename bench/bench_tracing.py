"""Measures what metrics and traces cost: the orchestration bench's work with both, and without either.

    python bench/bench_tracing.py [--pools 4,2,10] [--segments 40] [--pairs 100] [--of both|traces] [--json]

Many pairs of short runs, one after the other on the same warm pools of Ray actors that sleep, as the speed of a shared
machine changes by a third within some seconds; the order within a pair alternates. Ray is told of the metrics at the
end of each run, and not in between.
With: metrics are counted, and a trace is kept for a file. Without: meters do nothing, and nothing is recorded; with
``--of traces``, metrics are counted in both. CPU is that of the driver. The result is the median ratio over the pairs,
with a bootstrap interval of 95 %.

Bounds: wall time and driver CPU at most 2 % more (medians); exit 1 above.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from bench.contenders import MAX_PENDING, Stage, ray_cluster, stages_of, warm
from cluster.config.load import load_config
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.metrics import meters
from cluster.metrics.meters import MetricCounter, MetricGauge, MetricHistogram, export
from cluster.pools.cached_pool import PoolLike
from cluster.pools.pool_set import PoolSet
from cluster.streams import ordered_map
from cluster.tracing.spans import TraceParent, root_span, span

MAX_RATIO = 1.02


@dataclass(frozen=True, kw_only=True)
class Run:
    wall_s: float
    cpu_s: float


def _nothing(*_: object) -> None:
    """Count nothing."""


@contextmanager
def nothing_counted() -> Iterator[None]:
    """Meters do nothing inside."""
    with ExitStack() as stack:
        for meter, method in ((MetricCounter, "inc"), (MetricGauge, "set"), (MetricHistogram, "observe")):
            stack.enter_context(mock.patch.object(meter, method, _nothing))
        yield


async def open_pools(stack: AsyncExitStack, stages: Sequence[Stage], trace: Path) -> tuple[PoolSet, list[PoolLike]]:
    settings = ["ray.mode=cluster", "store.url=none", f"trace.path={trace}"]
    owner = await stack.enter_async_context(PoolSet(load_config("base", settings)))
    pools: list[PoolLike] = []
    for stage in stages:
        config = StageConfig(
            engine="tests.standins.sleeping",
            options={"service_s": stage.service_s},
            pool=PoolConfig(replicas=stage.replicas, num_cpus=0.01, batch=BatchLimits(max_items=1)),
        )
        pools.append(await owner.get("translation", config))
        await warm(pools[-1].submit, stage)
    return owner, pools


async def run(owner: PoolSet, pools: Sequence[PoolLike], num_segments: int, *, is_on: bool, of: str) -> Run:
    async def translate(index: int) -> int:
        with span("translate", item=f"u{index:04d}", branch="pt"):
            for pool in pools[:-1]:
                await pool.submit(index, order=index)
        return index

    async def speak(index: int) -> int:
        with span("speak", item=f"pt:u{index:04d}", branch="pt"):
            await pools[-1].submit(index, order=index)
        return index

    async def segments() -> Sequence[int]:
        lines = ordered_map(_numbers(num_segments), translate, MAX_PENDING)
        return [each async for each in ordered_map(lines, speak, MAX_PENDING)]

    start_s, start_cpu_s = time.monotonic(), time.process_time()
    with ExitStack() as stack:
        if is_on:
            stack.enter_context(root_span(owner.tracer.sink, TraceParent.inside(None), None, track="bench"))
        elif of == "both":
            stack.enter_context(nothing_counted())
        await segments()
        export()
    return Run(wall_s=time.monotonic() - start_s, cpu_s=time.process_time() - start_cpu_s)


async def _numbers(number: int) -> AsyncIterator[int]:
    for index in range(number):
        yield index


async def measure(
    stages: Sequence[Stage], num_segments: int, num_pairs: int, of: str, trace: Path
) -> list[tuple[Run, Run]]:
    """Pairs of a run with, and a run without."""
    pairs = []
    async with AsyncExitStack() as stack:
        owner, pools = await open_pools(stack, stages, trace)
        for number in range(num_pairs):
            found = {}
            for is_on in (True, False) if number % 2 else (False, True):
                found[is_on] = await run(owner, pools, num_segments, is_on=is_on, of=of)
            pairs.append((found[True], found[False]))
            print(f"pair {number + 1}: " + ", ".join(
                f"{what} {getattr(pairs[-1][0], key):.3f} s with, {getattr(pairs[-1][1], key):.3f} s without"
                for what, key in (("wall", "wall_s"), ("driver CPU", "cpu_s"))
            ), flush=True)  # fmt: skip
    return pairs


def ratio(pairs: Sequence[tuple[Run, Run]], key: str) -> tuple[float, float, float]:
    """Median ratio over the pairs, and its interval of 95 %."""
    ratios = np.array([getattr(on, key) / getattr(off, key) for on, off in pairs])
    samples = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(samples, axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", default="4,2,10", help="translators,aligners,speakers")
    parser.add_argument("--segments", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--of", choices=("both", "traces"), default="both", help="what is switched off")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    meters.EXPORT_EVERY_S = 1e6
    stages = stages_of(*(int(number) for number in options.pools.split(",")))
    with ray_cluster(), tempfile.TemporaryDirectory() as folder:
        pairs = asyncio.run(measure(stages, options.segments, options.pairs, options.of, Path(folder) / "trace.json"))
    found = {"wall": ratio(pairs, "wall_s"), "driver CPU": ratio(pairs, "cpu_s")}
    for what, (middle, low, high) in found.items():
        print(f"{'yes' if middle <= MAX_RATIO else 'NO':4}{what}: {middle:.4f} × ({low:.4f} to {high:.4f})")
    shows = all(middle <= MAX_RATIO for middle, _, _ in found.values())
    if options.json:
        rows = [{"on": asdict(on), "off": asdict(off)} for on, off in pairs]
        print(json.dumps({"rows": rows, "ratios": found, "shows": shows}))
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
