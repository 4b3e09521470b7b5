"""Measures a small job beside a big one on the same pools, and the cost of fairness for the big one.

    python bench/bench_fairness.py [--plot docs/fairness.svg] [--json]

Jobs of 4 s of media a segment go through two pools, of one and two replicas, in batches of 4. First on
in-process replicas that sleep: a small job (40 segments) alone, started together with a big one (800), and
started when the big one has filled every queue; then that at a higher priority. Then mixes of jobs on replicas
and a clock that are simulated, with turns by length as `fairness.job_weight` says and, in brackets, equal turns.

Bounds: the small job at most 1.5 × its time alone; the big one at most 1.1 × its own and the small one's work; among
small ones that never end a big one has at least a quarter of an equal share; no mix takes 2 % longer than equal turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.host import BatchReport
from actors.types import Task
from bench.plots import drawn, thinned
from cluster.analysis.virtual_clock import run_in_virtual_time
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.fairness import job_weight
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica, Replica
from cluster.streams import ordered_map
from tests.standins.echo import Item

BIG, SMALL = 800, 40
SEGMENT_S = 4.0
BOUND, BIG_BOUND, MIN_SHARE, MAX_LOSS = 1.5, 1.1, 0.25, 1.02
SERVICE_S = (0.005, 0.02)
MAX_PENDING = 32
"""Segments of one job under way, as pipeline.max_utterances."""

Weight = Callable[[float], float]


class Simulated(Replica):
    """Serves batches one after another."""

    def __init__(self, task: Task, stage: StageConfig) -> None:
        self._free_at_s = 0.0

    async def load(self) -> None:
        pass

    async def run(self, batch: Sequence[Item]) -> BatchReport:
        loop, run_s = asyncio.get_running_loop(), sum(item.sleep_s for item in batch)
        self._free_at_s = max(loop.time(), self._free_at_s) + run_s
        await asyncio.sleep(self._free_at_s - loop.time())
        return BatchReport(results=list(batch), run_s=run_s)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


def pool_of(replicas: int, kind: type[Replica]) -> Pool:
    config = PoolConfig(replicas=replicas, batch=BatchLimits(max_items=4), max_pending_items=256)
    return Pool("translation", StageConfig(engine="tests.standins.echo", pool=config), kind)


@dataclass(slots=True)
class Run:
    """Jobs on the same two pools."""

    pools: tuple[Pool, Pool]
    weight: Weight = job_weight
    done_s: dict[str, list[float]] = field(default_factory=dict)
    """For each job: when each of its segments was ready."""

    async def dub(self, job: str, number: int, priority: int = 0) -> float:
        """Seconds for so many segments, first to last."""
        done_s = self.done_s.setdefault(job, [])

        async def segments() -> AsyncIterator[int]:
            for index in range(number):
                yield index

        async def one(index: int) -> None:
            for pool, sleep_s in zip(self.pools, SERVICE_S, strict=True):
                item = Item(value=index, sleep_s=sleep_s)
                weight = self.weight(number * SEGMENT_S)
                await pool.submit(item, order=index, job=job, priority=priority, weight=weight)

        clock = asyncio.get_running_loop().time
        start_s = clock()
        async for _ in ordered_map(segments(), one, MAX_PENDING):
            done_s.append(clock())
        assert len(done_s) == number
        return clock() - start_s


# --- on threads, in real time


async def measure(late_s: float | None, priority: int = 0) -> float:
    """Seconds of the small job: alone if ``late_s`` is None, else so long after the big one began."""
    async with pool_of(1, InlineReplica) as first, pool_of(2, InlineReplica) as second:
        run = Run((first, second))
        await run.dub("warm", 8)
        if late_s is None:
            return await run.dub("small", SMALL)
        big = asyncio.create_task(run.dub("big", BIG))
        await asyncio.sleep(late_s)
        small_s = await run.dub("small", SMALL, priority)
        assert not big.done(), "the big job must outlast the small one"
        big.cancel()
        await asyncio.gather(big, return_exceptions=True)
        return small_s


# --- simulated


async def simulate(jobs: Mapping[str, int], weight: Weight) -> tuple[dict[str, float], Run]:
    """Seconds of each of these jobs of so many segments, started together."""
    async with pool_of(1, Simulated) as first, pool_of(2, Simulated) as second:
        run = Run((first, second), weight)
        took_s = await asyncio.gather(*(run.dub(job, number) for job, number in jobs.items()))
    return dict(zip(jobs, took_s, strict=True)), run


async def endless(weight: Weight) -> float:
    """A big job's share of the work, ÷ half of the work, while one small job after another comes beside it."""
    async with pool_of(1, Simulated) as first, pool_of(2, Simulated) as second:
        run = Run((first, second), weight)
        big = asyncio.create_task(run.dub("big", BIG))
        await asyncio.sleep(0.5)
        before = len(run.done_s["big"])
        num_small = 12
        for number in range(num_small):
            await run.dub(f"small {number}", SMALL)
        assert not big.done(), "the big job must outlast the small ones"
        num_big = len(run.done_s["big"]) - before
        big.cancel()
        await asyncio.gather(big, return_exceptions=True)
    return 2 * num_big / (num_big + num_small * SMALL)


MIXES: dict[str, dict[str, int]] = {
    "small and big": {"small": SMALL, "big": BIG},
    "three equal": {"one": 200, "two": 200, "three": 200},
    "ten small and a big one": {**{f"small {number}": SMALL for number in range(10)}, "big": BIG},
}


def mixes(weight: Weight) -> list[dict[str, float | str]]:
    """For each mix: the slowest small job's time ÷ alone, the big one's ÷ (its own + the others' work), and the wall
    time ÷ that of everything as one job."""
    rows: list[dict[str, float | str]] = []
    alone_s = {
        number: run_in_virtual_time(simulate({"alone": number}, weight))[0]["alone"] for number in (40, 200, 800)
    }
    for name, jobs in MIXES.items():
        took_s, _ = run_in_virtual_time(simulate(jobs, weight))
        as_one_s = run_in_virtual_time(simulate({"all": sum(jobs.values())}, weight))[0]["all"]
        biggest = max(jobs, key=lambda job: jobs[job])
        others_s = sum(alone_s[number] for job, number in jobs.items() if job != biggest)
        rows.append(
            {
                "mix": name,
                "slowest": max(took_s[job] / alone_s[number] for job, number in jobs.items() if job != biggest),
                "biggest": took_s[biggest] / (alone_s[jobs[biggest]] + others_s),
                "wall": max(took_s.values()) / as_one_s,
            }
        )
    return rows


def plot(path: Path) -> None:
    rules: tuple[tuple[str, Weight], ...] = (("by length", job_weight), ("equal turns", lambda _: 1.0))
    with drawn(path, columns=2) as axes:
        for axis, (name, weight) in zip(axes, rules, strict=True):
            _, run = run_in_virtual_time(simulate(MIXES["small and big"], weight))
            for job, at_s in run.done_s.items():
                axis.plot(thinned(at_s), thinned([100 * (n + 1) / len(at_s) for n in range(len(at_s))]), label=job)
            axis.set(title=f"{SMALL} segments beside {BIG}, {name}", xlabel="s (simulated)", ylabel="% of the job done")
            axis.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="write it here")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    alone_s = asyncio.run(measure(None))
    together, late = (asyncio.run(measure(late_s)) / alone_s for late_s in (0.0, 1.0))
    preferred = asyncio.run(measure(1.0, priority=1)) / alone_s
    print(f"small job alone {alone_s:.2f} s; × that, started together: {together:.2f}, late: {late:.2f}", end="")
    print(f", late at higher priority: {preferred:.2f} (bound {BOUND})")

    by_length, equal = mixes(job_weight), mixes(lambda _: 1.0)
    for ours, other in zip(by_length, equal, strict=True):
        print(f"{ours['mix']}:", end=" ")
        print(", ".join(f"{key} {ours[key]:.2f} × ({other[key]:.2f})" for key in ("slowest", "biggest", "wall")))
    share, equal_share = run_in_virtual_time(endless(job_weight)), run_in_virtual_time(endless(lambda _: 1.0))
    print(f"beside small ones without end: the big one has {share:.2f} of an equal share ({equal_share:.2f})")
    if given.plot is not None:
        plot(given.plot)

    shows = (
        max(together, late, preferred, float(by_length[0]["slowest"])) <= BOUND
        and max(float(row["biggest"]) for row in by_length) <= BIG_BOUND
        and share >= MIN_SHARE
        and all(float(a["wall"]) <= MAX_LOSS * float(b["wall"]) for a, b in zip(by_length, equal, strict=True))
    )
    if given.json:
        found = {"alone_s": alone_s, "together": together, "late": late, "preferred": preferred}
        found |= {"by_length": by_length, "equal": equal, "share": share, "equal_share": equal_share}
        print(json.dumps(found | {"shows": shows}))


if __name__ == "__main__":
    main()
