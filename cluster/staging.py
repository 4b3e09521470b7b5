"""Jobs whose input or output lies elsewhere: brought to this machine's disk, dubbed there, delivered."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cluster import places
from cluster.config import Config
from cluster.fetch import fetch
from cluster.pipeline import Job


@asynccontextmanager
async def brought(job: Job, config: Config) -> AsyncIterator[Job]:
    """The job on this machine's disk for the time of the block; the same job if nothing of it is elsewhere.

    Raises MediaError if something cannot be brought.
    """
    there = job.elsewhere
    if there is None:
        yield job
        return
    # Media are decoded once per language and once more: a copy on disk, not a stream, is what they are read from.
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="raydub-")
    try:
        yield await _bring(job, Path(folder.name), config)
    finally:
        await asyncio.to_thread(folder.cleanup)


async def deliver(job: Job, local: Job) -> None:
    """Copy the results of ``local`` to where ``job`` wants them, if that is elsewhere. Raises MediaError."""
    if job.elsewhere is not None and job.elsewhere.out is not None:
        await asyncio.to_thread(places.upload, local.out, job.elsewhere.out)


async def _bring(job: Job, folder: Path, config: Config) -> Job:
    there = job.elsewhere
    assert there is not None

    async def bring(place: str | None, own: Path | None, name: str) -> Path | None:
        if place is None:
            return own
        to = folder / name / places.name_of(place)
        await asyncio.to_thread(to.parent.mkdir)
        if places.is_http(place):
            await fetch(place, to, config.fetch)
        else:
            await asyncio.to_thread(places.download, place, to, config.fetch)
        return to

    source = await bring(there.source, job.source, "source")
    assert source is not None
    targets = dict(job.target_subtitles)
    for number, (target, place) in enumerate(there.target_subtitles.items()):
        path = await bring(place, None, f"target{number}")
        assert path is not None
        targets[target] = path
    return dataclasses.replace(
        job,
        source=source,
        out=job.out if there.out is None else folder / "out",
        subtitles=await bring(there.subtitles, job.subtitles, "subtitles"),
        target_subtitles=targets,
    )
