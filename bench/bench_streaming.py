"""Measures the time to the first dubbed line, and the driver's memory against the media's length.

    python bench/bench_streaming.py [--minutes 5 --minutes 60] [--json]

Makes talks of the given lengths, dubs each from English into Portuguese with the offline models by
the command line, as a user would, and prints per talk: wall time, × realtime, time to the first
utterance as a share of the wall time, and the driver's peak memory; then the growth of that memory
from the shortest talk to the longest. Bounds: first utterance before 25 % of the wall time of a
5-minute talk; growth within 150 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import manifest
from cluster.demo.talk import make_talk

MAX_FIRST_SHARE = 0.25
MAX_GROWTH_BYTES = 150 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Row:
    minutes: float
    wall_s: float
    realtime_factor: float
    first_utterance_s: float
    first_share: float
    driver_peak_bytes: int
    num_utterances: int


def measure(minutes: float, folder: Path, mode: str) -> Row:
    talk = folder / f"talk_{minutes:g}.mp4"
    make_talk(talk, minutes * 60)
    raydub = [sys.executable, "-m", "cluster.cli.main", "dub", str(talk), "--from", "en", "--to", "pt"]
    subprocess.run([*raydub, "--out", str(folder), "--set", f"ray.mode={mode}"], check=True)
    result = manifest.read(folder / talk.stem / "manifest.json")
    timings = result.timings
    assert timings.first_utterance_s is not None
    return Row(
        minutes=minutes,
        wall_s=timings.wall_s,
        realtime_factor=timings.realtime_factor,
        first_utterance_s=timings.first_utterance_s,
        first_share=timings.first_utterance_s / timings.wall_s,
        driver_peak_bytes=timings.driver_peak_bytes,
        num_utterances=sum(len(dub.utterances) for dub in result.dubs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, action="append", help="length of a talk; may be repeated")
    parser.add_argument("--mode", default="local", choices=["local", "inline"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for minutes in sorted(options.minutes or [5.0, 60.0]):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row := measure(minutes, Path(folder), options.mode))
        print(
            f"{row.minutes:g} min: wall {row.wall_s:.1f} s, {row.realtime_factor:.2f}× realtime, "
            f"first of {row.num_utterances} utterances after {row.first_utterance_s:.1f} s "
            f"({row.first_share:.1%} of wall), driver peak {row.driver_peak_bytes / 1e6:.0f} MB",
            flush=True,
        )
    growth_bytes = rows[-1].driver_peak_bytes - rows[0].driver_peak_bytes
    print(f"driver peak grows by {growth_bytes / 1e6:.0f} MB from {rows[0].minutes:g} to {rows[-1].minutes:g} min")
    if options.json:
        shows = all(row.first_share < MAX_FIRST_SHARE for row in rows) and growth_bytes <= MAX_GROWTH_BYTES
        print(json.dumps({"rows": [asdict(row) for row in rows], "growth_bytes": growth_bytes, "shows": shows}))


if __name__ == "__main__":
    main()
