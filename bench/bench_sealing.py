"""Measures how late batches are fixed, and how full: latency under load, and one film against four.

    python bench/bench_sealing.py [--seeds 3] [--json]

Replicas and clock are simulated; a call takes half a second, whatever the batch up to 16, and a batch is 5 ms on its
way. First, requests come at random (Poisson) at shares of what the replicas can answer. Each run is paired with one
over the same arrivals in which a busy replica is handed whatever waits after 20 ms ("early"). Then films ask for their
windows in order, a number of them at a time, as pipeline.max_windows says. Full: items of all batches between the first
and the last ÷ their room.

Bounds: median latency at least 25 % shorter than early below full load; nowhere 1 % less throughput; batches at least
90 % full with one film and with four of 32 windows at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from actors.host import BatchReport
from actors.types import Task
from cluster.analysis.virtual_clock import run_in_virtual_time
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools import pool as pool_module
from cluster.pools.pool import Pool
from cluster.pools.replicas import Replica
from cluster.pools.scheduling import Backlog, ReplicaLoad, Send, Wait, next_batch
from cluster.streams import ordered_map
from tests.standins.echo import Item

CALL_S, DELIVERY_S, MAX_ITEMS = 0.5, 0.005, 16
LOADS, NUMS_REPLICAS = (0.3, 0.5, 0.7, 0.9, 1.1), (1, 4)
NUM_REQUESTS, NUM_WARM_UP = 4000, 400
EARLY_S = 0.02
FILMS = ((1, 32), (4, 32), (1, 4))
"""Number of films, and windows of each at a time."""
NUM_WINDOWS = 240
"""Windows of one film, which lasts two hours."""
MIN_GAIN, MIN_THROUGHPUT, MIN_FULL = 0.25, 0.99, 0.9

Decide = Callable[[Backlog, Sequence[ReplicaLoad], BatchLimits, float, float], Send | Wait]


class Simulated(Replica):
    """Runs batches one after another, each for the same time."""

    batches: list[int]
    """Number of items of each batch of all replicas."""

    def __init__(self, task: Task, stage: StageConfig) -> None:
        self._free_at_s = 0.0

    async def load(self) -> None:
        pass

    async def run(self, batch: Sequence[Item]) -> BatchReport:
        loop = asyncio.get_running_loop()
        self.batches.append(len(batch))
        self._free_at_s = max(loop.time() + DELIVERY_S, self._free_at_s) + CALL_S
        await asyncio.sleep(self._free_at_s - loop.time())
        return BatchReport(results=list(batch), run_s=CALL_S)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


def sealed_early() -> Decide:
    """The decision for one pool that hands whatever waits to a busy replica, ``EARLY_S`` after the first of it came."""
    since_s: float | None = None

    def decide(
        backlog: Backlog, replicas: Sequence[ReplicaLoad], limits: BatchLimits, lead_s: float, now_s: float
    ) -> Send | Wait:
        nonlocal since_s
        since_s = since_s if backlog.num_items and since_s is not None else now_s
        open_to_work = [replica for replica in replicas if replica.num_batches < limits.in_flight]
        if not backlog.num_items or not open_to_work:
            return Wait()
        least = min(open_to_work, key=lambda replica: (replica.num_batches, replica.running_since_s))
        is_due = now_s >= since_s + EARLY_S or backlog.num_items >= limits.max_items
        if not least.num_batches or is_due:
            since_s = None
            return Send(replica_id=least.id, max_items=limits.max_items)
        return Wait(until_s=since_s + EARLY_S)

    return decide


@contextmanager
def deciding(decide: Decide) -> Iterator[list[int]]:
    """Pools that decide so; yields the sizes of their batches."""
    before: Any = pool_module.next_batch
    pool_module.next_batch = decide
    Simulated.batches = []
    try:
        yield Simulated.batches
    finally:
        pool_module.next_batch = before


def pool_of(num_replicas: int) -> Pool:
    config = PoolConfig(replicas=num_replicas, batch=BatchLimits(max_items=MAX_ITEMS), max_pending_items=100_000)
    return Pool("translation", StageConfig(engine="tests.standins.echo", pool=config), Simulated)


# --- latency


async def _latencies(num_replicas: int, load: float, seed: int) -> tuple[list[float], float]:
    """Seconds of each request, and answers a second."""
    randomly = random.Random(seed)
    rate = load * num_replicas * MAX_ITEMS / CALL_S
    clock = asyncio.get_running_loop().time
    found_s: list[float] = []

    async def one(pool: Pool) -> None:
        start_s = clock()
        await pool.submit(Item(value=0))
        found_s.append(clock() - start_s)

    async with pool_of(num_replicas) as pool, asyncio.TaskGroup() as group:
        begin_s = clock()
        for _ in range(NUM_REQUESTS):
            group.create_task(one(pool))
            await asyncio.sleep(randomly.expovariate(rate))
    return found_s[NUM_WARM_UP:], NUM_REQUESTS / (clock() - begin_s)


def latency_row(num_replicas: int, load: float, num_seeds: int) -> dict[str, float]:
    """Medians over pairs of runs."""
    pairs: list[dict[str, float]] = []
    for seed in range(num_seeds):
        with deciding(sealed_early()):
            early_s, early_rate = run_in_virtual_time(_latencies(num_replicas, load, seed))
        with deciding(next_batch):
            ours_s, our_rate = run_in_virtual_time(_latencies(num_replicas, load, seed))
        early_p95, our_p95 = (statistics.quantiles(times, n=20)[-1] for times in (early_s, ours_s))
        pairs.append(
            {
                "early_s": statistics.median(early_s),
                "ours_s": statistics.median(ours_s),
                "gain": 1 - statistics.median(ours_s) / statistics.median(early_s),
                "p95_gain": 1 - our_p95 / early_p95,
                "throughput": our_rate / early_rate,
            }
        )
    return {"replicas": num_replicas, "load": load} | {
        key: statistics.median(pair[key] for pair in pairs) for key in pairs[0]
    }


# --- films


async def _films(num_films: int, at_a_time: int) -> None:
    async with pool_of(1) as pool, asyncio.TaskGroup() as group:
        for film in range(num_films):
            group.create_task(_transcribed(pool, str(film), at_a_time))


async def _transcribed(pool: Pool, film: str, at_a_time: int) -> None:
    async def windows() -> AsyncIterator[int]:
        for index in range(NUM_WINDOWS):
            yield index

    async def one(index: int) -> Any:
        return await pool.submit(Item(value=index), order=index, job=film)

    async for _ in ordered_map(windows(), one, at_a_time):
        pass


def film_row(num_films: int, at_a_time: int, decide: Decide) -> dict[str, float]:
    with deciding(decide) as sizes:
        run_in_virtual_time(_films(num_films, at_a_time))
    full = sum(sizes[1:-1]) / (MAX_ITEMS * len(sizes[1:-1]))
    return {"films": num_films, "at_a_time": at_a_time, "batches": len(sizes), "full": full}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    rows = [latency_row(number, load, given.seeds) for number in NUMS_REPLICAS for load in LOADS]
    for row in rows:
        print(
            f"{row['replicas']} replicas at {row['load']:.0%}: median {row['early_s']:.3f} s early, "
            f"{row['ours_s']:.3f} s ours, {row['gain']:.0%} less; p95 {row['p95_gain']:.0%} less; "
            f"throughput × {row['throughput']:.3f}"
        )
    films = [film_row(*film, next_batch) for film in FILMS]
    early = [film_row(*film, sealed_early()) for film in FILMS]
    for row, other in zip(films, early, strict=True):
        print(
            f"{row['films']} films, {row['at_a_time']} windows at a time: batches {row['full']:.0%} full "
            f"({other['full']:.0%} early)"
        )
    shows = (
        all(row["gain"] >= MIN_GAIN for row in rows if row["load"] < 1)
        and all(row["throughput"] >= MIN_THROUGHPUT for row in rows)
        and all(row["full"] >= MIN_FULL for row in films if row["at_a_time"] >= 2 * MAX_ITEMS)
    )
    print("yes" if shows else "NO")
    if given.json:
        print(json.dumps({"latency": rows, "films": films, "films_early": early, "shows": shows}))


if __name__ == "__main__":
    main()
