"""Measures what a batch of 100 to 100,000 videos, and 1 to 1,000 replicas, cost for each video.

    python bench/bench_scale.py [--only coordinator,submit,…] [--quick] [--folder DIR] [--plot docs/scale.svg]
                                [--save FILE] [--json]

Every part runs the product's own code on this machine's storage; ``--folder`` says where.
 - coordinator: CPU per video of whole batches on drivers that take no time, 5 languages a video, with ledger, statuses
   and summary. All sizes run at the same time on one core, so that whatever else the machine does meets them alike.
   Inputs are not opened: each takes the same milliseconds, however many there are
 - drivers: the same, of 1,000 videos on 1 to 1,000 drivers, which are opened and closed for them
 - memory: most bytes that Python held per video in such batches
 - driver: CPU of a real driver with stand-in engines for a real dub, with 1,000 to 100,000 results beside its own, in
   turns; and the bytes that it keeps of each
 - submit: seconds from `raydub submit` to the first spoken line, of a real batch on Ray with stand-in engines
 - replicas: CPU of a driver for a batch, with 1 to 1,000 replicas that answer at once, and the metrics' series
 - database: milliseconds of the service's queries with up to a million dubs of one owner, SQLite
 - store: CPU per put, and memory, of a full store's evictions
 - leases: CPU of an output's lease and scratch folder beside other results

``--save`` adds the found figures to those of a JSON file, from which ``--plot`` draws.

Bounds: CPU and memory per video of coordinator and driver at 100,000 videos within 10 % of those at 1,000; the first
line within 10 s of the submission of 100,000; memory of an eviction and time of a lease do not grow with the number.
Exit status 1 otherwise.
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

from bench import scale_batch, scale_service
from bench.plots import drawn
from tests.standins.batches import code_on_nodes

SIZES = (100, 1_000, 10_000, 100_000)
FEW, MANY = 1_000, 100_000
MAX_CHANGE = 0.1
MAX_FIRST_LINE_S = 10.0
NUM_DRIVERS = NUM_REPLICAS = (1, 10, 100, 1_000)
MAX_BATCH_MS, MAX_QUERY_MS = 0.3, 100.0
MAX_LOOK_BYTES = 20_000_000
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
        under_way = [
            processes.submit(work, number, root, stop, at == len(each) - 1, *more)
            for at, (number, *more) in enumerate(each)
        ]
        under_way[-1].add_done_callback(lambda _: stop.touch())
        return [future.result() for future in under_way]


def change(rows: Sequence[Mapping[str, float]], figure: str, few: int, many: int, by: str = "videos") -> float:
    """Change of a figure from few to many, as a share."""
    at = {row[by]: row[figure] for row in rows}
    return at[many] / at[few] - 1


def coordinator(sizes: Sequence[int], root: Path | None) -> Found:
    rows = side_by_side(scale_batch.coordinator_cpu, [(number,) for number in sizes], root)
    for row in rows:
        print(f"  {row['videos']:7} videos: {row['cpu_ms']:.3f} ms of CPU a video", flush=True)
    changed = change(rows, "cpu_ms", sizes[1], sizes[-1])
    print(f"  {changed:+.1%} from {sizes[1]} to {sizes[-1]} videos", flush=True)
    return {"sizes": rows, "change": changed, "shows": changed <= MAX_CHANGE}


def drivers(sizes: Sequence[int], root: Path | None) -> Found:
    rows = side_by_side(scale_batch.coordinator_cpu, [(FEW, number) for number in NUM_DRIVERS], root)
    for row in rows:
        print(f"  {row['drivers']:7} drivers: {row['cpu_ms']:.3f} ms of CPU a video", flush=True)
    changed = change(rows, "cpu_ms", 10, NUM_DRIVERS[-1], by="drivers")
    return {"sizes": rows, "change": changed, "shows": changed <= 1.0}


def memory(sizes: Sequence[int], root: Path | None) -> Found:
    rows = [apart(scale_batch.coordinator_bytes, number, root) for number in sizes]
    for row in rows:
        print(f"  {row['videos']:7} videos: {row['bytes']:.0f} bytes a video", flush=True)
    changed = change(rows, "bytes", sizes[1], sizes[-1])
    print(f"  {changed:+.1%} from {sizes[1]} to {sizes[-1]} videos", flush=True)
    return {"sizes": rows, "change": changed, "shows": changed <= MAX_CHANGE}


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
            f" {row['to_first_line_s']:.2f} s in all, {row['cpu_s']:.2f} s of CPU in this process",
            flush=True,
        )
    return {"sizes": rows, "shows": rows[-1]["to_first_line_s"] <= MAX_FIRST_LINE_S}


def replicas(sizes: Sequence[int], root: Path | None) -> Found:
    rows = [apart(_run, scale_service.dispatch_cpu, number) for number in NUM_REPLICAS]
    for row in rows:
        print(f"  {row['replicas']:7} replicas: {row['cpu_ms']:.3f} ms a batch, {row['series']} series", flush=True)
    return {"sizes": rows, "shows": rows[-1]["cpu_ms"] <= MAX_BATCH_MS}


def database(sizes: Sequence[int], root: Path | None) -> Found:
    rows = [apart(_run, scale_service.database_times, 10 * number, root) for number in sizes]
    for row in rows:
        told = ", ".join(f"{name} {value:.1f}" for name, value in row.items() if name != "dubs")
        print(f"  {row['dubs']:7} dubs: {told}", flush=True)
    slowest_ms = max(rows[-1][name] for name in ("claim", "renew", "events", "page", "page_of_failed", "count"))
    return {"sizes": rows, "shows": slowest_ms <= MAX_QUERY_MS}


def store(sizes: Sequence[int], root: Path | None) -> Found:
    rows = [apart(scale_service.store_cost, number, root) for number in (*sizes, 3 * sizes[-1])]
    for row in rows:
        print(
            f"  {row['values']:7} values: {row['put_us']:.1f} µs a put, {row['peak_bytes'] / 1e6:.2f} MB at most, "
            f"{row['list_us']:.1f} µs a value to list all",
            flush=True,
        )
    return {"sizes": rows, "shows": rows[-1]["peak_bytes"] <= MAX_LOOK_BYTES}


def leases(sizes: Sequence[int], root: Path | None) -> Found:
    rows = apart(_run, scale_service.lease_ms, sizes, root)
    for row in rows:
        print(f"  {row['videos']:7} results beside: {row['cpu_ms']:.3f} ms of CPU", flush=True)
    changed = change(rows, "cpu_ms", sizes[1], sizes[-1])
    return {"sizes": rows, "change": changed, "shows": changed <= 2 * MAX_CHANGE}


def _run(work: Callable[..., Any], *arguments: object) -> Any:
    return asyncio.run(work(*arguments))


PARTS: Mapping[str, Callable[[Sequence[int], Path | None], Found]] = {
    part.__name__: part for part in (coordinator, drivers, memory, driver, submit, replicas, database, store, leases)
}


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Curves of what was found: cost per video by the number of videos, and per batch by that of replicas."""
    curves = [
        ("coordinator", "videos", "cpu_ms", "CPU of the coordinator, ms a video"),
        ("memory", "videos", "bytes", "memory of the coordinator, bytes a video"),
        ("submit", "videos", "to_first_line_s", "submission to first line, s"),
        ("replicas", "replicas", "cpu_ms", "CPU of a driver, ms a batch"),
    ]
    with drawn(path, 2, 2) as axes:
        for axis, (part, by, figure, title) in zip(axes.flat, curves, strict=True):
            rows = found.get(part, {"sizes": []})["sizes"]
            axis.plot([row[by] for row in rows], [row[figure] for row in rows], marker="o")
            axis.set(xscale="log", xlabel=by, title=title)
            axis.set_ylim(bottom=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="up to a tenth of the videos")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--plot", type=Path, help="draw the curves of all saved parts here")
    parser.add_argument("--save", type=Path, help="JSON file of the figures of each part, which is added to")
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
    known = json.loads(options.save.read_text()) if options.save and options.save.exists() else {}
    if options.save is not None:
        options.save.write_text(json.dumps(known | found, indent=1) + "\n")
    if options.plot is not None:
        plot(known | found, options.plot)
    shows = all(part["shows"] for part in found.values())
    print(f"bounds met: {', '.join(name for name in names if found[name]['shows']) or 'none'}")
    if options.json:
        print(json.dumps(found | {"shows": shows}))
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
