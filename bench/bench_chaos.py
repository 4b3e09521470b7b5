"""What it costs that everything goes wrong: the same work on the same pools, undisturbed and disturbed.

    python bench/bench_chaos.py [--json]

1,000 segments of 10 videos, 50 ms and 100 ms each, through 4 + 10 stand-in replicas on a Ray cluster of three nodes
on this machine.
Disturbed: kill -9 of a random replica every second, one hangs, speakers have no memory for more than two
items at a time, a node is dropped, and three segments are poison. Every segment must come out once, in
order, and only the poison as failed. Bound: at most 1.5 × the undisturbed wall time.
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

from tests.standins import chaos, nodes

BOUND = 1.5
POISON = frozenset({123, 456, 789})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    as_json: bool = parser.parse_args().json
    plan = chaos.Plan(num_translators=4, num_speakers=10, translate_s=0.05, speak_s=0.1)
    with nodes.cluster(num_workers=2) as (_, workers), tempfile.TemporaryDirectory() as folder:
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
    print(
        f"{stormy.num_kills} killed, {lost} replicas lost, failed {sorted(stormy.failed)}, processes left {len(left)}"
    )
    if as_json:
        found = {"calm_s": calm.wall_s, "disturbed_s": stormy.wall_s, "ratio": ratio, "kills": stormy.num_kills}
        found |= {"lost_replicas": lost, "failed": sorted(stormy.failed), "in_order": in_order, "left": len(left)}
        print(json.dumps(found | {"shows": shows}))


if __name__ == "__main__":
    main()
