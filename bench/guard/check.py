"""Compares the working tree with a baseline commit on this machine, and fails where it is worse for sure.

    python -m bench.guard.check [--quick] [--baseline REVISION] [--only NAME ...] [--record] [--accept] [--json]

A process in the old tree and one in the new share a processor and run in turn, some 30 ms each, so that both see the
same machine at the same time. What is compared is CPU time, and figures that are the same in every run: virtual time,
function calls, imported modules, scores of a dub. Wall time is not. More pairs are run until each figure is decided
(decide.py). Without --baseline the commit in bench/guard/baseline.json is taken; if the history here lacks it, nothing
is compared, and the check passes.

--quick      only figures that are the same in every run: no noise can fail it
--record     append the figures to bench/guard/history.jsonl, and draw docs/regressions.svg from it
--accept     as --record, pass whatever is found, and make HEAD the baseline

Bounds: at least 5 % worse with the whole interval (25 % with --quick, where a score has 2 %).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bench.guard import history
from bench.guard.decide import LOOKS, Decision, Verdict, decide, decide_exact
from bench.guard.measures import MEASURES, Metric
from bench.guard.trees import MeasureError, OldTreeError, Trees, git, has_commit, two_trees, workers

CPU_THRESHOLD, COUNT_THRESHOLD, SCORE_THRESHOLD = 0.05, 0.05, 0.02
QUICK_COUNT_THRESHOLD = 0.25
QUICK = ("counts",)
PAIRS_PER_PROCESS = 6
"""Then new processes are started: two of the same code may differ a little, as long as they live."""


@dataclass(kw_only=True)
class Figure:
    """Values of one metric in both trees. A pair of processes gives one ratio: the median of its runs, two by two."""

    metric: Metric
    threshold: float
    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def add(self, old: Sequence[float], new: Sequence[float]) -> None:
        self.old.append(statistics.median(old))
        self.new.append(statistics.median(new))
        if self.metric.kind == "cpu":
            self.ratios.append(statistics.median(b / a for a, b in zip(old, new, strict=True)))

    def decide(self, num_figures: int) -> Decision:
        match self.metric.kind:
            case "cpu":
                return decide(self.ratios, self.threshold, num_figures)
            case "count":
                return decide_exact(self.old[0], self.new[0], self.threshold)
            case "score":
                return decide_exact(self.new[0], self.old[0], self.threshold)


def measure_pairs(trees: Trees, name: str, figures: Mapping[str, Figure], num_pairs: int) -> None:
    """Run a fresh process in each tree, in turn and on one processor, which is another for each pair.

    Raises MeasureError.
    """
    measure, cpus = MEASURES[name], itertools.cycle(sorted(os.sched_getaffinity(0)))
    with workers(trees, name) as pair:
        for _ in range(num_pairs):
            cpu = next(cpus)
            for worker in pair:
                worker.move_to(cpu)
            runs: tuple[list[Mapping[str, float]], list[Mapping[str, float]]] = ([], [])
            for number in range(measure.runs):
                for at in (0, 1) if number % 2 else (1, 0):
                    runs[at].append(pair[at].run())
            for metric, figure in figures.items():
                figure.add(*([values[metric] for values in of_tree] for of_tree in runs))


def check_one(trees: Trees, name: str, thresholds: Mapping[str, float], num_figures: int) -> dict[str, Decision]:
    """Add pairs until every figure of one measure is decided, or the last look was taken. Prints what it finds."""
    measure = MEASURES[name]
    figures = {key: Figure(metric=metric, threshold=thresholds[metric.kind]) for key, metric in measure.metrics.items()}
    decisions: dict[str, Decision] = {}
    for before, look in itertools.pairwise((0, 1) if measure.is_exact else (0, *LOOKS)):
        try:
            for done in range(before, look, PAIRS_PER_PROCESS):
                measure_pairs(trees, name, figures, min(PAIRS_PER_PROCESS, look - done))
        except OldTreeError as error:
            print(f"{name}: not compared, it does not run on the baseline: {str(error).splitlines()[-1]}")
            return {}
        decisions = {key: figure.decide(num_figures) for key, figure in figures.items()}
        if all(decision.verdict is not Verdict.UNDECIDED for decision in decisions.values()):
            break
    for key, decision in decisions.items():
        print(row(key, figures[key], decision), flush=True)
    return decisions


def num_cpu_figures(names: Iterable[str]) -> int:
    return sum(metric.kind == "cpu" for name in names for metric in MEASURES[name].metrics.values())


def check(trees: Trees, names: Sequence[str], count_threshold: float = COUNT_THRESHOLD) -> dict[str, Decision]:
    """Compare the trees. Raises MeasureError."""
    thresholds = {"cpu": CPU_THRESHOLD, "count": count_threshold, "score": SCORE_THRESHOLD}
    num_figures = num_cpu_figures(names)
    found: dict[str, Decision] = {}
    for name in names:
        found |= check_one(trees, name, thresholds, num_figures)
    return found


def row(name: str, figure: Figure, decision: Decision) -> str:
    old, new = statistics.median(figure.old), statistics.median(figure.new)
    interval = "" if figure.metric.kind != "cpu" else f" [{decision.low:.3f}, {decision.high:.3f}]"
    return (
        f"{decision.verdict:10}{name:18}{old:10.4g} → {new:10.4g} {figure.metric.unit}; "
        f"cost × {decision.ratio:.3f}{interval}, {decision.num_pairs} pairs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--baseline", help="a commit")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="may be repeated")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    baseline = options.baseline or history.baseline()
    if not has_commit(baseline):
        print(f"nothing was compared: the history here has no commit {baseline}, the baseline; fetch more of it")
        return
    if options.accept and git("status", "--porcelain").strip():
        sys.exit("the tree must be committed before it becomes the baseline; git status shows changes")
    names = options.only or (QUICK if options.quick else tuple(MEASURES))
    print(f"the working tree against {baseline[:12]}", flush=True)
    with two_trees(baseline) as trees:
        found = check(trees, names, QUICK_COUNT_THRESHOLD if options.quick else COUNT_THRESHOLD)
    worse = [name for name, decision in found.items() if decision.verdict is Verdict.WORSE]
    if options.record or options.accept:
        history.append(baseline, found, is_accepted=options.accept)
    if options.accept:
        history.set_baseline(git("rev-parse", "HEAD").decode().strip())
    elif worse:
        print(f"worse: {', '.join(worse)}; if that is meant, make this the baseline: make bench-baseline")
    if options.json:
        figures = {name: asdict(decision) for name, decision in found.items()}
        print(json.dumps({"baseline": baseline, "figures": figures, "shows": not worse}))
    sys.exit(bool(worse) and not options.accept)


if __name__ == "__main__":
    try:
        main()
    except (MeasureError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
