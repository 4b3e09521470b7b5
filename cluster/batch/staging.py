"""Downloads remote inputs of a job to this machine's disk, and uploads its results."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.storage import locations


@asynccontextmanager
async def stage_in(job: Job, config: Config) -> AsyncIterator[Job]:
    """A job on local files for the time of the block; the same job if nothing of it is remote.

    Raises MediaError if a file cannot be downloaded.
    """
    remote = job.remote
    if remote is None:
        yield job
        return
    # Media are decoded once per language and once more, so they are read from a copy on disk, not from a stream.
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="raydub-")
    try:
        yield await _download_inputs(job, Path(folder.name), config)
    finally:
        await asyncio.to_thread(folder.cleanup)


async def stage_out(job: Job, local: Job) -> None:
    """Upload the results of ``local``, if the output of ``job`` is remote. Raises MediaError."""
    if job.remote is not None and job.remote.out is not None:
        await asyncio.to_thread(locations.upload, local.out, job.remote.out)


async def _download_inputs(job: Job, folder: Path, config: Config) -> Job:
    remote = job.remote
    assert remote is not None

    async def local_path(location: str | None, default: Path | None, name: str) -> Path | None:
        if location is None:
            return default
        to = folder / name / locations.name_of(location)
        await asyncio.to_thread(to.parent.mkdir)
        if locations.is_http(location):
            from cluster.storage.http import fetch  # slow to import, and most inputs are files

            await fetch(location, to, config.fetch)
        else:
            await asyncio.to_thread(locations.download, location, to, config.fetch)
        return to

    source = await local_path(remote.source, job.source, "source")
    assert source is not None
    targets = dict(job.target_subtitles)
    for number, (target, location) in enumerate(remote.target_subtitles.items()):
        path = await local_path(location, None, f"target{number}")
        assert path is not None
        targets[target] = path
    return dataclasses.replace(
        job,
        source=source,
        out=job.out if remote.out is None else folder / "out",
        subtitles=await local_path(remote.subtitles, job.subtitles, "subtitles"),
        target_subtitles=targets,
    )
