"""Counts batches that end well though a node is lost while their drivers and replicas are being placed.

    python bench/bench_placement.py [--kills 20] [--within 0.8] [--seed 1] [--json]

Three nodes of three cores on this machine, four clips and two drivers, of which each needs 4 CPUs: there is room for
both, and for one and a half once a random node is dropped, at a random moment in the share ``--within`` of the time
that an undisturbed batch takes, most of which is placing. Every batch must end with all clips dubbed, and leave no
placement group. A cluster without an autoscaler is waited for 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

from tests.media import AudioSpec, make_media, speech
from tests.standins import nodes
from tests.standins.tight_batch import TightBatch, groups_left, processes

PATIENCE_S = 300.0
SETTINGS = ("ray.full_timeout_s=10", "speech.options.service_s=0.5")


async def disturbed(batch: TightBatch, victim: nodes.Node | None, after_s: float) -> dict[str, Any]:
    """Run a batch, and drop a node a while after its start."""
    start_s = time.monotonic()
    work = asyncio.create_task(batch.outcomes())
    await asyncio.wait((work,), timeout=after_s)
    found: dict[str, Any] = {
        "was_done": work.done(),
        "after_s": round(after_s, 2),
        "drivers": len(processes("Driver")),
        "replicas": len(processes("ActorHost")),
    }
    if victim is not None:
        await asyncio.to_thread(victim.drop)
    done, _ = await asyncio.wait((work,), timeout=PATIENCE_S)
    found["wall_s"] = round(time.monotonic() - start_s, 1)
    if not done:
        work.cancel()
        await asyncio.wait((work,))
        return found | {"errors": ["nothing was done in time"], "groups_left": len(groups_left())}
    errors = [outcome.error for outcome in work.result() if outcome.error is not None]
    return found | {"errors": errors, "groups_left": len(groups_left()), "num_told": len(batch.told)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--within", type=float, default=0.8, help="share of an undisturbed batch's time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        nodes.cluster(3, num_cpus=3, head_cpus=0) as (_, workers),
    ):
        clip = make_media(Path(folder) / "clip.m4a", audio=[AudioSpec(samples=speech("Good evening."))])
        runs = []
        for number in range(given.kills + 1):
            own = Path(folder) / str(number)
            own.mkdir()
            batch = TightBatch(own, clip, *SETTINGS, num_drivers=2)
            victim = workers.pop(chance.randrange(len(workers))) if number else None
            longest_s = given.within * runs[0]["wall_s"] if runs else PATIENCE_S
            runs.append(asyncio.run(disturbed(batch, victim, chance.uniform(0, longest_s))))
            print(f"{number}: {runs[-1]}", flush=True)
            if victim is not None:
                workers.append(workers[0].add_like(num_cpus=3))
    calm, *killed = runs
    num_well = sum(not run["errors"] and not run["groups_left"] for run in killed)
    walls_s = sorted(run["wall_s"] for run in killed)
    print(f"{num_well} of {len(killed)} ended well; undisturbed {calm['wall_s']} s, disturbed {walls_s}")
    if given.json:
        print(json.dumps({"runs": runs, "num_well": num_well, "shows": num_well == len(killed)}))


if __name__ == "__main__":
    main()
