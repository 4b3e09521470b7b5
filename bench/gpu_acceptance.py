"""Ten checks for the first hour with a GPU, in about seven minutes, on models of the true shapes with random weights.

``PYTHONPATH=. python bench/gpu_acceptance.py --out gpu.json`` on the GPU; ``--dry-run`` runs them on a CPU with tiny
shapes, which says that they run, and nothing about speed. docs/gpu.md has the table that they fill. Needs torch and
transformers; ``bench/pack_acceptance.py`` packs the rest for a machine without a network.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Ray reads these when it is imported. Its raylet ends after 15 s without its agents: a busy machine tries again soon.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "45")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "300")

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from acceptance import cluster, hearing, memory, shapes, speech, translation
from acceptance.report import Bench, Check, run_checks

CHECKS = tuple(
    Check(number=number, name=name, run=run)
    for number, (name, run) in enumerate(
        (
            ("environment", translation.environment),
            ("nllb_ctranslate2", translation.ctranslate2_speed),
            ("nllb_transformers", translation.transformers_speed),
            ("whisper", hearing.whisper),
            ("vits", speech.vits),
            ("embedding_and_xtts", speech.embedding_and_codes),
            ("out_of_memory", memory.exhaustion),
            ("broken_context", memory.broken_context),
            ("ray", cluster.ray_shares),
            ("memory_growth", memory.growth),
        ),
        start=1,
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")) / "gpu.json")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--only", help="numbers of checks, as 1,4")
    parser.add_argument("--budget-s", type=float, default=420.0, help="seconds after which no check begins")
    args = parser.parse_args(arguments)
    numbers = {int(number) for number in args.only.split(",")} if args.only else {check.number for check in CHECKS}
    with tempfile.TemporaryDirectory(prefix="acceptance-") as folder:
        bench = Bench(
            device="cpu" if args.dry_run else "cuda",
            sizes=shapes.TINY if args.dry_run else shapes.TRUE,
            folder=Path(folder),
        )
        report = {
            "commit": commit(),
            "dry_run": args.dry_run,
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        chosen = [check for check in CHECKS if check.number in numbers]
        return 0 if run_checks(chosen, bench, report, args.out, args.budget_s) else 1


def commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
