"""Draws the figures of docs/benchmarks.md from what the benches printed with --json.

python bench/plots.py orchestration.txt scaling.txt [--out docs]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def last_line(path: Path) -> Any:
    return json.loads(path.read_text().strip().splitlines()[-1])


def draw_orchestration(result: Any, out: Path) -> None:
    rows = [row for row in result["rows"] if row["pools"] != "1,1,1"]
    cases = sorted({(row["pools"], row["num_segments"]) for row in rows}, key=lambda case: (case[1], case[0]))
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for index, contender in enumerate(contenders):
        ratios = {(row["pools"], row["num_segments"]): row["ratio"] for row in rows if row["contender"] == contender}
        bars = axes.bar(
            [place + 0.8 * index / len(contenders) for place in range(len(cases))],
            [ratios.get(case, 0.0) for case in cases],
            width=0.8 / len(contenders),
            align="edge",
            label=contender,
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.axhline(1.05, color="black", linewidth=0.8, linestyle=":")
    axes.set_xticks([place + 0.4 for place in range(len(cases))], [f"{pools}\n{num} segments" for pools, num in cases])
    axes.set_ylabel("wall ÷ lower bound")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(out / "orchestration.svg", metadata={"Date": None})


def draw_scaling(result: Any, out: Path) -> None:
    found = {int(num): share for num, share in result["efficiency_by_replicas"].items()}
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.plot(list(found), [100 * share for share in found.values()], marker="o")
    axes.axhline(95, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(found), [str(num) for num in found])
    axes.set_ylim(0, 105)
    axes.set_xlabel("replicas a pool")
    axes.set_ylabel("% of the lower bound")
    figure.savefig(out / "scaling.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("orchestration", type=Path)
    parser.add_argument("scaling", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    draw_orchestration(last_line(options.orchestration), options.out)
    draw_scaling(last_line(options.scaling), options.out)


if __name__ == "__main__":
    main()
