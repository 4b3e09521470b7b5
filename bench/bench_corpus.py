"""Dubs a corpus of odd media with stand-in speech, and compares each outcome with the one that is right.

    python bench/bench_corpus.py [--only TEXT] [--json]

A few seconds of the demo's talk are written in every container, codec, sample rate and format, channel layout, colour
and timing, whole and broken, and under odd names; ``tests/corpus`` makes them, and its table says what is right. What
PyAV cannot write the ffmpeg command does; without that it is skipped. Prints the outcome of each, its wall time and the
largest memory of a process that read it. Exit status 1 if any outcome differs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from cluster.media.config import MediaConfig
from tests.corpus.cases import Case, all_cases
from tests.corpus.run import matches, run
from tests.corpus.write import Talk, UnmakeableError


def try_out(case: Case, talk: Talk) -> dict[str, Any]:
    found: dict[str, Any] = {"group": case.group, "name": case.name, "expected": case.expected}
    with tempfile.TemporaryDirectory() as name:
        try:
            path = case.make(Path(name) / case.name, talk)
        except UnmakeableError as error:
            return {**found, "skipped": str(error)}
        result = run(path, MediaConfig())
    is_right = matches(result.outcome, case.expected)
    figures = {"wall_s": round(result.wall_s, 3), "peak_bytes": result.peak_bytes}
    return {**found, "outcome": result.outcome, "is_right": is_right, **figures}


def show(found: dict[str, Any]) -> None:
    name = f"{found['group']}: {ascii(found['name'])[1:-1]}"
    if "skipped" in found:
        print(f"skip  {name}: {found['skipped']}", flush=True)
        return
    figures = f"{found['wall_s']:5.1f} s {found['peak_bytes'] / 1e6:4.0f} MB"
    print(f"{'ok  ' if found['is_right'] else 'DIFF'} {figures}  {name}: {found['outcome']}", flush=True)
    if not found["is_right"]:
        print(f"      expected: {found['expected']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="dub only inputs whose group and name contain this")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        talk = Talk.made_in(Path(name))
    results = []
    for case in all_cases():
        if options.only in f"{case.group}: {case.name}":
            results.append(try_out(case, talk))
            show(results[-1])
    wrong = [found for found in results if found.get("is_right") is False]
    skipped = [found for found in results if "skipped" in found]
    print(f"{len(results)} inputs: {len(wrong)} differ, {len(skipped)} skipped")
    if options.json:
        print(json.dumps({"results": results, "shows": not wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
