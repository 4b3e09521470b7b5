"""Tests that a batch survives the death of anything: the same one undisturbed, and with everything going wrong.

    python bench/bench_jobs.py [--videos 24] [--seed 0] [--json]

So many videos × 2 languages, submitted by ``raydub submit`` to a Ray cluster of a head and three nodes on this
machine, with three drivers; with subtitles in place of listening, and engines that stand in for models and write
down what they compute. Then the same into another output with another store, and at random moments: a driver or
the job's coordinator is killed (SIGKILL), five times; a node is lost; the cluster is stopped and a new one started.
Where that ends the job, it is submitted again. It must come to the same results (texts, decoded samples, packets of
the picture, manifests), begin nothing whose result was stored, and account for every item. Last, the undisturbed
one again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

from ray.job_submission import JobStatus, JobSubmissionClient

from tests.standins.batches import LANGUAGES, Batch, code_on_nodes, coordinator_of, drivers, make_batch
from tests.standins.nodes import Node, cluster

NUM_LINES = 6
NUM_KILLS = 5
SERVICE_S = 0.1
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)
PATIENCE_S = 300.0


class Site:
    """A cluster that can be stopped, with the one that is started in its place."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._nodes: list[Node] = []
        self.address = ""

    def start(self) -> None:
        made, self._nodes = self._stack.enter_context(cluster(3, dashboard=True, num_cpus=4))
        self.address = f"http://{made.webui_url}"

    def stop(self) -> None:
        self._stack.close()

    def lose_a_node(self, chance: random.Random) -> None:
        self._nodes.pop(chance.randrange(len(self._nodes))).drop()


class Disturbed:
    """A batch, submitted as often as it takes."""

    def __init__(self, batch: Batch, site: Site, chance: random.Random) -> None:
        self._batch = batch
        self._site = site
        self._chance = chance
        self.happened: Counter[str] = Counter()
        self._submit()

    def disturb(self, num_works: int) -> None:
        """All that is to happen, in random order, spread over the ``num_works`` that there are to do."""
        events = ["kill"] * NUM_KILLS + ["lose node", "restart cluster"]
        self._chance.shuffle(events)
        for number, event in enumerate(events):
            due = num_works * (number + self._chance.uniform(0.3, 1.0)) / (len(events) + 1)
            self._until(lambda due=due: self._batch.computed().total() >= due)  # type: ignore[misc]
            getattr(self, "_" + event.replace(" ", "_"))()

    def end(self) -> None:
        self._until(lambda: self._status() is JobStatus.SUCCEEDED)

    def _kill(self) -> None:
        at_work = drivers()
        coordinator = coordinator_of(self._job)
        victims = {"driver": self._chance.choice(at_work) if at_work else None, "coordinator": coordinator}
        what = self._chance.choice([what for what, victim in victims.items() if victim is not None])
        victims[what].kill()
        self._note(f"{what} killed")

    def _lose_node(self) -> None:
        self._site.lose_a_node(self._chance)
        self._note("node lost")

    def _restart_cluster(self) -> None:
        self._site.stop()
        self._note("cluster stopped")
        self._site.start()
        self._submit()

    def _until(self, condition: Callable[[], bool]) -> None:
        """Submits again what has ended before its time, as somebody would who looks after it."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end_s:
                raise TimeoutError(f"the batch must get on; it did not within {PATIENCE_S:g} s; look into {self._job}")
            if (status := self._status()) in ENDED and not condition():
                self._note(f"job {status.value.lower()}")
                self._submit()
            time.sleep(0.2)

    def _status(self) -> JobStatus:
        return JobSubmissionClient(self._site.address).get_job_status(self._job)

    def _submit(self) -> None:
        self._job = self._batch.submit(self._site.address)
        self._note("submitted")

    def _note(self, what: str) -> None:
        self.happened[what] += 1
        print(f"{self._batch.computed().total():5} computed: {what}", flush=True)


def timed(work: Callable[[], object]) -> float:
    start_s = time.monotonic()
    work()
    return time.monotonic() - start_s


def accounted_for(batch: Batch, num_videos: int) -> bool:
    """Every item is in the summary once, as done."""
    summary = batch.summary()
    assert summary is not None
    return summary.states == {"done": num_videos} and len({item.source for item in summary.items}) == num_videos


def measure(folder: Path, num_videos: int, seed: int) -> dict[str, Any]:
    rows = make_batch(folder / "videos", num_videos, NUM_LINES)
    calm = Batch(rows=rows, folder=folder / "calm", service_s=SERVICE_S, num_drivers=3)
    stormy = Batch(rows=rows, folder=folder / "stormy", service_s=SERVICE_S, num_drivers=3)
    site = Site()
    site.start()
    try:
        calm_s = timed(lambda: calm.submit(site.address, "--wait"))
        num_works = calm.computed().total()
        again_s = timed(lambda: calm.submit(site.address, "--wait"))
        num_again = calm.computed().total() - num_works
        disturbed = Disturbed(stormy, site, random.Random(seed))
        stormy_s = timed(lambda: (disturbed.disturb(num_works), disturbed.end()))
    finally:
        site.stop()
    computed = stormy.computed()
    shows = {
        "same_results": len(calm.contents()) == num_videos and calm.contents() == stormy.contents(),
        "nothing_stored_was_computed": not stormy.computed_though_stored() and stormy.is_all_stored(),
        "accounted_for": accounted_for(calm, num_videos) and accounted_for(stormy, num_videos),
        "again_nothing": num_again == 0,
        "all_happened": disturbed.happened["node lost"] == disturbed.happened["cluster stopped"] == 1
        and sum(disturbed.happened[f"{what} killed"] for what in ("driver", "coordinator")) == NUM_KILLS,
    }
    return {
        "videos": num_videos,
        "languages": len(LANGUAGES),
        "seed": seed,
        "works": num_works,
        "calm_s": calm_s,
        "again_s": again_s,
        "stormy_s": stormy_s,
        "happened": dict(disturbed.happened),
        "cut_short_and_computed_again": computed.total() - len(computed),
        "computed_though_stored": len(stormy.computed_though_stored()),
        "checks": shows,
        "shows": all(shows.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, code_on_nodes():
        found = measure(Path(name), options.videos, options.seed)
    print(f"undisturbed {found['calm_s']:.1f} s, again {found['again_s']:.1f} s, disturbed {found['stormy_s']:.1f} s")
    print(f"{found['works']} works; begun again because they were cut short: {found['cut_short_and_computed_again']}")
    print(", ".join(f"{what}: {count}" for what, count in found["happened"].items()))
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
