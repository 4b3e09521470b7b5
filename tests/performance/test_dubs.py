"""Whole dubs on stand-in models: memory, and what a second run costs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.manifest import Manifest
from cluster.pipeline import Job
from tests.standins.batches import make_batch

NUM_LINES = 12
MAX_GROWTH_BYTES = 500_000_000


@dataclass(frozen=True, kw_only=True)
class Dubbed:
    manifest: Manifest
    computed: Counter[str]
    growth_bytes: int
    """Largest memory of this process during the dub, over that before it."""
    cpu_s: float


async def dub(folder: Path, name: str, store: str = "store") -> Dubbed:
    log, kept = folder / f"{name}.log", folder / store
    log.touch()
    options = f"{{log: {log}, store: {kept}}}"
    settings = ["ray.mode=inline", "quality.check=none", "alignment.strategy=length", "translation.num_candidates=1"]
    settings += [f"{task}.options={options}" for task in ("translation", "speech")]
    settings += ["translation.engine=tests.standins.counted_translator", f"store.url={kept}"]
    config = load_config("base", [*settings, "speech.engine=tests.standins.counted_speaker"])
    job = Job(
        source=folder / "batch" / "talk0.mp4",
        targets=("pt",),
        source_language="en",
        audio_track=None,
        out=folder / name,
        subtitles=folder / "batch" / "talk0.vtt",
    )
    process = psutil.Process()
    before_bytes, start_s, sizes = process.memory_info().rss, time.process_time(), [0]
    [outcome] = await run([job], config, lambda _: sizes.append(process.memory_info().rss), lambda _: None)
    assert outcome.manifest is not None, outcome.error
    return Dubbed(
        manifest=outcome.manifest,
        computed=Counter(line.split(" ")[3] for line in log.read_text().splitlines()),
        growth_bytes=max(sizes) - before_bytes,
        cpu_s=time.process_time() - start_s,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dubbed, Dubbed]:
    """One dub twice, into two folders and with one store; what is loaded once was loaded by another before."""
    folder = tmp_path_factory.mktemp("dubs")
    make_batch(folder / "batch", 1, NUM_LINES)
    asyncio.run(dub(folder, "first", store="another"))
    return asyncio.run(dub(folder, "cold")), asyncio.run(dub(folder, "warm"))


def test_a_dub_adds_less_than_500_megabytes(runs: tuple[Dubbed, Dubbed]) -> None:
    assert runs[0].growth_bytes < MAX_GROWTH_BYTES


def test_the_second_run_computes_nothing_and_costs_a_part(runs: tuple[Dubbed, Dubbed]) -> None:
    cold, warm = runs
    assert min(cold.computed["translate"], cold.computed["speak"]) >= NUM_LINES
    assert warm.computed == Counter()
    assert sum(pool.num_items for pool in warm.manifest.timings.pools) == 0
    assert warm.manifest.comparable()["dubs"] == cold.manifest.comparable()["dubs"]
    assert warm.cpu_s < cold.cpu_s
