"""The first look at a batch's inputs: a missing one is told at once, others are left to their drivers."""

from __future__ import annotations

from pathlib import Path

from cluster.batch.inputs import look_at_inputs
from cluster.batch.runner import ItemOutcome
from cluster.config.load import load_config
from cluster.pipeline import Job


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
