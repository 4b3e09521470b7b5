"""Compares plans with clusters: with simulated ones up to 1,000 GPUs, and with a real run of stand-in models.

    python bench/bench_plan.py [--quick] [--json]

 - pools: the code's own pools, streams, turns and dealing out of videos on a clock that jumps; only replicas and
   models are simulated (`plan_pools.py`). One GPU and eight.
 - simulated: whole batches call by call (`plan_simulation.py`), up to 1,000 GPUs and ten million lines; the small ones
   are compared with the pools, so that the simulation is not checked by itself.
 - real: two dubs of stand-in models, alone, give the times; then a batch with more replicas, videos and languages is
   planned, and run in this process.

Times are the founding performance report's (translation 50, alignment 20, speech 100 ms a line), one line a call, and
made-up ones of a GPU that gains by batches. In a simulated cluster each replica is ready at a random time up to the
planned one, and calls take random times around the planned mean.

Bounds: each plan within 15 % of its cluster, each small simulation within 15 % of the pools. Exit status 1 beyond.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import plan_pools
from bench.plan_simulation import Simulation, World
from cluster.analysis.packing import NodeShape
from cluster.analysis.plan import CapacityPlanner, PlanTask
from cluster.analysis.workload import PoolWork, Workload, measured_workload
from cluster.batch.items import jobs_of
from cluster.batch.run import items_of
from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.manifest import Manifest
from tests.standins.batches import make_batch

MAX_ERROR = 0.15
MIXED_S = (7200.0, 3600.0, 1800.0, 1200.0, 600.0, 600.0, 300.0, 300.0)


def founding() -> Workload:
    return Workload(
        pools=(
            PoolWork(name="transcription/faster_whisper", shared_per_hour=120, item_s=1.0),
            PoolWork(name="translation/nllb_ct2", language_per_hour=720, item_s=0.050),
            PoolWork(name="embedding/sbert", language_per_hour=720, item_s=0.020),
            PoolWork(name="speech/coqui", language_per_hour=720, item_s=0.100),
        ),
        lines_per_hour=720,
        videos_s=MIXED_S,
    )


def batched() -> Workload:
    return Workload(
        pools=(
            PoolWork(
                name="transcription/faster_whisper", shared_per_hour=130, language_per_hour=60, call_s=0.4, item_s=0.1
            ),
            PoolWork(name="translation/nllb_ct2", language_per_hour=800, call_s=0.1, item_s=0.004),
            PoolWork(name="embedding/sbert", language_per_hour=1500, call_s=0.02, item_s=0.001),
            PoolWork(name="speech/coqui", language_per_hour=1440, call_s=0.1, item_s=0.03),
        ),
        lines_per_hour=720,
        videos_s=MIXED_S,
    )


WORKLOADS = {"founding": founding, "batched": batched}
ONE_A_CALL = tuple(f"{task}.pool.batch.max_items=1" for task in ("transcription", "translation", "embedding", "speech"))
SETTINGS = (
    "drivers.num_cpus=8",
    "speech.engine=coqui",
    "speech.pool={num_gpus: 0.25, batch: {max_items: 16}}",
    "transcription.pool.num_gpus=0.35",
    "translation.pool.num_gpus=0.15",
    "embedding.pool.num_gpus=0.05",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    gpus: int
    times: str
    hours: float
    video_s: float | None
    """None for lengths from five minutes to two hours."""
    languages: int = 5
    start_s: float = 120.0
    with_pools: bool = False


CASES = (
    Case(gpus=1, times="founding", hours=1, video_s=600, with_pools=True),
    Case(gpus=1, times="batched", hours=2, video_s=1800, with_pools=True),
    Case(gpus=8, times="founding", hours=5, video_s=600, with_pools=True),
    Case(gpus=8, times="batched", hours=5, video_s=None, start_s=30, languages=2, with_pools=True),
    Case(gpus=8, times="batched", hours=100, video_s=3600),
    Case(gpus=8, times="founding", hours=20, video_s=7200, languages=1),
    Case(gpus=64, times="founding", hours=100, video_s=None),
    Case(gpus=64, times="batched", hours=500, video_s=None, start_s=600),
    Case(gpus=64, times="batched", hours=64, video_s=3600, languages=2),
    Case(gpus=1000, times="founding", hours=400, video_s=1200, languages=2, start_s=600),
    Case(gpus=1000, times="batched", hours=2778, video_s=None),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    case: Case
    gpus: int
    drivers: int
    videos: int
    lines: int
    planned_s: float
    simulated_s: float
    pools_s: float | None
    calls: int
    took_cpu_s: float

    @property
    def error(self) -> float:
        """Error of the plan, against the pools where they ran."""
        return self.planned_s / (self.pools_s or self.simulated_s) - 1

    @property
    def between(self) -> float:
        """Error of the simulation against the pools."""
        return 0.0 if self.pools_s is None else self.simulated_s / self.pools_s - 1

    def __str__(self) -> str:
        pools = "" if self.pools_s is None else f", pools {self.pools_s:.0f} s (simulation {self.between:+.1%})"
        lengths = "mixed" if self.case.video_s is None else f"{self.case.video_s / 60:.0f} min"
        return (
            f"{self.gpus:5} GPUs, {self.drivers:3} drivers, {self.case.times}, {self.videos} videos ({lengths}), "
            f"{self.lines:,} lines: planned {self.planned_s:.0f} s, {self.error:+.1%}; simulated "
            f"{self.simulated_s:.0f} s in {self.calls:,} calls, {self.took_cpu_s:.0f} s of CPU{pools}"
        )


def rows(cases: Sequence[Case]) -> Iterator[Row]:
    for number, case in enumerate(cases):
        workload, config = (
            WORKLOADS[case.times](),
            load_config("gpu", [*SETTINGS, *(ONE_A_CALL if case.times == "founding" else ())]),
        )
        task = PlanTask(
            hours=case.hours,
            languages=case.languages,
            max_gpus=case.gpus,
            video_s=case.video_s,
            start_s=case.start_s,
            driver_cpu_s=0.002,
            shape=NodeShape(gpus=8, cpus=256),
        )
        planner = CapacityPlanner(workload, config, task)
        cluster = planner.fastest()
        world = World(start_s=(case.start_s / 2, case.start_s), driver_realtime=planner.driver_realtime, seed=number)
        start_s = time.process_time()
        simulated = Simulation(workload, config, cluster, planner.videos_s, case.languages, world).run()
        took_s = time.process_time() - start_s
        pools_s = None
        if case.with_pools:
            pools_s = plan_pools.wall_s(workload, config, cluster, planner.videos_s, case.languages, world)
        yield Row(
            case=case,
            gpus=planner.packed(cluster).num_cards,
            drivers=cluster.num_drivers,
            videos=len(planner.videos_s),
            lines=simulated.num_lines,
            planned_s=cluster.wall_s,
            simulated_s=simulated.wall_s,
            pools_s=pools_s,
            calls=simulated.num_calls,
            took_cpu_s=took_s,
        )


# --- a real run


@dataclass(frozen=True, kw_only=True)
class RealRow:
    videos: int
    languages: int
    lines: int
    planned_s: float
    measured_s: float

    @property
    def error(self) -> float:
        return self.planned_s / self.measured_s - 1

    def __str__(self) -> str:
        return (
            f"real: {self.videos} videos into {self.languages} languages, {self.lines} lines of stand-in models: "
            f"planned {self.planned_s:.1f} s, took {self.measured_s:.1f} s, {self.error:+.1%}"
        )


def standins(folder: Path, *more: str) -> Config:
    """Translation takes half a second a line, speech two."""
    options = f"log: {folder / 'log'}, service_s:"
    settings = (
        "ray.mode=inline",
        "drivers.num_cpus=2",
        "store.url=none",
        "quality.check=none",
        "alignment.strategy=length",
        "translation.num_candidates=1",
        "translation.engine=tests.standins.counted_translator",
        f"translation.options={{{options} 0.5}}",
        "translation.pool.batch.max_items=1",
        "speech.engine=tests.standins.counted_speaker",
        f"speech.options={{{options} 2.0}}",
        "speech.pool.batch.max_items=1",
        *more,
    )
    return load_config("base", settings)


def dubbed(rows: Path, out: Path, languages: str, config: Config) -> tuple[list[Manifest], float]:
    """The manifests of a batch, and its wall time."""
    jobs = jobs_of(items_of([str(rows)], languages, None), str(out), config)
    start_s = time.monotonic()
    outcomes = asyncio.run(run(jobs, config, lambda progress: None, lambda outcome: None))
    wall_s = time.monotonic() - start_s
    return [outcome.manifest for outcome in outcomes if outcome.manifest is not None], wall_s


def real(folder: Path) -> RealRow:
    few, many = (make_batch(folder / name, number, 12) for name, number in (("few", 2), ("many", 12)))
    measured, _ = dubbed(few, folder / "alone", "pt", standins(folder))
    replicas = ("translation.pool.replicas=4", "speech.pool.replicas=8", "pipeline.max_videos=4")
    config = standins(folder, *replicas)
    workload = measured_workload(measured)
    num_videos = 12
    task = PlanTask(
        hours=num_videos * workload.videos_s[0] / 3600, languages=2, deadline_s=3600, video_s=workload.videos_s[0],
        start_s=1.0,
    )  # fmt: skip
    planner = CapacityPlanner(workload, config, task)
    planned = planner.timed(1, {"translation/tests.standins.counted_translator": 4,
                                "speech/tests.standins.counted_speaker": 8})  # fmt: skip
    manifests, wall_s = dubbed(many, folder / "out", "pt,es", config)
    lines = sum(len(dub.utterances) for manifest in manifests for dub in manifest.dubs)
    return RealRow(videos=num_videos, languages=2, lines=lines, planned_s=planned.wall_s, measured_s=wall_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small clusters, and the real run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    for row in rows([case for case in CASES if case.with_pools] if options.quick else CASES):
        found.append(row)
        print(row, flush=True)
    with tempfile.TemporaryDirectory() as name:
        run_row = real(Path(name))
    print(run_row, flush=True)
    shows = (
        all(abs(row.error) <= MAX_ERROR and abs(row.between) <= MAX_ERROR for row in found)
        and abs(run_row.error) <= MAX_ERROR
    )
    if options.json:
        told = [asdict(row) | {"error": row.error, "between": row.between} for row in found]
        print(json.dumps({"rows": told, "real": asdict(run_row) | {"error": run_row.error}, "shows": shows}))
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
