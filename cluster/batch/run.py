"""Runs a batch: reads its specification, dubs the items without a finished output, writes statuses and a summary.

Running a batch again continues it: finished items are kept, and computed results come from the store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors import languages
from actors.errors import ConfigError, MediaError
from cluster.batch import ledger
from cluster.batch.drivers import run_sharded
from cluster.batch.items import Item, is_manifest, jobs_of, read_items
from cluster.batch.ledger import BatchSummary, ItemStatus
from cluster.batch.runner import ItemOutcome
from cluster.config.schema import Config
from cluster.manifest import printable
from cluster.pipeline import Job
from cluster.pools.stats import RoomWait
from cluster.storage import locations

log = logging.getLogger(__name__)

WAITS_INTERVAL_S = 5.0
"""Seconds between two writes of what the batch waits for."""


class BatchSpec(BaseModel):
    """Everything that a machine of the cluster needs to run a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[Item, ...]
    out: str
    num_drivers: int = Field(default=1, ge=1, le=10_000)
    config: dict[str, Any]

    def settings(self) -> Config:
        """The configuration, checked. Raises ConfigError."""
        try:
            return Config.model_validate(self.config)
        except ValidationError as error:
            raise ConfigError(f"the batch's configuration must be valid: {error.errors()[0]['msg']}") from error


def items_of(inputs: Sequence[str], to: str | None, source_language: str | None) -> tuple[Item, ...]:
    """Items from manifests and media; ``to`` and ``source_language`` hold for items that have none."""
    targets = () if to is None else tuple(languages.normalise(tag.strip()) for tag in to.split(","))
    spoken = None if source_language is None else languages.normalise(source_language)
    items: list[Item] = []
    for location in inputs:
        found = (
            read_items(location)
            if is_manifest(location)
            else [Item(source=each) for each in locations.expand([location])]
        )
        items += [
            item.model_copy(
                update={"to": item.to or targets, "source_language": item.source_language or spoken},
            )
            for item in found
        ]
    for item in items:
        if item.source != printable(item.source):
            raise ConfigError(
                f"a file's name must be text (UTF-8) in a batch; that of {printable(item.source)} is not; "
                f"rename it, or dub it with `raydub dub`"
            )
    return tuple(items)


async def run_batch(spec: BatchSpec, config: Config) -> BatchSummary:
    """Dub the items that are not finished, and write the status of each as it changes.

    Raises MediaError if the summary cannot be written, ConfigError if the cluster can never hold a driver.
    """
    jobs = jobs_of(spec.items, spec.out, config)
    fingerprints, found = await asyncio.to_thread(ledger.find_finished, jobs, config)
    kept = [status for status in found if status is not None]
    waiting = [job for job, status in zip(jobs, found, strict=True) if status is None]
    fingerprint_of = {job.out_location: digest for job, digest in zip(jobs, fingerprints, strict=True)}
    recorder = _StatusRecorder(spec.out, config, kept, len(jobs))
    log.info("batch items=%d kept=%d drivers=%d", len(jobs), len(kept), spec.num_drivers)
    async with asyncio.TaskGroup() as writes:

        def on_outcome(outcome: ItemOutcome) -> None:
            writes.create_task(recorder.record(ledger.status_of(outcome, fingerprint_of[outcome.job.out_location])))

        def on_start(job: Job) -> None:
            writes.create_task(recorder.record_start(ledger.running(job, fingerprint_of[job.out_location])))

        def on_waits(waits: Sequence[RoomWait]) -> None:
            if recorder.has_news(waits):
                writes.create_task(recorder.record_waits(waits))

        refusal: ConfigError | None = None
        if waiting:
            try:
                await run_sharded(waiting, config, spec.num_drivers, on_outcome, on_start, on_waits)
            except ConfigError as error:  # raised outside the group, which would wrap it
                refusal = error
    if refusal is not None:
        raise refusal
    return await recorder.finish()


class _StatusRecorder:
    """Writes statuses, one at a time and in order, and the summary.

    A status that cannot be written fails no dub: it is in the summary, and is tried once more at the end.
    """

    def __init__(self, out: str, config: Config, kept: Sequence[ItemStatus], num_items: int) -> None:
        self._out = out
        self._config = config
        self._statuses = list(kept)
        self._num_kept = len(kept)
        self._num_items = num_items
        self._unwritten: dict[str, ItemStatus] = {}
        """The latest status of each such item, by its output."""
        self._writing = asyncio.Lock()
        self._waits: Sequence[RoomWait] = ()
        """As they were written last."""
        self._waits_written_s = 0.0

    async def record_start(self, status: ItemStatus) -> None:
        async with self._writing:
            await self._write(status)

    async def record(self, status: ItemStatus) -> None:
        async with self._writing:
            self._statuses.append(status)
            log.info("item state=%s source=%s error=%s", status.state, status.source, status.error)
            await self._write(status)

    def has_news(self, waits: Sequence[RoomWait]) -> bool:
        """True if other things wait than were written last, or if that was a while ago."""
        is_old = bool(waits) and time.monotonic() - self._waits_written_s >= WAITS_INTERVAL_S
        return is_old or {wait.name for wait in waits} != {wait.name for wait in self._waits}

    async def record_waits(self, waits: Sequence[RoomWait]) -> None:
        self._waits, self._waits_written_s = waits, time.monotonic()
        async with self._writing:
            try:
                await asyncio.to_thread(ledger.write_waiting, [wait.text for wait in waits], self._out)
            except MediaError as error:
                log.warning("status of the batch not written error=%s", error.message)

    async def finish(self) -> BatchSummary:
        """Write the summary. Raises MediaError."""
        await asyncio.gather(*map(self._write, tuple(self._unwritten.values())))
        summary = ledger.summarise(self._statuses, self._num_items, self._num_kept, self._config, ended=True)
        try:
            await asyncio.to_thread(ledger.write_summary, summary, self._out)
        except MediaError as error:
            raise MediaError(
                f"the batch's summary must be written; {error.message}; the log has the state of each item, and the "
                f"same batch, run again, keeps finished items"
            ) from error
        return summary

    async def _write(self, status: ItemStatus) -> None:
        try:
            await asyncio.to_thread(ledger.write_status, status)
        except MediaError as error:
            log.warning("status not written state=%s out=%s error=%s", status.state, status.out, error.message)
            self._unwritten[status.out] = status
        else:
            self._unwritten.pop(status.out, None)


def read_spec(location: str) -> BatchSpec:
    """Read the file that ``raydub submit`` wrote. Raises ConfigError."""
    data = locations.read_bytes(location)
    if data is None:
        raise ConfigError(f"the batch's file must be where the cluster can read it; {location} does not exist")
    try:
        return BatchSpec.model_validate_json(data)
    except ValidationError as error:
        raise ConfigError(
            f"{location} must be a batch as `raydub submit` writes it: {error.errors()[0]['msg']}"
        ) from error
