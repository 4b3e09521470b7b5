"""Measures the five key figures on stand-ins with the founding report's latencies, by `raydub kpi` itself.

    python bench/bench_kpi.py [--videos 12] [--lines 50] [--alone 100] [--json]

So many videos at once are submitted by `raydub submit` to a Ray cluster on this machine: translation and alignment take
70 ms a line, speech 100 ms, subtitles stand for transcription. So this measures everything but the models. The figures
are read from the batch's folder, and while it runs from the cluster's metrics; another batch of one video of 100 lines
is dubbed first, alone, as the report's was.

Bounds: all five targets are met by the two batches together: time by the one alone, the others by the many. Exit
status 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench import contenders as contenders  # settings that Ray reads when it is imported
from tests.standins.batches import Batch, code_on_nodes, make_batch, raydub
from tests.standins.nodes import cluster

TRANSLATE_S, SPEAK_S = 0.07, 0.1
POLL_S = 2.0


def batch_of(rows: Path, folder: Path, num_videos: int) -> Batch:
    options = f"log: {folder / 'log'}, service_s:"
    return Batch(
        rows=rows,
        folder=folder,
        num_drivers=1,
        more_settings=(
            f"translation.options={{{options} {TRANSLATE_S}}}",
            "translation.pool={replicas: 4, num_cpus: 0.01, batch: {max_items: 1}}",
            f"speech.options={{{options} {SPEAK_S}}}",
            "speech.pool={replicas: 6, num_cpus: 0.01, batch: {max_items: 1}}",
            "translation.num_candidates=1",
            "alignment.strategy=length",
            "quality.check=none",
            "store.url=none",
            f"pipeline.max_videos={num_videos}",
        ),
    )


def kpis(*arguments: object) -> dict[str, Any]:
    """Name → figure, with its verdict."""
    told = json.loads(raydub("kpi", *arguments, "--json").stdout)
    return {each["name"]: each for each in told["kpis"]}


class Watch(threading.Thread):
    """Asks the cluster for the figures while a batch runs; keeps the last answer."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self._over = address, threading.Event()
        self.found: dict[str, Any] = {}

    def run(self) -> None:
        while not self._over.wait(POLL_S):
            self.found = kpis("--address", self._address)

    def stop(self) -> dict[str, Any]:
        self._over.set()
        self.join()
        return self.found


def measure(folder: Path, num_videos: int, num_lines: int, num_alone: int) -> dict[str, Any]:
    alone = batch_of(make_batch(folder / "one", 1, num_alone), folder / "alone", 1)
    many = batch_of(make_batch(folder / "many", num_videos, num_lines), folder / "all", num_videos)
    with cluster(0, dashboard=True, metrics_interval_ms=1000) as (made, _):
        address = f"http://{made.webui_url}"
        alone.submit(address, "--wait")
        watch = Watch(address)
        watch.start()
        start_s = time.monotonic()
        many.submit(address, "--wait")
        wall_s = time.monotonic() - start_s
        told = watch.stop()
    return {"alone": kpis(alone.out), "many": kpis(many.out), "cluster": told, "wall_s": wall_s}


def show(title: str, found: dict[str, Any]) -> None:
    print(f"{title}:")
    for each in found.values():
        value = each["why"] if each["measured"] is None else f"{each['measured']:.4g} {each['unit']}"
        print(f"  {each['name']:25} {each['bound']} {each['target']:g}: {value}, {each['verdict']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--lines", type=int, default=50, help="lines of each video, in each of two languages")
    parser.add_argument("--alone", type=int, default=100, help="lines of the video that is dubbed alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, code_on_nodes():
        found = measure(Path(name), options.videos, options.lines, options.alone)
    show(f"one video of {options.alone} lines into two languages, alone", found["alone"])
    show(f"{options.videos} videos at once", found["many"])
    show("the same by the cluster's metrics, while it ran", found["cluster"])
    time_name, *others = found["many"]
    verdicts = [found["alone"][time_name]["verdict"], *(found["many"][name]["verdict"] for name in others)]
    shows = verdicts == ["met"] * 5
    print(f"targets met: {verdicts.count('met')} of 5")
    if options.json:
        print(json.dumps(found | {"shows": shows}))
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
