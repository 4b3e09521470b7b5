"""A first look at an input of a batch: how long it is, and whether it is missing."""

from __future__ import annotations

import asyncio

from actors.errors import MediaError
from cluster.config.schema import Config
from cluster.media.sandbox import inspect
from cluster.pipeline import Job
from cluster.storage import locations
from cluster.storage.http import describe

GUESSED_BYTES_PER_S = 250_000
"""Assumed byte rate of a remote input, whose duration is unknown before its download. Affects only the order."""


async def look_at_input(job: Job, config: Config) -> float:
    """Duration of the input in seconds, 0 if it is unknown. Raises MediaError if there is no such file."""
    if job.remote is not None and job.remote.source is not None:
        return (await _size_of(job.remote.source, config) or 0) / GUESSED_BYTES_PER_S
    try:
        return (await asyncio.to_thread(inspect, job.source, config.media)).duration_s
    except MediaError:
        if await asyncio.to_thread(job.source.exists):
            return 0.0  # the driver that dubs it reports the error
        raise


async def _size_of(location: str, config: Config) -> int | None:
    """Size in bytes; None if it is unknown."""
    if not locations.is_http(location):
        return await asyncio.to_thread(locations.size_of, location)
    try:
        return (await describe(location, config.fetch)).num_bytes
    except MediaError:  # the driver that dubs it reports the error
        return None
