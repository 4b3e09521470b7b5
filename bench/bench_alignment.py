"""Measures the share of breaks found exactly, and the cost of a unit.

    python bench/bench_alignment.py --gold DIR [--json] [--translations] [--units N]

DIR holds files of gold breaks, one JSON object a line (see `bench/gold.py`), English to Portuguese. Every
strategy runs as in the pipeline: the same aligner, the embedding pool with in-process replicas on one core,
64 units at a time. Accuracy is the share of breaks of the `test` splits that stand exactly where the gold or
one of its alternatives does; P keeps punctuation, N strips it and lowers the case. Milliseconds are
wall time per unit with everything counted but loading, median over batches of units, and of the CPU: on a
machine that does nothing else the two are the same.
`--translations` adds hybrid with each segment translated on its own: that time is mostly the translator's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from actors.types import Candidate
from bench.gold import GoldUnit, read_gold, word_edges
from cluster.alignment.align import Alignment
from cluster.alignment.config import AlignConfig
from cluster.alignment.tokens import token_spans
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pools.pool_set import PoolSet
from cluster.steps.align import Aligner, needs_embedding

UNITS_AT_ONCE = 64


async def run(
    config: Config, units: Sequence[GoldUnit], align: AlignConfig
) -> tuple[list[Alignment], list[float], list[float]]:
    """Alignments, and per batch of units wall and CPU milliseconds per unit."""
    async with PoolSet(config) as pools:
        embedding = await pools.get("embedding", config.embedding) if needs_embedding(align) else None
        translation = await pools.get("translation", config.translation)
        aligner = Aligner(align, config.embedding, embedding, translation, "pt")
        found: list[Alignment] = []
        wall_ms, cpu_ms = [], []
        await one(aligner, units[0])  # loads what is to be loaded
        for first in range(0, len(units), UNITS_AT_ONCE):
            batch = units[first : first + UNITS_AT_ONCE]
            start_s, cpu_start_s = time.perf_counter(), time.process_time()
            found += await asyncio.gather(*(one(aligner, unit) for unit in batch))
            wall_ms.append((time.perf_counter() - start_s) / len(batch) * 1e3)
            cpu_ms.append((time.process_time() - cpu_start_s) / len(batch) * 1e3)
    return found, wall_ms, cpu_ms


async def one(aligner: Aligner, gold: GoldUnit) -> Alignment:
    [alignment] = await aligner.align(gold.unit, [Candidate(text=gold.target, score=None)], 0.0)
    return alignment


def num_right(gold: GoldUnit, alignment: Alignment) -> int:
    edges, starts = word_edges(gold.target_words), [first for first, _ in token_spans(gold.target)]
    right = 0
    for span, accepted in zip(alignment.spans[1:], gold.accepted, strict=True):
        at = starts[span.first_token] if span.first_token < len(starts) else len(gold.target)
        right += at in {edges[word] for word in accepted}
    return right


def strategies(*, with_translations: bool) -> dict[str, AlignConfig]:
    found = {name: AlignConfig.model_validate({"strategy": name}) for name in ("length", "semantic", "hybrid")}
    if with_translations:
        found["hybrid+translations"] = AlignConfig(segment_translations=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--translations", action="store_true")
    parser.add_argument("--units", type=int, default=None, help="of each set at most")
    options = parser.parse_args()
    if options.gold is None:
        print("needs --gold DIR, a folder of gold breaks as JSON lines; what a line holds: bench/gold.py")
        return
    sets: dict[str, list[GoldUnit]] = defaultdict(list)
    for unit in read_gold(options.gold):
        if unit.split == "test":
            sets[unit.set_name].append(unit)
    if not sets:
        sys.exit(f"--gold must hold *.jsonl with units whose split is test; found none in {options.gold}")
    sets = {name: units[: options.units] for name, units in sets.items()}
    everything = [unit for units in sets.values() for unit in units]
    config = load_config("offline", ["ray.mode=inline", "store.url=none"])
    accuracy: dict[str, dict[str, float]] = {name: {} for name in sets}
    median_ms: dict[str, dict[str, float]] = {}
    for strategy, align in strategies(with_translations=options.translations).items():
        alignments, wall_ms, cpu_ms = asyncio.run(run(config, everything, align))
        median_ms[strategy] = {
            name: round(statistics.median(ms), 2) for name, ms in (("wall", wall_ms), ("cpu", cpu_ms))
        }
        print(f"{strategy}: {median_ms[strategy]['wall']:.2f} ms per unit, {median_ms[strategy]['cpu']:.2f} ms of CPU")
        right: dict[str, int] = defaultdict(int)
        for gold, alignment in zip(everything, alignments, strict=True):
            right[gold.set_name] += num_right(gold, alignment)
        for name, units in sets.items():
            num_breaks = sum(len(unit.accepted) for unit in units)
            accuracy[name][strategy] = round(100 * right[name] / num_breaks, 1)
            print(f"  {name}: {accuracy[name][strategy]:.1f} % of {num_breaks} breaks in {len(units)} units")
    if options.json:
        print(json.dumps({"median_ms": median_ms}))
    print(json.dumps({"accuracy": accuracy}))


if __name__ == "__main__":
    main()
