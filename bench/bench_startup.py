"""Measures the processor time that the command line takes to start. Each command beside ``python -c pass``.

User and system time of the process, the best of several runs after one that caches bytecode, as an installation does;
with ``--no-bytecode`` every run compiles all it imports. Exit status 1 if a bounded command is over its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

MAX_CPU_S = 0.5
BASELINE = "python -c pass"
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    BASELINE: (["-c", "pass"], None),
    "raydub --help": (["-m", "serve.cli", "--help"], MAX_CPU_S),
    "raydub config show": (["-m", "serve.cli", "config", "show"], MAX_CPU_S),
    "raydub dub --help": (["-m", "serve.cli", "dub", "--help"], None),
    "raydub serve --help": (["-m", "serve.cli", "serve", "--help"], None),
    "import doctor": (["-c", "import cluster.admin.doctor"], None),
}
"""Name → arguments of the interpreter, and the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    command: str
    cpu_s: float
    """User and system time, the best run."""
    ratio: float
    """To ``python -c pass``."""
    max_cpu_s: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--no-bytecode", action="store_true", help="compile everything in every run")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = environment_of(None if args.no_bytecode else folder)
        best_s = {name: best_cpu_s(arguments, environment, args.runs) for name, (arguments, _) in COMMANDS.items()}
    results = [
        Result(
            command=name,
            cpu_s=round(best_s[name], 3),
            ratio=round(best_s[name] / best_s[BASELINE], 1),
            max_cpu_s=max_cpu_s,
        )
        for name, (_, max_cpu_s) in COMMANDS.items()
    ]
    for result in results:
        bound = "" if result.max_cpu_s is None else f"  at most {result.max_cpu_s} s"
        print(f"{result.command:20} {result.cpu_s:6.3f} s  {result.ratio:6.1f} x {BASELINE}{bound}")
    if args.json:
        print(json.dumps(provenance(args) | {"results": [asdict(result) for result in results]}))
    sys.exit(any(result.max_cpu_s is not None and result.cpu_s > result.max_cpu_s for result in results))


def environment_of(bytecode_folder: str | None) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if bytecode_folder is None:
        return environment | {"PYTHONDONTWRITEBYTECODE": "1"}
    return environment | {"PYTHONPYCACHEPREFIX": bytecode_folder}


def best_cpu_s(arguments: list[str], environment: Mapping[str, str], num_runs: int) -> float:
    cpu_s(arguments, environment)
    return min(cpu_s(arguments, environment) for _ in range(num_runs))


def cpu_s(arguments: list[str], environment: Mapping[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=root, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def provenance(args: argparse.Namespace) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("typer", "rich", "pydantic")}
        | {"python": platform.python_version()},
        "num_runs": args.runs,
        "warm_up": "one run of each command",
        "bytecode": not args.no_bytecode,
    }


if __name__ == "__main__":
    main()
