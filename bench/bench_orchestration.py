"""Measures the same work against its lower bound: one call at a time, thread pools, Ray Data, Ray Serve,
Ray's actors alone, raydub.

    python bench/bench_orchestration.py [--pools 4,2,10 ...] [--segments 100 ...] [--repeats 3]
        [--plot docs/orchestration.svg] [--json]

Replays the service times of a dubbing service (extraction 0.10 s once; per segment translation 50 ms,
alignment 20 ms, speech 100 ms) on engines that sleep so long, in pools of several sizes. The bound is
extraction + the fullest stage's calls ÷ its replicas + what one segment takes in the other stages
(`contenders.lower_bound_s`). Pools are warm: every replica has answered before the clock start_limiter. A call
is one segment, and replicas work on one call at a time; with --calls-of N a translation takes 50 ms for
up to N segments, and the bound takes it so. Of the repeats the fastest counts, for every contender alike.
CPU is that of the driver, Ray's daemons and all workers.

Bounds: raydub within 1.05 × the lower bound in every case, and ahead of Ray Data and of Ray Serve; 100
segments on 4 translators, 2 aligners and 10 speakers ≥ 12 × faster than one at a time, which is looked at
where the lower bound allows it (--calls-of 8: a translation call of one segment does not); the first segment
≥ 10 × earlier than stage by stage; within 1.01 × the wall time of actors alone, and 1.3 × their CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.contenders import CONTENDERS, NEED_RAY, Stage, Timing, lower_bound_s, ray_cluster, stages_of
from bench.plots import drawn

MAX_RATIO, MIN_SPEEDUP, MIN_EARLIER = 1.05, 12.0, 10.0
MAX_RAW_WALL, MAX_RAW_CPU = 1.01, 1.3
SERIAL = ("one at a time", "stage by stage")
"""Their pools are of one replica each, whatever the size: measured once, at the fewest segments."""
BATCHED = ("raydub", "Ray Data")
"""Those that can give a call several segments here; with --calls-of, they and the serial ones run."""
SEED_POOLS = "4,2,10"


@dataclass(frozen=True, kw_only=True)
class Row:
    contender: str
    pools: str
    num_segments: int
    max_items: int
    bound_s: float
    wall_s: float
    ratio: float
    walls_s: tuple[float, ...]
    first_s: float
    cpu_ms_per_segment: float


def measure(
    contender: str, sizes: Sequence[str], nums_segments: Sequence[int], repeats: int, max_items: int
) -> Iterator[Row]:
    if contender in SERIAL:
        sizes, nums_segments, repeats, max_items = ["1,1,1"], nums_segments[:1], 1, 1
    with ExitStack() as stack:
        if contender in NEED_RAY:
            stack.enter_context(ray_cluster())
        for size in sizes:
            stages = stages_of(*(int(number) for number in size.split(",")), max_items=max_items)
            with CONTENDERS[contender](stages) as run:
                for num_segments in nums_segments:
                    yield _row(contender, size, stages, num_segments, [run(num_segments) for _ in range(repeats)])


def _row(contender: str, size: str, stages: Sequence[Stage], num_segments: int, timings: Sequence[Timing]) -> Row:
    best = min(timings, key=lambda timing: timing.wall_s)
    bound_s = lower_bound_s(stages, num_segments)
    return Row(
        contender=contender,
        pools=size,
        num_segments=num_segments,
        max_items=stages[0].max_items,
        bound_s=round(bound_s, 4),
        wall_s=round(best.wall_s, 4),
        ratio=round(best.wall_s / bound_s, 4),
        walls_s=tuple(round(timing.wall_s, 4) for timing in timings),
        first_s=round(best.first_s, 4),
        cpu_ms_per_segment=round(1e3 * best.cpu_s / num_segments, 2),
    )


def shows(rows: Sequence[Row]) -> dict[str, bool]:
    """The bounds that can be computed from these rows."""
    ours = [row for row in rows if row.contender == "raydub"]
    found = {"raydub within 1.05 of the bound": all(row.ratio <= MAX_RATIO for row in ours)}
    for other in ("Ray Data", "Ray Serve"):
        theirs = {(row.pools, row.num_segments): row.ratio for row in rows if row.contender == other}
        if theirs:
            found[f"ahead of {other}"] = all(row.ratio < theirs[row.pools, row.num_segments] for row in ours)
    raw = {(row.pools, row.num_segments): row for row in rows if row.contender == "raw actors"}
    if raw:
        pairs = [(row, raw[row.pools, row.num_segments]) for row in ours]
        found["wall within 1.01 of actors alone"] = all(
            row.wall_s <= MAX_RAW_WALL * other.wall_s for row, other in pairs
        )
        found["CPU within 1.3 of actors alone"] = all(
            row.cpu_ms_per_segment <= MAX_RAW_CPU * other.cpu_ms_per_segment for row, other in pairs
        )
    serial = {row.contender: row for row in rows if row.contender in SERIAL}
    for row in ours:
        alone, staged = (serial.get(name) for name in SERIAL)
        attainable = alone is not None and alone.wall_s / row.bound_s >= MIN_SPEEDUP
        if alone and attainable and row.pools == SEED_POOLS and row.num_segments == alone.num_segments:
            found["12 × faster than one at a time"] = alone.wall_s / row.wall_s >= MIN_SPEEDUP
        if staged and row.num_segments == staged.num_segments:
            earlier = staged.first_s / row.first_s >= MIN_EARLIER
            found["first segment 10 × earlier than stage by stage"] = earlier and found.get(
                "first segment 10 × earlier than stage by stage", True
            )
    return found


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Wall time ÷ bound by size of the pools, a panel for each number of segments."""
    shown = [row for row in rows if row.contender not in SERIAL]
    nums_segments = sorted({row.num_segments for row in shown})
    with drawn(path, columns=len(nums_segments)) as axes:
        panels = np.atleast_1d(axes)
        for axis, num_segments in zip(panels, nums_segments, strict=True):
            for contender in dict.fromkeys(row.contender for row in shown):
                ours = [row for row in shown if row.contender == contender and row.num_segments == num_segments]
                axis.plot([row.pools for row in ours], [row.ratio for row in ours], "o-", label=contender)
            axis.set(title=f"{num_segments:,} segments", xlabel="translators, aligners, speakers", ylim=(0.9, None))
        panels[0].set(ylabel="wall time ÷ lower bound")
        panels[0].legend(loc="upper left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", action="append", help="translators,aligners,speakers; may be repeated")
    parser.add_argument("--segments", type=int, action="append", help="may be repeated")
    parser.add_argument("--contender", choices=list(CONTENDERS), action="append", help="may be repeated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calls-of", type=int, default=1, help="segments of one translation call")
    parser.add_argument("--plot", type=Path, help="write it here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    able = tuple(CONTENDERS) if options.calls_of == 1 else (*SERIAL, *BATCHED)
    if not set(options.contender or able) <= set(able):
        parser.error(f"with --calls-of, choose --contender from {', '.join(able)}")
    rows: list[Row] = []
    for contender in options.contender or able:
        for row in measure(
            contender,
            options.pools or ["1,1,2", "2,1,4", SEED_POOLS, "8,4,16"],
            sorted(options.segments or [100, 1000]),
            options.repeats,
            options.calls_of,
        ):
            rows.append(row)
            print(
                f"{row.contender:15} {row.pools:7} {row.num_segments:5} segments: {row.wall_s:7.2f} s, "
                f"{row.ratio:5.3f} × bound, first after {row.first_s:.2f} s, "
                f"{row.cpu_ms_per_segment:.1f} ms of CPU a segment",
                flush=True,
            )
    found = shows(rows)
    for what, holds in found.items():
        print(f"{'yes' if holds else 'NO':4}{what}")
    if options.plot is not None:
        plot(options.plot, rows)
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "found": found, "shows": all(found.values())}))


if __name__ == "__main__":
    main()
