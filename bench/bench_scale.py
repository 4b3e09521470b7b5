"""Measures what a batch of 100 to 100,000 videos, and 1 to 1,000 replicas, cost for each video.

    python bench/bench_scale.py [--only coordinator,driver,submit,…] [--quick] [--folder DIR] [--plot docs/scale.svg]
                                [--json]

Every part runs the product's own code on this machine's storage; ``--folder`` says where.
 - coordinator: whole batches on drivers that take no time (5 languages a video): CPU and memory of the coordinator per
   video, with its ledger, statuses and summary. Two sizes run at the same time on one core, so that whatever else the
   machine does meets them alike. Inputs are not opened: each takes the same milliseconds, however many there are
 - driver: CPU of a real driver with stand-in engines for a real dub, with 1,000 to 100,000 results beside its own, in
   turns; and the bytes that it keeps of each
 - submit: seconds from `raydub submit` to the first spoken line, of a real batch on Ray with stand-in engines

Bounds: CPU and memory per video of coordinator and driver at 100,000 videos within 10 % of those at 1,000; the first
line within 10 s of the submission of 100,000. Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

from bench import scale_batch
from tests.standins.batches import code_on_nodes

SIZES = (100, 1_000, 10_000, 100_000)
FEW, MANY = 1_000, 100_000
MAX_CHANGE = 0.1
MAX_FIRST_LINE_S = 10.0
NUM_DRIVERS = (1, 10, 100, 1_000)
Found = dict[str, Any]


def on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    """The result of ``work`` in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def side_by_side(work: Callable[..., Any], each: Sequence[Sequence[object]], root: Path | None) -> list[Any]:
    """Results of ``work(*arguments, root, stop)`` on one core; those that end first repeat until the last one ends."""
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(len(each), multiprocessing.get_context("spawn"), on_one_core) as processes,
    ):
        stop = Path(name) / "stop"
        under_way = [processes.submit(work, number, root, stop, *more) for number, *more in each]
        under_way[-1].add_done_callback(lambda _: stop.touch())
        return [future.result() for future in under_way]


def change(rows: Sequence[Mapping[str, float]], figure: str, few: int, many: int, by: str = "videos") -> float:
    """Change of a figure from few to many, as a share."""
    at = {row[by]: row[figure] for row in rows}
    return at[many] / at[few] - 1


def coordinator(sizes: Sequence[int], root: Path | None) -> Found:
    hundred, few, *between, many = sizes
    cpu = side_by_side(scale_batch.coordinator_cpu, [(few,), (many,)], root)
    cpu += side_by_side(scale_batch.coordinator_cpu, [(number,) for number in (hundred, *between)], root)
    cpu.sort(key=lambda row: row["videos"])
    memory = [apart(scale_batch.coordinator_bytes, number, root) for number in sizes]
    by_drivers = side_by_side(scale_batch.coordinator_cpu, [(FEW, number) for number in NUM_DRIVERS], root)
    rows = [one | other for one, other in zip(cpu, memory, strict=True)]
    changes = {figure: change(rows, figure, few, many) for figure in ("cpu_ms", "bytes")}
    for row in rows:
        print(
            f"  {row['videos']:7} videos: {row['cpu_ms']:.3f} ms of CPU, {row['bytes']:.0f} bytes a video", flush=True
        )
    for row in by_drivers:
        print(f"  {row['drivers']:7} drivers: {row['cpu_ms']:.3f} ms of CPU a video", flush=True)
    print("  " + ", ".join(f"{figure} {value:+.1%}" for figure, value in changes.items()) + f" from {few} to {many}")
    return {
        "sizes": rows,
        "by_drivers": by_drivers,
        "changes": changes,
        "shows": all(value <= MAX_CHANGE for value in changes.values()),
    }


def driver(sizes: Sequence[int], root: Path | None) -> Found:
    num_dubs = 12 if sizes[-1] == MANY else 3
    rows = apart(_run, scale_batch.drivers_cpu, sizes[1:], num_dubs, root)
    growth_bytes = apart(_run, scale_batch.driver_growth_bytes, 2 * num_dubs, root)
    for row in rows:
        print(f"  {row['videos']:7} results beside: {row['cpu_ms']:.0f} ms of CPU a dub, {row['to_fewest']:.3f} ×")
    print(f"  {growth_bytes:.0f} bytes kept of each dub", flush=True)
    changed = rows[-1]["to_fewest"] - 1
    return {"sizes": rows, "growth_bytes": growth_bytes, "change": changed, "shows": changed <= MAX_CHANGE}


def submit(sizes: Sequence[int], root: Path | None) -> Found:
    rows = [apart(scale_batch.submit, number, root) for number in sizes]
    for row in rows:
        print(
            f"  {row['videos']:7} videos: submitted in {row['submit_s']:.2f} s, first line in {row['first_s']:.2f} s,"
            f" {row['to_first_line_s']:.2f} s in all",
            flush=True,
        )
    return {"sizes": rows, "shows": rows[-1]["to_first_line_s"] <= MAX_FIRST_LINE_S}


def _run(work: Callable[..., Any], *arguments: object) -> Any:
    return asyncio.run(work(*arguments))


PARTS: Mapping[str, Callable[[Sequence[int], Path | None], Found]] = {
    "coordinator": coordinator,
    "driver": driver,
    "submit": submit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="up to a tenth of the videos")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = list(PARTS) if options.only is None else options.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"--only must name parts of {', '.join(PARTS)}; found {', '.join(sorted(unknown))}")
    sizes = SIZES[:-1] if options.quick else SIZES
    found: Found = {}
    with code_on_nodes():
        for name in names:
            print(f"{name}:", flush=True)
            found[name] = PARTS[name](sizes, options.folder)
    shows = all(part["shows"] for part in found.values())
    print(f"bounds met: {', '.join(name for name in names if found[name]['shows']) or 'none'}")
    if options.json:
        print(json.dumps(found | {"shows": shows}))
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
