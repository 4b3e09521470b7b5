"""What became of each item of a batch: a ``status.json`` beside its results, and a summary of all.

The files are the state: whoever runs the batch again reads them, and begins where it ended.
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
from pydantic import BaseModel, ConfigDict, ValidationError

from actors.errors import MediaError
from cluster import places
from cluster.config import Config, StageConfig
from cluster.fetch import describe, shown
from cluster.manifest import Flag, Manifest
from cluster.outputs import MANIFEST_NAME
from cluster.pipeline import Job
from cluster.runner import Outcome

log = logging.getLogger(__name__)

STATUS_NAME, SUMMARY_NAME, PAGE_NAME = "status.json", "summary.json", "summary.html"
RUNNING, UNKNOWN = "running", "unknown"
STANDING = ("done", "degraded", "unchanged")
NUM_READERS = 16


class Engine(BaseModel):
    """What one pool of one driver had used by the end of an item, since that driver began."""

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
    """done, degraded, unchanged (nothing to dub), failed; running, which it stays if the batch is killed; unknown
    where it cannot be read."""
    fingerprint: str
    """Of the input, the item's settings and the configuration: another one means the results are of something else."""
    error: str | None
    flags: tuple[str, ...] = ()
    ended: str | None
    duration_s: float = 0.0
    num_segments: int = 0
    num_utterances: int = 0
    num_flagged: int = 0
    driver: str = ""
    engines: tuple[Engine, ...] = ()


class Summary(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ended: str | None
    """None while the batch runs."""
    num_items: int
    states: dict[str, int]
    """done, degraded, unchanged, failed, running, unknown, waiting."""
    num_kept: int
    """Of these, items whose results stood from an earlier run."""
    media_s: float
    num_segments: int
    engine_s: dict[str, float]
    hits: dict[str, float]
    """Share of each stage's results that lay in the store."""
    gpu_s: float
    cpu_s: float
    currency: str
    cost: float
    cost_per_segment: float | None
    cost_per_minute: float | None
    items: tuple[ItemStatus, ...]


def fingerprint(job: Job, config: Config) -> str:
    """Reads the identity of the inputs, by way of the network if they lie there."""
    own = config.overlaid(job.settings).model_dump(mode="json", exclude={"ray", "drivers", "store", "pipeline"})
    there = job.elsewhere
    inputs = [job.source_place]
    inputs += [str(path) for path in (job.subtitles, *job.target_subtitles.values()) if path is not None]
    if there is not None:
        inputs += [place for place in (there.subtitles, *there.target_subtitles.values()) if place is not None]
    tree = {
        "config": own,
        "inputs": [(place, _identity(place, config)) for place in inputs],
        "targets": job.targets,
        "language": job.source_language,
        "track": job.audio_track,
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _identity(place: str, config: Config) -> str:
    """Where nothing tells whether it is another one, each time another: it is brought anew, and its content
    decides, by which all results are stored.
    """
    if not places.is_http(place):
        return places.identity_of(place) or ""
    try:
        found = asyncio.run(describe(place, config.fetch)).identity
    except MediaError as error:  # who brings it says so
        log.warning("input not described place=%s error=%s", shown(place), error.message)
        found = None
    if found is None:
        log.warning("input has no strong ETag or size and time of change, brought anew place=%s", shown(place))
    return found or uuid.uuid4().hex


def read_status(out: str) -> ItemStatus | None:
    """None if there is none, or none of this version. Raises MediaError if that cannot be known."""
    data = places.read_bytes(places.join(out, STATUS_NAME))
    try:
        return None if data is None else ItemStatus.model_validate_json(data)
    except ValidationError:
        return None


def standing(jobs: Sequence[Job], config: Config) -> tuple[list[str], list[ItemStatus | None]]:
    """Each job's fingerprint, and its status if its results stand and are of the same.

    What cannot be known does not stand: its driver finds the results in the store, or says what is wrong.
    """

    def look(job: Job) -> tuple[str, ItemStatus | None]:
        mark = fingerprint(job, config)
        try:
            status = read_status(job.out_place)
        except MediaError as error:
            log.warning("status not read, its item is dubbed again out=%s error=%s", job.out_place, error.message)
            return mark, None
        stands = status is not None and status.state in STANDING and status.fingerprint == mark
        stands = stands and places.identity_of(places.join(job.out_place, MANIFEST_NAME)) is not None
        return mark, status if stands else None

    with ThreadPoolExecutor(NUM_READERS) as readers:
        found = list(readers.map(look, jobs))
    return [mark for mark, _ in found], [status for _, status in found]


def running(job: Job, mark: str) -> ItemStatus:
    """Of an item that a driver was given."""
    return ItemStatus(
        source=job.source_place, out=job.out_place, state=RUNNING, fingerprint=mark, error=None, ended=None
    )


def unknown(job: Job, error: MediaError) -> ItemStatus:
    """Of an item whose status cannot be read."""
    return ItemStatus(
        source=job.source_place, out=job.out_place, state=UNKNOWN, fingerprint="", error=error.message, ended=None
    )


def status_of(outcome: Outcome, mark: str) -> ItemStatus:
    manifest = outcome.manifest
    lines = [] if manifest is None else [line for dub in manifest.dubs for line in dub.utterances]
    return ItemStatus(
        source=outcome.job.source_place,
        out=outcome.job.out_place,
        state="failed" if manifest is None else manifest.status,
        fingerprint=mark,
        error=outcome.error,
        flags=() if manifest is None else tuple(flag.value for flag in manifest.flags if isinstance(flag, Flag)),
        ended=now(),
        duration_s=0.0 if manifest is None else manifest.input.duration_s,
        num_segments=0 if manifest is None else len(manifest.segments),
        num_utterances=len(lines),
        num_flagged=sum(bool(line.flags) for line in lines),
        driver="" if manifest is None else manifest.timings.driver,
        engines=() if manifest is None else _engines(manifest),
    )


def write_status(status: ItemStatus) -> None:
    """Raises MediaError."""
    places.write_bytes(places.join(status.out, STATUS_NAME), (status.model_dump_json(indent=1) + "\n").encode())


def summarise(statuses: Sequence[ItemStatus], num_items: int, num_kept: int, config: Config, *, ended: bool) -> Summary:
    fresh = statuses[num_kept:]
    engine_s = _largest(fresh, "engine_s")
    hits, misses = _largest(fresh, "num_hits"), _largest(fresh, "num_misses")
    gpu_s = sum(seconds * _stage(name, config).pool.num_gpus for name, seconds in engine_s.items())
    cpu_s = sum(seconds * _stage(name, config).pool.num_cpus for name, seconds in engine_s.items())
    cost = (gpu_s * config.price.gpu_hour + cpu_s * config.price.cpu_hour) / 3600
    num_segments = sum(status.num_segments for status in fresh)
    minutes = sum(status.duration_s for status in fresh) / 60
    states = Counter(status.state for status in statuses)
    states["waiting"] = num_items - len(statuses)
    return Summary(
        ended=now() if ended else None,
        num_items=num_items,
        states={state: count for state, count in sorted(states.items()) if count},
        num_kept=num_kept,
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


def write_summary(summary: Summary, out: str) -> None:
    """As JSON and as a page, into the batch's output. Raises MediaError."""
    places.write_bytes(places.join(out, SUMMARY_NAME), (summary.model_dump_json(indent=1) + "\n").encode())
    loader = jinja2.PackageLoader("cluster", "")
    page = jinja2.Environment(loader=loader, autoescape=True).get_template("summary.html.j2").render(summary=summary)
    places.write_bytes(places.join(out, PAGE_NAME), page.encode())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _engines(manifest: Manifest) -> tuple[Engine, ...]:
    return tuple(
        Engine(name=pool.name, engine_s=pool.engine_s, num_hits=pool.num_hits, num_misses=pool.num_misses)
        for pool in manifest.timings.pools
    )


def _largest(statuses: Sequence[ItemStatus], field: str) -> dict[str, float]:
    """Per engine, over all drivers: each driver's counts only grow, so its last is its largest."""
    by_driver: dict[tuple[str, str], float] = {}
    for status in statuses:
        for engine in status.engines:
            key = (engine.name, status.driver)
            by_driver[key] = max(by_driver.get(key, 0.0), getattr(engine, field))
    total: dict[str, float] = {}
    for (name, _), value in by_driver.items():
        total[name] = total.get(name, 0.0) + value
    return total


def _stage(pool_name: str, config: Config) -> StageConfig:
    """The stage that a pool, called task/engine, was made for."""
    task, _, engine = pool_name.partition("/")
    if task == "speech":
        stages = [*config.speech.by_language.values()]
        default = StageConfig(engine=config.speech.engine, pool=config.speech.pool)
        return next((stage for stage in stages if stage.engine == engine), default)
    stage: Any = getattr(config, task, None)
    return stage if isinstance(stage, StageConfig) else StageConfig(engine=engine)
