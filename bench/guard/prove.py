"""Does the guard see a slowdown of 15 % in one stage, and none where there is none?

    python -m bench.guard.prove [--runs 10] [--slowdown 0.15] [--measure NAME ...] [--json]

Takes HEAD for both trees. In half of the runs the source of one stage is changed in the new tree so that each call
burns so much more CPU; the measures take turns. Each run decides as a whole check does, of one measure.

Bounds: every planted slowdown is found, and nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

from bench.guard.check import CPU_THRESHOLD, SCORE_THRESHOLD, check_one, num_cpu_figures
from bench.guard.decide import Verdict
from bench.guard.measures import MEASURES
from bench.guard.trees import two_trees

STAGES = {
    "translation": ("actors/translation/bergamot.py", "Engine.run"),
    "speech": ("actors/speech/hibari.py", "Engine.run"),
}
"""Measure → file and name of the function that is all of its work, in calls of 50 ms: between short calls, a loop that
burns time also slows down what comes after it."""

BURN = """

def _slower(function):
    import time

    def slower(*arguments, **options):
        start_s = time.process_time()
        found = function(*arguments, **options)
        end_s = start_s + {factor} * (time.process_time() - start_s)
        while time.process_time() < end_s:
            for _ in range(2000):  # the clock is a system call, and many of them slow down what follows
                pass
        return found

    return slower


{name} = _slower({name})
"""


def plant(tree: Path, measure: str, slowdown: float) -> None:
    file, name = STAGES[measure]
    with (tree / file).open("a") as source:
        source.write(BURN.format(factor=1 + slowdown, name=name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="with the slowdown, and as many without")
    parser.add_argument("--slowdown", type=float, default=0.15)
    parser.add_argument("--measure", action="append", choices=list(STAGES), help="may be repeated")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    thresholds = {"cpu": CPU_THRESHOLD, "score": SCORE_THRESHOLD}
    measures = itertools.cycle(options.measure or list(STAGES))
    rows = []
    for number, measure in zip(range(options.runs), measures, strict=False):
        for slowdown in (options.slowdown, 0.0):
            start_s = time.monotonic()
            with two_trees("HEAD") as trees:
                if slowdown:
                    plant(trees.new, measure, slowdown)
                decision = check_one(trees, measure, thresholds, num_cpu_figures(MEASURES))[f"{measure}_cpu"]
            is_found = decision.verdict is Verdict.WORSE
            rows.append(
                {
                    "measure": measure,
                    "slowdown": slowdown,
                    "found": is_found,
                    "ratio": round(decision.ratio, 4),
                    "low": round(decision.low, 4),
                    "high": round(decision.high, 4),
                    "num_pairs": decision.num_pairs,
                    "wall_s": round(time.monotonic() - start_s, 1),
                }
            )
            print(f"run {number + 1}, {slowdown:.0%} planted: {'found' if is_found else 'not found'}", flush=True)
    found = sum(bool(row["slowdown"]) and bool(row["found"]) for row in rows)
    false = sum(not row["slowdown"] and bool(row["found"]) for row in rows)
    print(f"{found} of {options.runs} found; {false} false alarms in {options.runs}")
    shows = found == options.runs and not false
    if options.json:
        print(json.dumps({"rows": rows, "shows": shows}))
    sys.exit(not shows)


if __name__ == "__main__":
    main()
