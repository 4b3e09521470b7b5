"""Measures the same dub again, from the store, against the first; and the cost of a lookup.

    python bench/bench_store.py [--minutes 1] [--mode inline] [--json]

Makes a talk, dubs it into Portuguese with the offline models and an empty store, then again; prints both
wall times, their ratio, the share of hits and where the second run's time goes. Then the latency of a hit of
each kind in a folder, from request to result, against computing it. Aims: ≥ 20 × faster, ≥ 99 % hits,
a hit within 1 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.types import ASR_HZ, Candidate, Clip, PlanRequest, TranscribeRequest, Translation
from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.config.schema import Config, StageConfig
from cluster.demo.talk import make_talk
from cluster.manifest import Manifest
from cluster.pipeline import Job
from cluster.pools.async_store import AsyncStore
from cluster.pools.pool_set import PoolSet
from cluster.pools.ray_session import ray_session
from cluster.storage.keys import Key, Keyring
from cluster.storage.store import open_store

MIN_SPEED_UP = 20.0
MIN_HIT_SHARE = 0.99
MAX_HIT_MS = 1.0
NUM_LOOKUPS = 300
NUM_PLANS = 50


@dataclass(frozen=True, kw_only=True)
class Hit:
    what: str
    num_bytes: int
    p50_ms: float
    p95_ms: float


def dub(talk: Path, out: Path, config: Config) -> Manifest:
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=out)
    with ray_session(config):
        [outcome] = asyncio.run(run([job], config, lambda progress: None, lambda outcome: None))
    assert outcome.manifest is not None, outcome.error
    return outcome.manifest


def hit_share(manifest: Manifest) -> float:
    hits = sum(pool.num_hits for pool in manifest.timings.pools)
    return hits / max(1, hits + sum(pool.num_misses for pool in manifest.timings.pools))


async def hit_latencies(folder: Path) -> list[Hit]:
    """Latencies of hits: of a small result, of a clip, and of one asked for by 30 s of audio."""
    store = open_store(load_config("offline", [f"store.url={folder}"]).store)
    assert store is not None
    keyring = Keyring("speech", {"engine": "bench"})
    audio = np.random.default_rng(0).standard_normal(30 * ASR_HZ).astype(np.float32)
    small = Translation(candidates=(Candidate(text="O porto estava calmo antes de os navios chegarem.", score=-0.5),))
    clip = Clip(samples=audio[: 4 * 24_000].copy(), sample_hz=24_000)
    cases = {
        "translation": (PlanRequest(text="small", language="pt"), small),
        "clip of 4 s": (PlanRequest(text="clip", language="pt"), clip),
        "transcript of 30 s": (TranscribeRequest(samples=audio, language="en"), small),
    }
    hits = []
    async with AsyncStore(store) as cache:
        for what, (request, result) in cases.items():
            key: Key = await cache.key(keyring, request)
            await (await cache.keep(key, result))
            [value] = [listed for listed in store.list() if listed.path.endswith(key.digest)]

            async def look(request: Any = request) -> None:
                assert await cache.find(await cache.key(keyring, request)) is not None

            times_ms = await timed(look, NUM_LOOKUPS)
            p50_ms, p95_ms = statistics.median(times_ms), float(np.percentile(times_ms, 95))
            hits.append(Hit(what=what, num_bytes=value.num_bytes, p50_ms=p50_ms, p95_ms=p95_ms))
    return hits


async def plan_ms(folder: Path) -> dict[str, tuple[float, float]]:
    """Per speech engine: median milliseconds to plan a line, and to find its plan."""
    found = {}
    for engine, language in (("kokoro", "pt"), ("hibari", "en")):
        config = load_config("offline", ["ray.mode=inline", f"store.url={folder}"])
        for number in range(2):
            async with PoolSet(config) as pools:
                pool = await pools.get("speech", StageConfig(engine=engine))
                lines = iter(f"one line number {index} of a talk about rivers" for index in range(NUM_PLANS + 1))

                async def plan(language: str = language, pool: Any = pool, lines: Any = lines) -> None:
                    await pool.submit(PlanRequest(text=next(lines), language=language))

                await plan()  # loads the model
                times_ms = statistics.median(await timed(plan, NUM_PLANS))
            found[engine] = (times_ms, 0.0) if number == 0 else (found[engine][0], times_ms)
    return found


async def timed(work: Callable[[], Awaitable[None]], number: int) -> list[float]:
    times_ms = []
    for _ in range(number):
        start_s = time.perf_counter()
        await work()
        times_ms.append((time.perf_counter() - start_s) * 1e3)
    return times_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--mode", default="inline", choices=["local", "inline"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_talk(folder / "talk.mp4", options.minutes * 60)
        config = load_config("offline", [f"ray.mode={options.mode}", f"store.url={folder / 'store'}"])
        first, second = (dub(folder / "talk.mp4", folder / f"out{number}", config) for number in range(2))
        same = first.comparable() == second.comparable()
        hits = asyncio.run(hit_latencies(folder / "latencies"))
        plans = asyncio.run(plan_ms(folder / "plans"))
    speed_up, share = first.timings.wall_s / second.timings.wall_s, hit_share(second)
    print(f"{options.minutes:g} min: first {first.timings.wall_s:.2f} s, again {second.timings.wall_s:.2f} s")
    print(f"{speed_up:.1f} × faster, {share:.1%} hits, {'the same' if same else 'ANOTHER'} result")
    for hit in hits:
        print(f"hit, {hit.what:18} {hit.num_bytes / 1e3:6.1f} kB: p50 {hit.p50_ms:.2f} ms, p95 {hit.p95_ms:.2f} ms")
    for engine, (computed_ms, found_ms) in plans.items():
        print(f"plan of {engine}: computed {computed_ms:.2f} ms, found {found_ms:.2f} ms")
    if options.json:
        result = {
            "minutes": options.minutes,
            "first_s": first.timings.wall_s,
            "second_s": second.timings.wall_s,
            "speed_up": speed_up,
            "hit_share": share,
            "same_result": same,
            "hits": [asdict(hit) for hit in hits],
            "plan_ms": {engine: {"computed": each[0], "found": each[1]} for engine, each in plans.items()},
            "shows": {
                "speed_up": speed_up >= MIN_SPEED_UP,
                "hits": share >= MIN_HIT_SHARE and same,
                "hit_ms": all(hit.p50_ms <= MAX_HIT_MS for hit in hits),
            },
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
