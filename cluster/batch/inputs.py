"""A first look at the inputs of a batch: how long they are, and which are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from actors.errors import MediaError
from cluster.batch.runner import ItemOutcome
from cluster.config.schema import Config
from cluster.media.sandbox import inspect
from cluster.pipeline import Job
from cluster.storage import locations
from cluster.storage.http import describe

MAX_PROBES = 8
"""Inputs whose durations are read at a time."""
GUESSED_BYTES_PER_S = 250_000
"""Assumed byte rate of a remote input, whose duration is unknown before its download. Affects only the order."""


async def look_at_inputs(
    jobs: Sequence[Job], config: Config, on_outcome: Callable[[ItemOutcome], None]
) -> list[float | ItemOutcome]:
    """The duration of each input, 0 if it is unknown; the outcome of one that is missing, which needs no driver."""
    room = asyncio.Semaphore(MAX_PROBES)

    async def look(job: Job) -> float | ItemOutcome:
        async with room:
            if job.remote is not None and job.remote.source is not None:
                return (await _size_of(job.remote.source, config) or 0) / GUESSED_BYTES_PER_S
            try:
                return (await asyncio.to_thread(inspect, job.source, config.media)).duration_s
            except MediaError as error:
                if await asyncio.to_thread(job.source.exists):
                    return 0.0  # the driver that dubs it reports the error
                outcome = ItemOutcome(job=job, manifest=None, error=error.message)
                on_outcome(outcome)
                return outcome

    return await asyncio.gather(*(look(job) for job in jobs))


async def _size_of(location: str, config: Config) -> int | None:
    """Size in bytes; None if it is unknown."""
    if not locations.is_http(location):
        return await asyncio.to_thread(locations.size_of, location)
    try:
        return (await describe(location, config.fetch)).num_bytes
    except MediaError:  # the driver that dubs it reports the error
        return None
