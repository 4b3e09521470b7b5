"""Measures the share of the machine's cores that real models keep busy, streaming and stage by stage.

    python bench/bench_real.py [--minutes 5] [--json]

Dubs a made talk from English into Portuguese with the offline models on local Ray, each pool of one
replica, twice: as the pipeline does it, and with a barrier between its stages, each reading its
whole input before the next begins. The engines, pools and settings are the same; the store is off.
Model CPU is that of the replicas' processes, loading included; the ideal wall time is that CPU shared among all
cores. Printed per way: wall time, × ideal, time to the first utterance.

Bounds: streaming ends before stage by stage, and its first utterance is ready before half of that one's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from cluster import pipeline
from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.demo.talk import make_talk
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session
from cluster.streams import closing, ordered_map

T = TypeVar("T")
R = TypeVar("R")

SAMPLE_EVERY_S = 0.25
MAX_FIRST_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Row:
    way: str
    wall_s: float
    model_cpu_s: float
    ideal_s: float
    ratio: float
    first_utterance_s: float


class ReplicaCpu:
    """CPU seconds of the replicas' processes, looked at every `SAMPLE_EVERY_S`: they end with their pools."""

    def __init__(self) -> None:
        self._seen_s: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return sum(self._seen_s.values())

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ActorHost" in " ".join(process.cmdline()[:1]):
                        times = process.cpu_times()
                        self._seen_s[process.pid] = times.user + times.system
                except psutil.Error:  # it has ended meanwhile
                    continue


async def after_all(
    source: AsyncIterator[T], function: Callable[[T], Awaitable[R]], max_pending: int
) -> AsyncIterator[R]:
    """``ordered_map`` with a barrier before it and one behind it."""
    async with closing(source):
        items = [item async for item in source]

    async def again() -> AsyncIterator[T]:
        for item in items:
            yield item

    results = [result async for result in ordered_map(again(), function, max_pending)]
    for result in results:
        yield result


@contextmanager
def barriers() -> Iterator[None]:
    pipeline.ordered_map = after_all  # type: ignore[assignment]
    try:
        yield
    finally:
        pipeline.ordered_map = ordered_map


def measure(way: str, talk: Path, out: Path) -> Row:
    config = load_config("offline", ["ray.mode=local", "store.url=none"])
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=out / way)
    with ray_session(config):
        cpu = ReplicaCpu()
        [outcome] = asyncio.run(run([job], config, lambda _: None, lambda _: None))
        model_cpu_s = cpu.stop()
    if outcome.manifest is None:
        raise RuntimeError(f"the talk must be dubbed; {outcome.error}")
    timings = outcome.manifest.timings
    if timings.first_utterance_s is None:
        raise RuntimeError("the talk must have utterances; it has none")
    ideal_s = model_cpu_s / (os.cpu_count() or 1)
    return Row(
        way=way,
        wall_s=timings.wall_s,
        model_cpu_s=round(model_cpu_s, 2),
        ideal_s=round(ideal_s, 2),
        ratio=round(timings.wall_s / ideal_s, 3),
        first_utterance_s=timings.first_utterance_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        talk = Path(folder) / "talk.mp4"
        make_talk(talk, options.minutes * 60)
        streaming = measure("streaming", talk, Path(folder))
        with barriers():
            staged = measure("stage by stage", talk, Path(folder))
    for row in (streaming, staged):
        print(
            f"{row.way:15} wall {row.wall_s:.1f} s, models {row.model_cpu_s:.1f} s of CPU, {row.ratio:.2f} × ideal, "
            f"first utterance after {row.first_utterance_s:.1f} s",
            flush=True,
        )
    if options.json:
        shows = (
            streaming.wall_s < staged.wall_s
            and streaming.first_utterance_s <= MAX_FIRST_SHARE * staged.first_utterance_s
        )
        rows = [asdict(row) for row in (streaming, staged)]
        print(json.dumps({"minutes": options.minutes, "rows": rows, "shows": shows}))


if __name__ == "__main__":
    main()
