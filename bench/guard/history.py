"""The baseline, and the figures of the checks so far: a line of JSON each, and a picture of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.guard.decide import Decision
from bench.guard.trees import ROOT, git

BASELINE = ROOT / "bench/guard/baseline.json"
HISTORY = ROOT / "bench/guard/history.jsonl"
PLOT = ROOT / "docs/regressions.svg"
MAX_ENTRIES = 200


def baseline() -> str:
    return str(json.loads(BASELINE.read_text())["commit"])


def set_baseline(commit: str) -> None:
    BASELINE.write_text(json.dumps({"commit": commit}) + "\n")


def append(baseline: str, found: Mapping[str, Decision], *, is_accepted: bool) -> None:
    """Add a check to the history, of which the oldest entries are dropped, and draw it."""
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD").decode().strip(),
        "baseline": baseline[:12],
        "is_baseline": is_accepted,
        "ratios": {
            name: [round(value, 4) for value in (each.low, each.ratio, each.high)] for name, each in found.items()
        },
    }
    lines = HISTORY.read_text().splitlines() if HISTORY.exists() else []
    lines = [*lines, json.dumps(entry)][-MAX_ENTRIES:]
    HISTORY.write_text("\n".join(lines) + "\n")
    draw(PLOT, [json.loads(line) for line in lines])


def draw(path: Path, entries: list[dict[str, Any]]) -> None:
    """Cost of each figure over the checks, × its cost at the first baseline: accepted changes are multiplied up."""
    from bench.plots import drawn

    names = sorted({name for entry in entries for name in entry["ratios"]})
    with drawn(path, height=4.0) as axis:
        for name in names:
            level, points = 0.0, []
            for number, entry in enumerate(entries):
                if name not in entry["ratios"]:
                    continue
                low, ratio, high = (math.log(max(value, 1e-6)) + level for value in entry["ratios"][name])
                points.append((number, math.exp(low), math.exp(ratio), math.exp(high)))
                level = ratio if entry["is_baseline"] else level
            numbers, lows, ratios, highs = zip(*points, strict=True)
            [line] = axis.plot(numbers, ratios, "o-", markersize=3, label=name)
            axis.vlines(numbers, lows, highs, color=line.get_color(), alpha=0.4)
        axis.axhline(1.0, color="#6e7781", linewidth=0.8)
        axis.set(ylabel="cost, × the first baseline's", xticks=range(len(entries)))
        axis.set_xticklabels([entry["commit"] for entry in entries], rotation=45, ha="right")
        axis.legend(loc="upper left", ncols=2, fontsize=8)
