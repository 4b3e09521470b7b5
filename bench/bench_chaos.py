"""Measures the cost of losing everything in turn: the same work on the same pools, undisturbed and disturbed.

    python bench/bench_chaos.py [--scale 2] [--plot docs/chaos.svg] [--json]

1,000 segments of 10 videos, 50 ms × scale and 100 ms × scale each, through 4 + 10 stand-in replicas on a Ray cluster of
three nodes on this machine, of which as many start at a time after a loss as it has processors (`ray.max_starting`).
Disturbed: kill -9 of a random replica every second, one hangs, speakers have no memory for more than two
items at a time, a node is dropped, and three segments are poison. Every segment must come out once, in
order, and only the poison as failed. Bound: at most 1.25 × the undisturbed wall time. How much of it is left depends on
what a replica takes to start, which is computing: it is measured first, and printed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import tempfile
from pathlib import Path

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

import psutil

from bench.plots import drawn, thinned
from cluster.config.schema import PoolConfig, RayConfig, StageConfig
from cluster.pools.ray_session import max_starting
from cluster.pools.replicas import RayReplica
from tests.standins import chaos, nodes

BOUND = 1.25
POISON = frozenset({123, 456, 789})


async def start_cost_s(num_starts: int = 5) -> float:
    """Processor time that one replica takes to start, Ray's part included."""
    stage = StageConfig(engine="tests.standins.echo", pool=PoolConfig(num_cpus=0.5))
    before = psutil.cpu_times()
    for _ in range(num_starts):
        replica = RayReplica("translation", stage)
        await replica.place()
        await replica.load()
        replica.kill()
    after = psutil.cpu_times()
    return (after.user + after.system - before.user - before.system) / num_starts


def plot(path: Path, outcomes: dict[str, chaos.Outcome]) -> None:
    with drawn(path, columns=2) as (progress, replicas):
        for name, outcome in outcomes.items():
            at_s, done, serving = zip(*outcome.timeline, strict=True)
            progress.plot(thinned(at_s), thinned(done), label=name)
            replicas.step(thinned(at_s), thinned(serving), label=name)
        progress.set(title="segments done", xlabel="s")
        replicas.set(title="replicas serving", xlabel="s", ylim=(0, None))
        progress.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=2.0, help="times 50 and 100 ms a segment")
    parser.add_argument("--plot", type=Path, help="write it here")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    plan = chaos.Plan(
        num_translators=4,
        num_speakers=10,
        translate_s=0.05 * given.scale,
        speak_s=0.1 * given.scale,
        max_losses=PoolConfig().max_losses,
        max_starting=max_starting(RayConfig(mode="local")),
    )
    with nodes.cluster(num_workers=2) as (_, workers), tempfile.TemporaryDirectory() as folder:
        start_cpu_s = asyncio.run(start_cost_s())
        calm = asyncio.run(chaos.run(plan))
        disturbed = dataclasses.replace(
            plan,
            kill_every_s=1.0,
            poison=POISON,
            hang=Path(folder) / "hung",
            exhaust_above=2,
            after={0.3: workers[0].drop},
        )
        stormy = asyncio.run(chaos.run(disturbed))
    _, left = psutil.wait_procs([psutil.Process(p) for p in calm.pids | stormy.pids if psutil.pid_exists(p)], 20)

    ratio = stormy.wall_s / calm.wall_s
    segments = list(range(plan.num_videos * plan.num_segments))
    in_order = [segment for video in stormy.videos for segment, _ in video] == segments
    shows = ratio <= BOUND and in_order and stormy.failed == POISON and not left
    lost = sum(stats.num_lost_replicas for stats in stormy.stats)
    print(f"undisturbed {calm.wall_s:.1f} s, disturbed {stormy.wall_s:.1f} s: {ratio:.2f} × (bound {BOUND} ×)")
    print(f"a replica takes {start_cpu_s:.2f} s of CPU to start; {os.cpu_count()} processors")
    print(
        f"{stormy.num_kills} killed, {lost} replicas lost, failed {sorted(stormy.failed)}, processes left {len(left)}"
    )
    if given.plot is not None:
        plot(given.plot, {"undisturbed": calm, "disturbed": stormy})
    if given.json:
        found = {"calm_s": calm.wall_s, "disturbed_s": stormy.wall_s, "ratio": ratio, "kills": stormy.num_kills}
        found |= {"scale": given.scale, "start_cpu_s": start_cpu_s, "num_cpus": os.cpu_count()}
        found |= {"lost_replicas": lost, "failed": sorted(stormy.failed), "in_order": in_order, "left": len(left)}
        print(json.dumps(found | {"shows": shows}))


if __name__ == "__main__":
    main()
