"""The state of a batch in files: a ``status.json`` beside each item's results, and a summary of all.

A batch that is run again reads these files, and continues where it ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import MediaError
from cluster.batch.runner import ItemOutcome
from cluster.config.load import MACHINE_SECTIONS, item_config
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.manifest import Manifest
from cluster.pipeline import Job
from cluster.storage import locations
from cluster.storage.http import describe
from cluster.storage.outputs import MANIFEST_NAME
from cluster.storage.urls import shown
from cluster.verdicts import VideoOutcome

log = logging.getLogger(__name__)

STATUS_NAME, WAITING_NAME = "status.json", "waiting.json"
SUMMARY_NAME, PAGE_NAME = "summary.json", "summary.html"
RUNNING, UNKNOWN = "running", "unknown"
FINISHED = ("done", "degraded", "unchanged")
NUM_READERS = 16
MAX_ROWS = 1_000
"""Items on the page of a summary: a browser shows no more in reasonable time."""


class EngineUsage(BaseModel):
    """Running total of one pool of one driver, at the end of an item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    engine_s: float
    num_hits: int
    num_misses: int


class ItemStatus(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    out: str
    state: str
    """One of done, degraded, unchanged (nothing to dub), failed, running, unknown (its status cannot be read).

    An item of a batch that was killed stays running.
    """
    fingerprint: str
    """Hash of the input, the item's settings and the configuration. If it differs, the results are out of date."""
    error: str | None
    flags: tuple[str, ...] = ()
    ended: str | None
    duration_s: float = 0.0
    num_segments: int = 0
    num_utterances: int = 0
    num_flagged: int = 0
    """Lines that a person should look at."""
    verdict: VideoOutcome | None = None
    """None for an item that has none yet, or was made by an earlier version."""
    driver: str = ""
    engines: tuple[EngineUsage, ...] = ()


class BatchWaits(BaseModel):
    """Waits for the cluster that hold up a running batch, in a ``waiting.json`` beside its summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    updated: str
    waiting: tuple[str, ...]
    """Replicas that the cluster has no room for now, or a driver with one replica of each pool, in words."""


class BatchSummary(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ended: str | None
    """None while the batch runs."""
    num_items: int
    states: dict[str, int]
    """Number of items in each state: done, degraded, unchanged, failed, running, unknown, waiting."""
    num_kept: int
    """Items that an earlier run finished, and that were not dubbed again."""
    num_failed_verdicts: int = 0
    """Items of which the verdict is failed: too many lines to look at."""
    media_s: float
    num_segments: int
    engine_s: dict[str, float]
    hits: dict[str, float]
    """Share of each engine's results that were found in the store."""
    gpu_s: float
    cpu_s: float
    currency: str
    cost: float
    cost_per_segment: float | None
    cost_per_minute: float | None
    items: tuple[ItemStatus, ...] = Field(repr=False)
    """Not in ``repr``: asyncio and signal handlers make one of a task's result."""


class Fingerprints:
    """Makes the fingerprints of a batch's jobs; jobs with the same settings share the work."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._described: dict[str, str] = {}
        """The configuration as JSON, by an item's own settings."""

    def of(self, job: Job) -> str:
        """Hash of a job's inputs and settings. Reads the identity of remote inputs over the network."""
        key = repr(job.settings)
        described = self._described.get(key)
        if described is None:
            described = self._described[key] = _describe(item_config(self._config, job.settings))
        rest = json.dumps(_inputs(job, self._config), sort_keys=True)
        return hashlib.sha256(f'{{"config": {described}, {rest[1:]}'.encode()).hexdigest()


def _describe(config: Config) -> str:
    """All of an item's configuration that its results depend on."""
    tree = config.model_dump(
        mode="json",
        exclude=dict.fromkeys((*MACHINE_SECTIONS, "drivers", "pipeline"), True) | {"quality": {"strict"}},
    )
    return json.dumps(tree, sort_keys=True)


def _inputs(job: Job, config: Config) -> dict[str, Any]:
    remote = job.remote
    inputs = [job.source_location]
    inputs += [str(path) for path in (job.subtitles, *job.target_subtitles.values()) if path is not None]
    if remote is not None:
        inputs += [
            location for location in (remote.subtitles, *remote.target_subtitles.values()) if location is not None
        ]
    return {
        "inputs": [(location, _identity(location, config)) for location in inputs],
        "targets": job.targets,
        "language": job.source_language,
        "track": job.audio_track,
    }


def _identity(location: str, config: Config) -> str:
    """A value that changes when the file changes.

    Where the server gives no such value, it changes every time: the file is fetched again, and results in the store
    are found by its content.
    """
    if not locations.is_http(location):
        return locations.identity_of(location) or ""
    try:
        found = asyncio.run(describe(location, config.fetch)).identity
    except MediaError as error:  # the download reports it
        log.warning("input not described location=%s error=%s", shown(location), error.message)
        found = None
    if found is None:
        log.warning(
            "input has neither a strong ETag nor a size and time of change, fetched again location=%s", shown(location)
        )
    return found or uuid.uuid4().hex


def read_status(out: str) -> ItemStatus | None:
    """The item's status; None if there is none of this version. Raises MediaError if it cannot be read."""
    data = locations.read_bytes(locations.join(out, STATUS_NAME))
    try:
        return None if data is None else ItemStatus.model_validate_json(data)
    except ValidationError:
        return None


def read_statuses(jobs: Sequence[Job]) -> list[ItemStatus | None]:
    """The status of each item, several read at a time; None for those that have none."""

    def read(job: Job) -> ItemStatus | None:
        try:
            return read_status(job.out_location)
        except MediaError as error:
            return unknown(job, error)

    with ThreadPoolExecutor(NUM_READERS) as readers:
        return list(readers.map(read, jobs))


def read_waiting(out: str) -> tuple[str, ...]:
    """Descriptions of all that a running batch waits for. Raises MediaError if the file cannot be read."""
    data = locations.read_bytes(locations.join(out, WAITING_NAME))
    try:
        return () if data is None else BatchWaits.model_validate_json(data).waiting
    except ValidationError:
        return ()


def write_waiting(waiting: Sequence[str], out: str) -> None:
    """Raises MediaError."""
    status = BatchWaits(updated=now(), waiting=tuple(waiting))
    locations.write_bytes(locations.join(out, WAITING_NAME), (status.model_dump_json(indent=1) + "\n").encode())


def find_finished(job: Job, digest: str) -> ItemStatus | None:
    """The job's status if it is finished and its results are up to date.

    A job whose status cannot be read is not finished: it is dubbed again, from the store where possible.
    """
    try:
        status = read_status(job.out_location)
    except MediaError as error:
        log.warning("status not read, its item is dubbed again out=%s error=%s", job.out_location, error.message)
        return None
    is_finished = (
        status is not None
        and status.state in FINISHED
        and status.fingerprint == digest
        and locations.identity_of(locations.join(job.out_location, MANIFEST_NAME)) is not None
    )
    return status if is_finished else None


def running(job: Job, digest: str) -> ItemStatus:
    """The status of an item that a driver has taken."""
    return ItemStatus(
        source=locations.for_people(job.source_location),
        out=job.out_location,
        state=RUNNING,
        fingerprint=digest,
        error=None,
        ended=None,
    )


def unknown(job: Job, error: MediaError) -> ItemStatus:
    """The status of an item whose file cannot be read."""
    return ItemStatus(
        source=locations.for_people(job.source_location),
        out=job.out_location,
        state=UNKNOWN,
        fingerprint="",
        error=error.message,
        ended=None,
    )


def failed(job: Job, error: str) -> ItemStatus:
    """The status of an item that no driver has dubbed."""
    return status_of(ItemOutcome(job=job, manifest=None, error=error))


def status_of(outcome: ItemOutcome, digest: str = "") -> ItemStatus:
    manifest = outcome.manifest
    lines = [] if manifest is None else [line for dub in manifest.dubs for line in dub.utterances]
    return ItemStatus(
        source=locations.for_people(outcome.job.source_location),
        out=outcome.job.out_location,
        state="failed" if manifest is None else manifest.status,
        fingerprint=digest,
        error=outcome.error,
        flags=() if manifest is None else tuple(flag.value for flag in manifest.flags if isinstance(flag, Flag)),
        ended=now(),
        duration_s=0.0 if manifest is None else manifest.input.duration_s,
        num_segments=0 if manifest is None else len(manifest.segments),
        num_utterances=len(lines),
        num_flagged=sum(line.needs_look for line in lines),
        verdict=None if manifest is None or manifest.verdict is None else manifest.verdict.outcome,
        driver="" if manifest is None else manifest.timings.driver,
        engines=() if manifest is None else _usage(manifest),
    )


def write_status(status: ItemStatus) -> None:
    """Raises MediaError."""
    locations.write_bytes(locations.join(status.out, STATUS_NAME), (status.model_dump_json(indent=1) + "\n").encode())


def summarise(
    statuses: Sequence[ItemStatus], num_items: int, num_kept: int, config: Config, *, ended: bool
) -> BatchSummary:
    fresh = statuses[num_kept:]
    engine_s = _largest(fresh, "engine_s")
    hits, misses = _largest(fresh, "num_hits"), _largest(fresh, "num_misses")
    pools = {name: config.pool_settings(name)[1] for name in engine_s}
    gpu_s = sum(seconds * pools[name].num_gpus for name, seconds in engine_s.items())
    cpu_s = sum(seconds * pools[name].num_cpus for name, seconds in engine_s.items())
    cost = config.price.cost(gpu_s, cpu_s)
    num_segments = sum(status.num_segments for status in fresh)
    minutes = sum(status.duration_s for status in fresh) / 60
    states = Counter(status.state for status in statuses)
    states["waiting"] = num_items - len(statuses)
    return BatchSummary(
        ended=now() if ended else None,
        num_items=num_items,
        states={state: count for state, count in sorted(states.items()) if count},
        num_kept=num_kept,
        num_failed_verdicts=sum(status.verdict is VideoOutcome.FAILED for status in statuses),
        media_s=round(sum(status.duration_s for status in statuses), 3),
        num_segments=num_segments,
        engine_s={name: round(seconds, 3) for name, seconds in sorted(engine_s.items())},
        hits={
            name: round(hits[name] / (hits[name] + misses[name]), 4)
            for name in sorted(hits)
            if hits[name] + misses[name]
        },
        gpu_s=round(gpu_s, 3),
        cpu_s=round(cpu_s, 3),
        currency=config.price.currency,
        cost=round(cost, 6),
        cost_per_segment=round(cost / num_segments, 6) if num_segments else None,
        cost_per_minute=round(cost / minutes, 6) if minutes else None,
        items=tuple(statuses),
    )


def write_summary(summary: BatchSummary, out: str) -> None:
    """Write the summary as JSON and as a page, into the batch's output. Raises MediaError."""
    locations.write_bytes(locations.join(out, SUMMARY_NAME), (summary.model_dump_json(indent=1) + "\n").encode())
    loader = jinja2.PackageLoader("cluster.batch", "")
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("summary.html.j2")
    items = sorted(summary.items, key=_urgency)[:MAX_ROWS]
    page = template.render(summary=summary, items=items, num_more=len(summary.items) - len(items))
    locations.write_bytes(locations.join(out, PAGE_NAME), page.encode())


def _urgency(status: ItemStatus) -> tuple[bool, bool, int]:
    """Sort key: failures first, then failed verdicts, then most lines to look at."""
    return status.state != "failed", status.verdict is not VideoOutcome.FAILED, -status.num_flagged


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _usage(manifest: Manifest) -> tuple[EngineUsage, ...]:
    return tuple(
        EngineUsage(name=pool.name, engine_s=pool.engine_s, num_hits=pool.num_hits, num_misses=pool.num_misses)
        for pool in manifest.timings.pools
    )


def _largest(statuses: Sequence[ItemStatus], field: str) -> dict[str, float]:
    """Sum per engine over all drivers: a driver's counts only grow, so its largest is its last."""
    by_driver: dict[tuple[str, str], float] = {}
    for status in statuses:
        for engine in status.engines:
            key = (engine.name, status.driver)
            by_driver[key] = max(by_driver.get(key, 0.0), getattr(engine, field))
    total: dict[str, float] = {}
    for (name, _), value in by_driver.items():
        total[name] = total.get(name, 0.0) + value
    return total
