"""Compares NLLB on CTranslate2 (int8) and on transformers (float32), and batches with single sentences.

The 600M model's shape with random weights, made on the first run and kept in raydub's cache (2.5 GB
there, 5 GB of memory to make it): speed does not depend on what the weights are. Greedy, one core,
CPU seconds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import argparse
import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

from acceptance.shapes import NLLB_600M, make_translator

from actors import weights
from actors.engine import make_engine
from actors.translation._nllb.base import NllbEngine
from actors.translation._nllb.flores import CODES
from actors.translation._seq2seq.hypotheses import Decoding
from actors.translation._seq2seq.units import UnitWindow

OPTIONS: dict[str, dict[str, object]] = {"nllb": {"dtype": "float32"}, "nllb_ct2": {"compute_type": "int8"}}
BATCH_SIZES = (1, 8, 32)
NUM_SOURCE_TOKENS = 24
NUM_TARGET_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    engine: str
    batch_size: int
    tokens_per_cpu_s: float
    """Target tokens, in the fastest run."""
    num_runs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    model = weights.derived("bench/nllb-600M-random", lambda out: make_translator(out, NLLB_600M))
    results = [result for engine in OPTIONS for result in bench(engine, model, args.runs)]
    if args.json:
        print(json.dumps(provenance() | {"results": [asdict(result) for result in results]}, indent=2))
        return
    speeds = {(result.engine, result.batch_size): result.tokens_per_cpu_s for result in results}
    for size in BATCH_SIZES:
        reference, fast = speeds["nllb", size], speeds["nllb_ct2", size]
        print(
            f"batch {size:2}: transformers {reference:6.1f} tokens/s, CTranslate2 {fast:6.1f} "
            f"({fast / reference:.1f} x); against batch 1: {reference / speeds['nllb', 1]:.1f} x, "
            f"{fast / speeds['nllb_ct2', 1]:.1f} x"
        )


def bench(engine: str, model: Path, num_runs: int) -> list[Result]:
    loaded = make_engine("translation", engine, {"model": str(model), **OPTIONS[engine]})
    assert isinstance(loaded, NllbEngine)
    loaded.load()
    decoding = Decoding(beam_size=1, num_hypotheses=1, max_tokens=NUM_TARGET_TOKENS)
    results = []
    for size in BATCH_SIZES:
        batch = [window(number) for number in range(size)]
        speeds = []
        for _ in range(num_runs):
            start = time.process_time()
            found = loaded._decode(decoding, batch)
            spent_s = time.process_time() - start
            speeds.append(sum(best.num_predicted for best, *_ in found) / spent_s)
        results.append(
            Result(engine=engine, batch_size=size, tokens_per_cpu_s=round(max(speeds), 2), num_runs=num_runs)
        )
    loaded.close()
    return results


def window(number: int) -> UnitWindow:
    """A sentence of tokens that any NLLB vocabulary has."""
    tokens = tuple(islice(cycle(CODES), number, number + NUM_SOURCE_TOKENS))
    return UnitWindow(
        text="",
        tokens=tokens,
        words=tuple(range(NUM_SOURCE_TOKENS)),
        source="eng_Latn",
        target="por_Latn",
        num_candidates=1,
        terms=(),
    )


def provenance() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one used",
        "versions": {name: version(name) for name in ("ctranslate2", "torch", "transformers")}
        | {"python": platform.python_version()},
        "config": {
            "engines": OPTIONS,
            "num_source_tokens": NUM_SOURCE_TOKENS,
            "num_target_tokens": NUM_TARGET_TOKENS,
            "beam_size": 1,
            "alignment": True,
        },
        "warm_up": "one call at load; the fastest run counts",
    }


if __name__ == "__main__":
    main()
