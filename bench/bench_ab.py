"""Does `raydub ab` find the better arm, and none where there is none?

    python bench/bench_ab.py [--talks 12] [--sentences 7] [--texts GOLD.jsonl] [--a hybrid] [--b length] [--json]

Makes talks in which people pause inside their sentences (bench/hesitant_talk.py), unless inputs are given, and has
the command line compare two arms on them, then one arm with itself. Twenty seeds each:

- equal arms, as the command compared them, the bootstrap drawn anew;
- arms that differ by chance: the scores of the real comparison, the arms' names swapped at random in each cluster.

Bounds: a wins over b with an interval that leaves out 0; no winner in at least 18 of 20 seeds, both times.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from hesitant_talk import Hall, make_hesitant_talk, talks

from cluster.ab.conclude import JSON_NAME
from cluster.ab.result import Comparison
from cluster.ab.statistics import Clusters, compare, make_clusters

NUM_SEEDS, MIN_WITHOUT_WINNER = 20, 18
NUM_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Row:
    metric: str
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float | None
    num_pairs: int
    num_differing: int
    favours: str | None


def make_talks(folder: Path, num_talks: int, num_sentences: int, texts: Path | None) -> list[Path]:
    paths = []
    with Hall() as hall:
        for index, (speaker, sentences) in enumerate(talks(num_talks, num_sentences, texts)):
            paths.append(folder / f"talk{index:02d}.m4a")
            make_hesitant_talk(paths[-1], speaker, sentences, hall, seed=index)
    return paths


def run_ab(inputs: Sequence[Path], a: str, b: str, out: Path, settings: Sequence[str]) -> Comparison:
    command = [sys.executable, "-m", "cluster.cli.main", "ab", "--a", a, "--b", b, "--from", "en", "--to", "pt"]
    assigned = [part for setting in settings for part in ("--set", setting)]
    command += ["--subtitles", "srt"] if all(path.with_suffix(".srt").is_file() for path in inputs) else []
    subprocess.run([*command, "--out", str(out), *assigned, *map(str, inputs)], check=True, stdout=sys.stderr)
    return Comparison.model_validate_json((out / JSON_NAME).read_text())


def primary_scores(found: Comparison) -> tuple[np.ndarray, np.ndarray, np.ndarray, Clusters]:
    """The pairs' scores and whether they can differ, with what is resampled together."""
    lines = [line for line in found.lines if found.primary in line.a and found.primary in line.b]
    videos = [found.videos.index(line.video) for line in lines]
    place: dict[tuple[str, str], int] = {}
    for line in found.lines:
        num_before = sum(video == line.video for video, _ in place)
        place.setdefault((line.video, line.unit_id), num_before)
    units = [place[line.video, line.unit_id] for line in lines]
    a = np.array([line.a[found.primary] for line in lines])
    b = np.array([line.b[found.primary] for line in lines])
    return a, b, np.array([line.differs for line in lines]), make_clusters(videos, units)


def num_without_winner(found: Comparison, *, swap: bool) -> int:
    a, b, differing, clusters = primary_scores(found)
    num = 0
    for seed in range(NUM_SEEDS):
        swapped = np.random.default_rng(seed).random(clusters.num)[clusters.of_pair] < (0.5 if swap else 0.0)
        of_a, of_b = np.where(swapped, b, a), np.where(swapped, a, b)
        num += not compare(of_a, of_b, clusters, differing, seed=seed, num_resamples=NUM_RESAMPLES).is_clear
    return num


def rows_of(found: Comparison) -> list[Row]:
    return [
        Row(
            metric=each.metric,
            mean_a=each.mean_a,
            mean_b=each.mean_b,
            difference=each.all.value,
            low=each.all.low,
            high=each.all.high,
            p=each.p,
            p_holm=each.p_holm,
            num_pairs=each.num_pairs,
            num_differing=each.num_differing,
            favours=each.favours,
        )
        for each in found.metrics
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talks", type=int, default=12)
    parser.add_argument("--sentences", type=int, default=7)
    parser.add_argument("--texts", type=Path, help="what is said, as in the alignment gold: src and src_breaks")
    parser.add_argument("--input", type=Path, action="append")
    parser.add_argument("--a", default="hybrid")
    parser.add_argument("--b", default="length")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, help="keep the pages here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        inputs = options.input or make_talks(folder, options.talks, options.sentences, options.texts)
        settings = [f"store.url={Path(scratch) / 'store'}", *options.set]
        real = run_ab(inputs, options.a, options.b, folder / "real", settings)
        equal = run_ab(inputs, options.a, options.a, folder / "equal", settings)
    rows = rows_of(real)
    found = {
        f"{options.a} better than {options.b} in {real.primary}": real.winner == "a",
        f"equal arms: no winner in {MIN_WITHOUT_WINNER} of {NUM_SEEDS}": (
            equal.winner is None and num_without_winner(equal, swap=False) >= MIN_WITHOUT_WINNER
        ),
        f"arms that differ by chance: no winner in {MIN_WITHOUT_WINNER} of {NUM_SEEDS}": (
            (num_by_chance := num_without_winner(real, swap=True)) >= MIN_WITHOUT_WINNER
        ),
    }
    print(real.verdict)
    print(
        f"{real.num_clusters} clusters by {real.resampled}; {real.num_differing_units} of {real.num_units} units differ"
    )
    print(f"{equal.verdict}; {num_by_chance} of {NUM_SEEDS} without a winner by chance")
    for row in rows:
        interval = "" if row.low is None else f" [{row.low:+.4g}, {row.high:+.4g}]"
        print(f"{row.metric:18} {row.mean_a:8.4g} {row.mean_b:8.4g} {row.difference:+8.4g}{interval} p {row.p:.3g}")
    for what, holds in found.items():
        print(f"{'yes' if holds else 'NO':4}{what}")
    if options.json:
        result = {"rows": [asdict(row) for row in rows], "verdict": real.verdict, "num_by_chance": num_by_chance}
        print(json.dumps(result | {"found": found, "shows": all(found.values())}))


if __name__ == "__main__":
    main()
