"""The first look at a batch's inputs: a missing one is told at once, others are left to their drivers."""

from __future__ import annotations

import resource
from pathlib import Path

from cluster.batch.inputs import look_at_inputs
from cluster.batch.runner import ItemOutcome
from cluster.config.load import load_config
from cluster.pipeline import Job
from tests import bombs

OPEN_BYTES = 60_000_000


def job_of(source: Path) -> Job:
    return Job(source=source, targets=("pt",), source_language="en", audio_track=None, out=source.parent / "out")


async def test_only_a_missing_input_needs_no_driver(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    told: list[ItemOutcome] = []
    missing, duration_s = await look_at_inputs(
        [job_of(tmp_path / "missing.mp4"), job_of(broken)], load_config("base"), told.append
    )
    assert told == [missing]
    assert "found no such file" in str(told[0].error)
    assert duration_s == 0.0


async def test_a_bomb_takes_no_memory_of_the_coordinator(tmp_path: Path) -> None:
    """A kilobyte whose tables FFmpeg would lay out in memory: it is opened in a process of its own, with a limit."""
    bomb = tmp_path / "bomb.mp4"
    bomb.write_bytes(bombs.repeated_samples(20_000_000))
    config = load_config("base", [f"media.max_open_bytes={OPEN_BYTES}"])
    told: list[ItemOutcome] = []
    before_bytes = peak_bytes()
    assert await look_at_inputs([job_of(bomb)], config, told.append) == [0.0]
    assert told == [], "the driver that is given it reports the error"
    assert peak_bytes() - before_bytes < OPEN_BYTES


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
