"""The first look at a batch's inputs: a missing one is told at once, others are left to their drivers."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from actors.errors import MediaError
from cluster.batch.inputs import look_at_input
from cluster.config.load import load_config
from cluster.pipeline import Job
from tests import bombs

OPEN_BYTES = 60_000_000


def job_of(source: Path) -> Job:
    return Job(source=source, targets=("pt",), source_language="en", audio_track=None, out=source.parent / "out")


async def test_only_a_missing_input_needs_no_driver(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    with pytest.raises(MediaError, match="found no such file"):
        await look_at_input(job_of(tmp_path / "missing.mp4"), load_config("base"))
    assert await look_at_input(job_of(broken), load_config("base")) == 0.0


async def test_a_bomb_takes_no_memory_of_the_coordinator(tmp_path: Path) -> None:
    """A kilobyte whose tables FFmpeg would lay out in memory: it is opened in a process of its own, with a limit."""
    bomb = tmp_path / "bomb.mp4"
    bomb.write_bytes(bombs.repeated_samples(20_000_000))
    config = load_config("base", [f"media.max_open_bytes={OPEN_BYTES}"])
    before_bytes = peak_bytes()
    assert await look_at_input(job_of(bomb), config) == 0.0, "the driver that is given it reports the error"
    assert peak_bytes() - before_bytes < OPEN_BYTES


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
