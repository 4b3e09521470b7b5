"""Finds out where the time of a dub goes on a machine of few cores: CPU by cause, and cores that idle.

    python bench/bench_where.py [--seconds 60] [--set K=V ...] [--trace FILE] [--json]

Dubs a made talk from English into Portuguese once with the offline models on local Ray, the store off. Every half
second it reads the CPU time of each process of the dub, and that of the whole machine. Causes are the tasks of the
replicas, the driver (decoding, mixing, encoding, with its sandboxes), and Ray's own processes; `others` is the rest
of the machine, `idle` what nobody used. Printed in cores, for the whole time and for the beginning, middle and end of
it, a third each. `--trace` writes the dub's trace, which `raydub analyze` explains.

Bound: others used at most 5 % of the machine: where they are busy, no core of it is idle. Exit 1 above.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.demo.talk import make_talk
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session
from cluster.pools.replicas import RayReplica

SAMPLE_EVERY_S = 0.5
PARTS = ("beginning", "middle", "end")
MAX_OTHERS = 0.05


@dataclass(frozen=True, kw_only=True)
class Sample:
    """CPU seconds of each cause up to a moment."""

    at_s: float
    cpu_s: Mapping[str, float]
    memory_bytes: int
    """Memory of all processes of the dub; shared pages count once, by their shares."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cores that each cause kept busy in a part of the wall time."""

    part: str
    seconds: float
    cores: dict[str, float]


class Watch:
    """Samples of this process and its children, by cause, while the block runs."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._tasks: dict[int, str] = {}
        self._cpu_s: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        load = RayReplica.load

        async def noted(replica: RayReplica) -> None:
            pid: int = await replica._actor.__ray_call__.remote(_pid)
            self._tasks[pid] = replica._task
            await load(replica)

        thread = threading.Thread(target=self._watch, daemon=True)
        with mock.patch.object(RayReplica, "load", noted):
            thread.start()
            try:
                yield
            finally:
                self._over.set()
                thread.join()

    def _watch(self) -> None:
        self._take()
        while not self._over.wait(SAMPLE_EVERY_S):
            self._take()
        self._take()

    def _take(self) -> None:
        driver, memory_bytes = psutil.Process(), 0
        for process in (driver, *driver.children(recursive=True)):
            try:
                times = process.cpu_times()
                memory_bytes += process.memory_full_info().pss
                cause = self._cause(process)
            except psutil.Error:  # it has ended meanwhile: its last reading stays
                continue
            self._cpu_s[process.pid] = cause, times.user + times.system
        machine = psutil.cpu_times()
        cpu_s: dict[str, float] = defaultdict(float)
        for cause, own_s in self._cpu_s.values():
            cpu_s[cause] += own_s
        cpu_s["idle"] = machine.idle + machine.iowait
        cpu_s["machine"] = sum(machine[:8])
        self.samples.append(Sample(at_s=time.monotonic(), cpu_s=cpu_s, memory_bytes=memory_bytes))

    def _cause(self, process: psutil.Process) -> str:
        if process.pid in self._tasks:
            return self._tasks[process.pid]
        is_own = process.pid == os.getpid() or any("sandbox_process" in part for part in process.cmdline())
        return "driver" if is_own else "ray"


def _pid(_: Any) -> int:
    return os.getpid()


def rows_of(samples: Sequence[Sample], parts: Sequence[str] = PARTS) -> list[Row]:
    """Cores by cause in equal parts of the time from the first sample to the last."""
    begin_s, whole_s = samples[0].at_s, samples[-1].at_s - samples[0].at_s
    edges = [
        min(samples, key=lambda sample: abs(sample.at_s - begin_s - whole_s * number / len(parts)))
        for number in range(len(parts) + 1)
    ]
    return [_row(part, *pair) for part, pair in zip(parts, itertools.pairwise(edges), strict=True)]


def _row(part: str, before: Sample, after: Sample) -> Row:
    seconds = after.at_s - before.at_s
    cores = {cause: (cpu_s - before.cpu_s.get(cause, 0.0)) / seconds for cause, cpu_s in after.cpu_s.items()}
    known = sum(value for cause, value in cores.items() if cause != "machine")
    cores["others"] = cores["machine"] - known
    return Row(part=part, seconds=round(seconds, 2), cores={cause: round(value, 3) for cause, value in cores.items()})


def measure(talk: Path, out: Path, settings: Sequence[str], watch: Watch) -> dict[str, float | None]:
    config = load_config("offline", ["ray.mode=local", "store.url=none", *settings])
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=out)
    with ray_session(config), watch.running():
        [outcome] = asyncio.run(run([job], config, lambda _: None, lambda _: None))
    if outcome.manifest is None:
        raise RuntimeError(f"the talk must be dubbed; {outcome.error}")
    timings = outcome.manifest.timings
    return {"wall_s": timings.wall_s, "first_utterance_s": timings.first_utterance_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the talk")
    parser.add_argument("--talk", type=Path, help="a talk that is there already")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="one setting, as of raydub dub")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settings = [*options.settings, *([f"trace.path={options.trace}"] if options.trace else [])]
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        talk = options.talk or Path(folder) / "talk.mp4"
        if options.talk is None:
            make_talk(talk, options.seconds)
        timings = measure(talk, Path(folder) / "out", settings, watch)
    [whole], rows = rows_of(watch.samples, ("whole",)), rows_of(watch.samples)
    memory_gb = max(sample.memory_bytes for sample in watch.samples) / 1e9
    print(f"wall {timings['wall_s']:.1f} s, first line {timings['first_utterance_s']:.1f} s, {memory_gb:.2f} GB")
    for row in (*rows, whole):
        cores = ", ".join(f"{cause} {value:.2f}" for cause, value in sorted(row.cores.items()) if cause != "machine")
        print(f"{row.part:10} {row.seconds:6.1f} s of {row.cores['machine']:.2f} cores: {cores}")
    shows = abs(whole.cores["others"]) <= MAX_OTHERS * whole.cores["machine"]
    if options.json:
        rows.append(whole)
        print(json.dumps({**timings, "memory_gb": memory_gb, "rows": [asdict(row) for row in rows], "shows": shows}))
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
