"""The work that an hour of media makes for each pool, by the times in manifests or in a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from actors.errors import ConfigError
from actors.types import TASKS
from cluster.config.load import explain, read_tree, recorded_config
from cluster.manifest import Manifest, PoolRecord
from cluster.quality import Metric

DISTINCT_FILL = 1.1
"""Ratio of two batch sizes from which a fit tells the time of a call from that of its requests."""
CHECK_GAP_S = 1.0
"""Silence behind each line that is heard again."""


class WorkloadRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolWork(WorkloadRecord):
    """Requests to one pool for each hour of media, and the engine's time for them."""

    name: str
    """Task and engine, as in ``speech/kokoro``."""
    shared_per_hour: float = Field(default=0.0, ge=0)
    """Requests for an hour of media, whatever the number of languages."""
    language_per_hour: float = Field(default=0.0, ge=0)
    """Requests for an hour of media and each target language."""
    call_s: float = Field(default=0.0, ge=0)
    """Engine time of a call, besides that of its requests."""
    item_s: float = Field(ge=0)
    """Engine time of each request of a call."""
    batch_items: float = Field(default=1.0, ge=1)
    """Mean number of requests in a call, as measured."""

    @field_validator("name")
    @classmethod
    def _check_task(cls, name: str) -> str:
        task, _, engine = name.partition("/")
        if task in TASKS and engine:
            return name
        raise ValueError(f"a pool is named task/engine, with one of the tasks {', '.join(TASKS)}")

    @property
    def task(self) -> str:
        return self.name.partition("/")[0]

    def requests(self, hours: float, languages: int) -> float:
        return hours * (self.shared_per_hour + languages * self.language_per_hour)

    def time_s(self, num_items: float) -> float:
        """Engine time of a call of so many requests."""
        return self.call_s + num_items * self.item_s


class Workload(WorkloadRecord):
    """The work of media like those that were measured."""

    pools: tuple[PoolWork, ...] = Field(min_length=1)
    """In the order of the path."""
    lines_per_hour: float = Field(gt=0)
    """Lines of a dub for an hour of media, in one language."""
    videos_s: tuple[float, ...] = Field(min_length=1)
    """Lengths of the media."""


def read_times(path: Path) -> Workload:
    """A workload from a YAML or JSON file, such as ``raydub plan --json`` prints. Raises ConfigError."""
    tree = read_tree(path)
    try:
        return Workload.model_validate(tree.get("workload", tree))
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Workload)}") from error


def measured_workload(manifests: Sequence[Manifest]) -> Workload:
    """The work of these dubs. Raises ConfigError if they lack the times to tell anything by."""
    dubbed = [manifest for manifest in manifests if any(dub.utterances for dub in manifest.dubs)]
    if not dubbed:
        raise ConfigError("plan must be given manifests with dubbed lines; found none; give those of other dubs")
    groups = [_Group(each) for each in _by_driver(dubbed)]
    for group in groups:
        group.check()
    hours = sum(manifest.input.duration_s for manifest in dubbed) / 3600
    language_hours = sum(manifest.input.duration_s * len(manifest.dubs) for manifest in dubbed) / 3600
    names = sorted({name for group in groups for name in group.pools}, key=_place)
    share = _source_share(dubbed)
    return Workload(
        pools=tuple(_work_of(name, groups, hours, language_hours, share) for name in names),
        lines_per_hour=sum(len(dub.utterances) for each in dubbed for dub in each.dubs) / language_hours,
        videos_s=tuple(manifest.input.duration_s for manifest in dubbed),
    )


class _Group:
    """The manifests of one process, whose pools count on from dub to dub."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self.manifests = manifests
        self.pools: dict[str, PoolRecord] = {}
        for record in (pool for manifest in manifests for pool in manifest.timings.pools):
            if not record.num_items and not record.num_hits:
                continue  # it was never asked
            known = self.pools.get(record.name)
            if known is None or known.num_items + known.num_hits <= record.num_items + record.num_hits:
                self.pools[record.name] = record

    def check(self) -> None:
        """Raise ConfigError if a pool lacks times, or has those of other dubs too."""
        wall_s = sum(manifest.timings.wall_s for manifest in self.manifests)
        config = recorded_config(self.manifests[0].config)
        for pool in self.pools.values():
            if not pool.num_items:
                raise ConfigError(
                    f"manifests must have the engine times of each pool; those of {pool.name} were stored before, and "
                    "took none; give a first dub, or dub with --set store.url=none"
                )
            least_s = pool.engine_s / config.pool_settings(pool.name)[1].largest
            if least_s > wall_s:
                raise ConfigError(
                    f"manifests must hold all dubs of their process; {pool.name} worked for {least_s:.1f} s in dubs of "
                    f"{wall_s:.1f} s: it served others too; give the whole batch, or a dub that ran alone"
                )


def _by_driver(manifests: Sequence[Manifest]) -> Iterable[list[Manifest]]:
    groups: dict[str, list[Manifest]] = defaultdict(list)
    for number, manifest in enumerate(manifests):
        groups[manifest.timings.driver or str(number)].append(manifest)
    return groups.values()


def _place(name: str) -> tuple[int, str]:
    task = name.partition("/")[0]
    return [*TASKS, task].index(task), name


def _work_of(name: str, groups: Sequence[_Group], hours: float, language_hours: float, source_share: float) -> PoolWork:
    records = [group.pools[name] for group in groups if name in group.pools and group.pools[name].num_batches]
    num_items = sum(record.num_items for record in records)
    if not num_items or not any(record.engine_s for record in records):
        raise ConfigError(
            f"manifests must have engine times of each pool; found none of {name}; give dubs that computed "
            "their results"
        )
    # Nothing is taken to be stored when the plan is carried out.
    num_requests = num_items + sum(group.pools[name].num_hits for group in groups if name in group.pools)
    task = name.partition("/")[0]
    shared = {"diarization": 1.0, "transcription": source_share}.get(task, 0.0)
    call_s, item_s = _call_times(records)
    return PoolWork(
        name=name,
        shared_per_hour=shared * num_requests / hours,
        language_per_hour=(1 - shared) * num_requests / language_hours,
        call_s=call_s,
        item_s=item_s,
        batch_items=num_items / sum(record.num_batches for record in records),
    )


def _call_times(records: Sequence[PoolRecord]) -> tuple[float, float]:
    """Seconds of a call and of each of its requests.

    One batch size cannot tell them apart: then all is the requests', so that larger batches gain nothing.
    """
    import numpy as np
    from scipy.optimize import nnls  # slow to import

    fills = [record.num_items / record.num_batches for record in records]
    if max(fills) < DISTINCT_FILL * min(fills):
        return 0.0, sum(record.engine_s for record in records) / sum(record.num_items for record in records)
    counts = np.array([[record.num_batches, record.num_items] for record in records], dtype=float)
    (call_s, item_s), _ = nnls(counts, np.array([record.engine_s for record in records]))
    return float(call_s), float(item_s)


def _source_share(manifests: Sequence[Manifest]) -> float:
    """Share of the source in all sound that was transcribed; the rest is lines that were heard again."""
    heard = [segment for manifest in manifests for segment in manifest.segments if segment.words]  # else from subtitles
    source_s = sum(segment.end_s - segment.start_s for segment in heard)
    lines = [line for manifest in manifests for dub in manifest.dubs for line in dub.utterances]
    checked = [line for line in lines if line.value_of(Metric.WER) is not None]
    again_s = sum(line.end_s - line.start_s + CHECK_GAP_S for line in checked)
    return source_s / (source_s + again_s) if source_s + again_s else 1.0
