"""The replicas, GPUs, nodes, time and money of a batch, by measured times: pure decisions, without clock or Ray.

A batch runs on a number of drivers, each with the same replicas of its own. Its wall time is the start, the first call
of each pool, and then the videos, which share the pace of their driver's slowest pool. One video alone is held up by
the bounds on its work in progress, so that the last ones no longer fill the replicas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from actors.errors import ConfigError
from cluster.analysis.dealing import dealt_s
from cluster.analysis.packing import NodeShape, Packed, pack
from cluster.analysis.workload import PoolWork, Workload
from cluster.config.schema import Config, PoolConfig
from cluster.pools.needs import DRIVER, Need

MAX_REPLICAS = 64
"""Replicas of a pool that one driver feeds at 98 % of what they can do, by bench/bench_scaling.py."""
REQUESTS_PER_S = 700.0
"""Requests that one driver hands out a second: half of what a core does, by bench/bench_scaling.py --ray."""
SOURCE_CPU_S = 0.04
"""CPU seconds of a driver for a second of media, whatever the number of languages: decoding, finding speech."""
SPARE = 2.0
"""Videos at once over those that fill the replicas, so that full batches wait."""
NUM_STEPS = 40
"""Halvings of the time for the work, in search of the fewest replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTask:
    """The batch, its limits, and what is assumed of the cluster."""

    hours: float
    """Hours of media."""
    languages: int
    deadline_s: float | None = None
    """Wall time that must do; None for the shortest on ``max_gpus``."""
    max_gpus: int | None = None
    """GPUs that must do; None for as many as the deadline needs."""
    video_s: float | None = None
    """Length of each video; None for lengths as measured."""
    start_s: float = 120.0
    """Seconds until drivers and replicas are ready."""
    driver_cpu_s: float = 0.08
    """CPU seconds of a driver for a second of media and language: mixing, encoding and writing."""
    shape: NodeShape = field(default_factory=NodeShape)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPool:
    """One pool of the plan. Languages with models of their own have a pool each."""

    name: str
    setting: str
    num_pools: int
    """Pools of this kind in each driver."""
    replicas: int
    """Replicas of one such pool in each driver."""
    total_replicas: int
    gpus: float
    """GPUs of a replica."""
    requests: float
    engine_s: float
    busy: float
    """Share of the wall time in which a replica works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPlan:
    """The answer of ``plan``."""

    hours: float
    languages: int
    num_lines: int
    num_videos: int
    num_drivers: int
    max_videos: int
    """Videos that one driver must dub at once to keep its replicas busy."""
    pools: tuple[PlannedPool, ...]
    num_gpus: int
    """GPUs of which at least a share is reserved."""
    num_nodes: int
    wall_s: float
    alone_s: float
    """Time of the longest video with the whole of a driver to itself, the start included."""
    gpu_hours: float
    """GPUs of whole nodes times the wall time; CPU hours and cost are of whole nodes too."""
    cpu_hours: float
    cost: float
    cost_per_minute: float
    """For each minute of media and language."""
    currency: str
    shape: NodeShape
    assumptions: tuple[str, ...]


def plan(workload: Workload, config: Config, task: PlanTask) -> CapacityPlan:
    """The smallest cluster that meets the deadline, or the shortest time on the GPUs that there are.

    Raises ConfigError if there is none.
    """
    if task.deadline_s is None and task.max_gpus is None:
        raise ConfigError("plan must be given a limit; found neither; give --deadline, --gpus or both")
    planner = CapacityPlanner(workload, config, task)
    if task.deadline_s is None:
        return planner.described(planner.fastest())
    cluster = planner.smallest(task.deadline_s)
    gpus = planner.packed(cluster).num_cards
    if task.max_gpus is not None and gpus > task.max_gpus:
        wall_s = planner.fastest().wall_s
        raise ConfigError(
            f"--gpus must be enough for the deadline; it needs {gpus}, found {task.max_gpus}, with which it takes "
            f"{wall_s / 3600:.1f} h; raise --gpus or --deadline"
        )
    return planner.described(cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOfDriver:
    """One kind of pool in each driver."""

    work: PoolWork
    settings: PoolConfig
    num_pools: int
    replicas: int
    """Replicas of one pool."""

    @property
    def batch_items(self) -> float:
        """Requests of a call while more than enough wait."""
        return max(self.work.batch_items, self.settings.batch.max_items)

    @property
    def per_s(self) -> float:
        """Requests a second that its replicas can answer."""
        return self.num_pools * self.replicas * self.batch_items / self.work.time_s(self.batch_items)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPlan:
    """The drivers of a batch, all alike."""

    num_drivers: int
    pools: tuple[PoolOfDriver, ...]
    realtime: float
    """Seconds of media that a driver gets through in a second, with enough videos at once."""
    max_videos: int
    wall_s: float


class CapacityPlanner:
    """Sizes and times the drivers of one batch."""

    def __init__(self, workload: Workload, config: Config, task: PlanTask) -> None:
        self._workload, self._config, self._task = workload, config, task
        self.videos_s = _lengths(workload, task)
        self._media_s = task.hours * 3600

    @property
    def driver_realtime(self) -> float:
        """Seconds of media that a driver gets through in a second with the CPUs that it reserves, besides the pools."""
        return max(1.0, self._config.drivers.num_cpus) / (SOURCE_CPU_S + self._task.languages * self._task.driver_cpu_s)

    # --- search

    def smallest(self, deadline_s: float) -> DriverPlan:
        """The fewest replicas that do. Raises ConfigError if no number does."""
        ample = self._cluster(0.0)
        if ample.wall_s > deadline_s:
            longest_s = self.videos_s[0]
            raise ConfigError(
                f"--deadline must be longer than one video's own latency; a video of {longest_s / 60:.1f} min takes "
                f"{ample.wall_s / 60:.1f} min with any number of replicas, found {deadline_s / 60:.1f} min; raise it, "
                "or pipeline.max_windows and pipeline.max_utterances"
            )
        least_s, most_s, best = 0.0, deadline_s, ample
        for _ in range(NUM_STEPS):
            work_s = (least_s + most_s) / 2
            found = self._cluster(work_s)
            if found.wall_s <= deadline_s:
                least_s, best = work_s, found
            else:
                most_s = work_s
        return best

    def fastest(self) -> DriverPlan:
        """The shortest time on the GPUs that there are. Raises ConfigError if they cannot hold one replica of each."""
        max_gpus = self._task.max_gpus
        assert max_gpus is not None
        most_s = 2 * sum(self._work_s(work) for work in self._workload.pools)
        best = self._cluster(most_s)
        if (needed := self.packed(best).num_cards) > max_gpus:
            raise ConfigError(
                f"--gpus must hold a replica of each pool; that needs {needed}, found {max_gpus}; lower num_gpus of "
                "the pools with --set, or raise --gpus"
            )
        if not needed:
            raise ConfigError("--gpus must be left out where no pool uses a GPU; give --deadline")
        least_s = 0.0
        for _ in range(NUM_STEPS):
            work_s = (least_s + most_s) / 2
            found = self._cluster(work_s)
            if self.packed(found).num_cards <= max_gpus:
                most_s, best = work_s, min(best, found, key=lambda cluster: cluster.wall_s)
            else:
                least_s = work_s
        return best

    def _work_s(self, work: PoolWork) -> float:
        pool = self._pool(work, 1)
        return work.requests(self._task.hours, self._task.languages) / (pool.per_s / pool.num_pools)

    # --- one size

    def _pool(self, work: PoolWork, replicas: int) -> PoolOfDriver:
        settings = self._config.pool_settings(work.name)[1]
        num_pools = _num_pools(work, self._workload, self._config, self._task.languages)
        return PoolOfDriver(work=work, settings=settings, num_pools=num_pools, replicas=replicas)

    def _cluster(self, work_s: float) -> DriverPlan:
        """The drivers and replicas that do the work in this time; with 0, as many as one driver a video can use."""
        num_videos = len(self.videos_s)
        wanted = {work.name: (self._work_s(work) / work_s if work_s > 0 else math.inf) for work in self._workload.pools}
        num_drivers = 1
        requests = sum(work.requests(self._task.hours, self._task.languages) for work in self._workload.pools)
        for least in (
            self._media_s / self.driver_realtime / work_s if work_s > 0 else math.inf,
            requests / REQUESTS_PER_S / work_s if work_s > 0 else math.inf,
            *(wanted[work.name] / (MAX_REPLICAS * self._pool(work, 1).num_pools) for work in self._workload.pools),
        ):
            num_drivers = max(num_drivers, num_videos if least > num_videos else math.ceil(least))
        pools = []
        for work in self._workload.pools:
            share = wanted[work.name] / num_drivers / self._pool(work, 1).num_pools
            pools.append(self._pool(work, max(1, min(MAX_REPLICAS, math.ceil(min(share, MAX_REPLICAS) - 1e-9)))))
        return self._timed(num_drivers, tuple(pools))

    def timed(self, num_drivers: int, replicas: Mapping[str, int]) -> DriverPlan:
        """The time on drivers with so many replicas of each pool, by its name; one of a pool that is not named."""
        pools = (self._pool(work, replicas.get(work.name, 1)) for work in self._workload.pools)
        return self._timed(num_drivers, tuple(pools))

    def _timed(self, num_drivers: int, pools: tuple[PoolOfDriver, ...]) -> DriverPlan:
        task, languages = self._task, self._task.languages
        # Seconds for an hour of media.
        slowest_s = max(pool.work.requests(1.0, languages) / pool.per_s for pool in pools)
        realtime = min(3600 / slowest_s, self.driver_realtime)
        alone = self.alone_realtime(pools)
        most = min(math.ceil(SPARE * realtime / alone - 1e-9), math.ceil(len(self.videos_s) / num_drivers))
        fill_s = sum(pool.work.time_s(pool.batch_items) for pool in pools)
        work_s = dealt_s(self.videos_s, num_drivers, most, min(alone, realtime), realtime)
        return DriverPlan(
            num_drivers=num_drivers,
            pools=pools,
            realtime=realtime,
            max_videos=most,
            wall_s=task.start_s + fill_s + work_s,
        )

    def alone_realtime(self, pools: Sequence[PoolOfDriver]) -> float:
        """Seconds of media a second of one video alone, with at most its own work in progress."""
        languages, bounds = self._task.languages, self._config.pipeline
        pace = self.driver_realtime
        for pool in pools:
            work = pool.work
            per_line = work.language_per_hour / self._workload.lines_per_hour
            lines = languages * bounds.max_utterances * per_line
            for in_flight, per_hour in (
                (bounds.max_windows, work.shared_per_hour),
                (lines, languages * work.language_per_hour),
            ):
                if per_hour:
                    pace = min(pace, 3600 * _answered_per_s(pool, max(1.0, in_flight)) / per_hour)
        return pace

    # --- description

    def packed(self, cluster: DriverPlan) -> Packed:
        drivers = self._config.drivers
        needs = [(Need(name=DRIVER, cpus=drivers.num_cpus), cluster.num_drivers)]
        for pool in cluster.pools:
            number = cluster.num_drivers * pool.num_pools * pool.replicas
            needs.append((Need.of(pool.work.name, pool.settings), number))
        return pack(needs, self._shape())

    def _shape(self) -> NodeShape:
        uses_gpus = any(self._config.pool_settings(work.name)[1].num_gpus for work in self._workload.pools)
        shape = self._task.shape
        return shape if uses_gpus else NodeShape(gpus=0, cpus=shape.cpus)

    def described(self, cluster: DriverPlan) -> CapacityPlan:
        task, packed, shape = self._task, self.packed(cluster), self._shape()
        hours = cluster.wall_s / 3600
        gpu_hours, cpu_hours = packed.num_nodes * shape.gpus * hours, packed.num_nodes * shape.cpus * hours
        cost = self._config.price.cost(3600 * gpu_hours, 3600 * cpu_hours)
        return CapacityPlan(
            hours=task.hours,
            languages=task.languages,
            num_lines=round(self._workload.lines_per_hour * task.hours * task.languages),
            num_videos=len(self.videos_s),
            num_drivers=cluster.num_drivers,
            max_videos=cluster.max_videos,
            pools=tuple(self._described_pool(pool, cluster) for pool in cluster.pools),
            num_gpus=packed.num_cards,
            num_nodes=packed.num_nodes,
            wall_s=cluster.wall_s,
            alone_s=task.start_s + self.videos_s[0] / self.alone_realtime(cluster.pools),
            gpu_hours=gpu_hours,
            cpu_hours=cpu_hours,
            cost=cost,
            cost_per_minute=cost / (task.hours * 60 * task.languages),
            currency=self._config.price.currency,
            shape=shape,
            assumptions=self._assumptions(),
        )

    def _described_pool(self, pool: PoolOfDriver, cluster: DriverPlan) -> PlannedPool:
        requests = pool.work.requests(self._task.hours, self._task.languages)
        total = cluster.num_drivers * pool.num_pools * pool.replicas
        engine_s = requests * pool.work.time_s(pool.batch_items) / pool.batch_items
        return PlannedPool(
            name=pool.work.name,
            setting=f"{self._config.pool_settings(pool.work.name)[0]}.replicas",
            num_pools=pool.num_pools,
            replicas=pool.replicas,
            total_replicas=total,
            gpus=pool.settings.num_gpus,
            requests=requests,
            engine_s=engine_s,
            busy=engine_s / total / cluster.wall_s,
        )

    def _assumptions(self) -> tuple[str, ...]:
        task, workload = self._task, self._workload
        lengths = f"{task.video_s / 60:g} min each" if task.video_s is not None else "as long as those measured"
        grown = [work.name for work in workload.pools if work.call_s]
        gain = f"calls of {', '.join(grown)} are filled up to batch.max_items" if grown else ""
        return (
            f"media like those measured: {workload.lines_per_hour:.0f} lines an hour, {lengths}, nothing stored",
            "each further language takes as long as those measured, on the same kind of processor or GPU",
            f"calls take as long as measured, also side by side on one GPU; {gain or 'larger batches gain nothing'}",
            f"drivers and replicas are ready after {task.start_s:g} s, none is lost, and each node is paid to the end",
            f"a driver with {self._config.drivers.num_cpus:g} CPUs (drivers.num_cpus) decodes, mixes and writes "
            f"{self.driver_realtime:.3g} s of media a second",
        )


def _answered_per_s(pool: PoolOfDriver, in_flight: float) -> float:
    """Requests a second that the replicas answer while so many are under way."""
    replicas = pool.num_pools * pool.replicas
    batch = min(pool.batch_items, max(1.0, in_flight / replicas))
    return min(replicas, in_flight / batch) * batch / pool.work.time_s(batch)


def _lengths(workload: Workload, task: PlanTask) -> list[float]:
    """Lengths of all videos, the longest first: as a batch is dealt out."""
    pattern = workload.videos_s if task.video_s is None else (task.video_s,)
    total_s, rounds = task.hours * 3600, math.ceil(task.hours * 3600 / sum(pattern))
    if total_s <= 0:
        raise ConfigError(f"--hours must be more than 0; found {task.hours:g}")
    if rounds == 1:  # fewer than were measured
        num_videos = max(1, round(total_s / (sum(pattern) / len(pattern))))
        lengths = sorted(pattern, reverse=True)[:: max(1, len(pattern) // num_videos)][:num_videos]
    else:
        lengths = sorted(pattern * rounds, reverse=True)
    scale = total_s / sum(lengths)
    return [length_s * scale for length_s in lengths]


def _num_pools(work: PoolWork, workload: Workload, config: Config, languages: int) -> int:
    """Pools of this engine in a driver: languages with options of their own, such as a model, have one each."""
    if work.task != "speech" or config.speech.engine != "auto":
        return 1
    engine = work.name.partition("/")[2]
    stages = [stage for stage in config.speech.by_language.values() if stage.engine == engine]
    kinds = {stage.model_dump_json(include={"options"}) for stage in stages}
    speech = [other for other in workload.pools if other.task == "speech"]
    share = work.language_per_hour / sum(other.language_per_hour for other in speech)
    return max(1, min(len(kinds), round(languages * share)))
