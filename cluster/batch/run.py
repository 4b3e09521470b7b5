"""Runs a batch: reads its specification, dubs the items without a finished output, writes statuses and a summary.

Running a batch again continues it: finished items are kept, and computed results come from the store.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors import languages
from actors.errors import ConfigError
from cluster.batch import ledger
from cluster.batch.coordinator import run_sharded
from cluster.batch.items import Item, ItemJobs, check_items, is_manifest, read_items
from cluster.batch.ledger import BatchSummary, ItemStatus
from cluster.batch.recorder import StatusRecorder
from cluster.config.schema import Config
from cluster.manifest import printable
from cluster.pipeline import Job
from cluster.storage import locations

log = logging.getLogger(__name__)


class BatchSpec(BaseModel):
    """Everything that a machine of the cluster needs to run a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[Item, ...] = Field(repr=False)
    out: str
    num_drivers: int = Field(default=1, ge=1, le=10_000)
    config: dict[str, Any]
    are_checked: bool = False
    """True if the items were checked against the configuration where the batch was submitted."""

    def jobs(self, config: Config) -> ItemJobs:
        """A job for each item, those of higher priority first. Raises ConfigError."""
        items = sorted(self.items, key=lambda item: -item.priority)
        return ItemJobs(items, self.out) if self.are_checked else check_items(items, self.out, config)

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
        items += [_completed(item, targets, spoken) for item in found]
    for item in items:
        if item.source != printable(item.source):
            raise ConfigError(
                f"a file's name must be text (UTF-8) in a batch; that of {printable(item.source)} is not; "
                f"rename it, or dub it with `raydub dub`"
            )
    return tuple(items)


def _completed(item: Item, targets: Sequence[str], spoken: str | None) -> Item:
    missing: dict[str, object] = {} if item.to else {"to": targets}
    if item.source_language is None and spoken is not None:
        missing["source_language"] = spoken
    return item.model_copy(update=missing) if missing else item


async def run_batch(spec: BatchSpec, config: Config) -> BatchSummary:
    """Dub the items that are not finished, and write the status of each as it changes.

    Raises MediaError if the summary cannot be written, ConfigError if the cluster can never hold a driver.
    """
    jobs = spec.jobs(config)
    fingerprints = ledger.Fingerprints(config)
    digests: dict[str, str] = {}
    """Fingerprint of each item that is dubbed now, by its output."""
    recorder = StatusRecorder(spec.out, config, len(jobs))
    log.info("batch items=%d drivers=%d", len(jobs), spec.num_drivers)

    def is_wanted(job: Job) -> bool:
        digest = fingerprints.of(job)
        finished = ledger.find_finished(job, digest)
        if finished is None:
            digests[job.out_location] = digest
        else:
            recorder.keep(finished)
        return finished is None

    def on_start(job: Job) -> None:
        recorder.record_start(ledger.running(job, digests[job.out_location]))

    def on_end(status: ItemStatus) -> None:
        recorder.record_end(status.model_copy(update={"fingerprint": digests.pop(status.out)}))

    refusal: ConfigError | None = None
    async with recorder:
        try:
            await run_sharded(jobs, config, spec.num_drivers, on_end, on_start, recorder.record_waits, is_wanted)
        except ConfigError as error:  # raised outside the group, which would wrap it
            refusal = error
    if refusal is not None:
        raise refusal
    log.info("batch ended items=%d kept=%d", len(jobs), recorder.num_kept)
    return await recorder.finish()


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
