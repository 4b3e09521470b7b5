"""Statistics of one pool: counters of its work, and a snapshot of its queue and replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.device import GpuUse
from cluster.config.schema import PoolConfig, PriceConfig
from cluster.manifest import PoolRecord
from cluster.pools.metrics import PoolMetrics

PACE_WEIGHT = 0.2
"""EWMA weight of the latest batch in ``s_per_cost``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomWait:
    """Something that no node of the cluster has room for."""

    name: str
    number: int
    """Replicas, or drivers with their first replicas."""
    seconds: float
    text: str
    """In words, as in "waiting 40 s for 1 replica of speech/kokoro: 1 CPU; free: 0.5, 0.5"."""


class PoolStats(PoolRecord):
    """Counters of a pool since it opened, and a snapshot of its queue and replicas."""

    queue_items: int
    queue_cost: float = 0.0
    """Cost of the waiting requests, in the engine's unit."""
    running_items: int = 0
    running_cost: float = 0.0
    oldest_wait_s: float = 0.0
    """Age of the oldest request in the queue."""
    target: int = 0
    """Replicas wanted."""
    num_serving: int = 0
    num_loading: int = 0
    num_pending: int = 0
    """Replicas without a process: it is being started, or no node has room."""
    num_waiting: int = 0
    """Replicas that no node has room for."""
    waiting_s: float = 0.0
    """Time for which the first of them has waited."""
    waiting: str | None = None
    """In words, what they wait for, and what is free; None if none waits."""
    num_draining: int = 0
    num_resting: int = 0
    """Replicas that did not load, and are tried again later."""
    num_busy: int = 0
    """Replicas at work."""
    busy_s: float = 0.0
    """Total time at work, summed over all replicas."""
    s_per_cost: float | None = None
    """Recent seconds of one replica per unit of cost; None until measured."""
    memory_cost_limit: float | None = None
    """Highest cost of a batch since a larger one exhausted memory; None if none did."""
    gpus: Mapping[int, GpuUse] = {}
    """Latest reading of the GPU of each replica, by the replica's number."""
    num_quarantined: int = 0
    """Requests that are refused, as replicas died of them."""
    last_error: str | None = None
    """Latest error of a replica."""

    def record(self) -> PoolRecord:
        """The part that a manifest keeps."""
        kept = {name: getattr(self, name) for name in PoolRecord.model_fields}
        return PoolRecord(**kept | {"engine_s": round(self.engine_s, 3)})


class PoolActivity:
    """Counts the work of one pool, and passes each count on to Prometheus."""

    def __init__(self, pool: str, config: PoolConfig, price: PriceConfig) -> None:
        self.num_items = self.num_failed = self.num_batches = self.num_lost_replicas = 0
        self.engine_s = 0.0
        self.s_per_cost: float | None = None
        self.busy = Stopwatch()
        self._metrics = PoolMetrics(pool, config, price)

    def batch_sent(self, num_items: int, wait_s: float) -> None:
        self._metrics.batch_sent(num_items, wait_s)

    def batch_done(self, run_s: float, cost: float) -> None:
        self.num_batches += 1
        self.engine_s += run_s
        self._metrics.batch_done(run_s)
        if cost > 0:
            pace = run_s / cost
            known = pace if self.s_per_cost is None else self.s_per_cost
            self.s_per_cost = known + PACE_WEIGHT * (pace - known)

    def item_done(self, *, failed: bool) -> None:
        self.num_items += 1
        if failed:
            self.num_failed += 1
            self._metrics.items_failed(1)

    def replica_lost(self) -> None:
        self.num_lost_replicas += 1
        self._metrics.replica_lost()

    def export_state(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None:
        self._metrics.set_state(queue_items, oldest_wait_s, replicas)

    def export_wait(self, num_waiting: int, waiting_s: float) -> None:
        self._metrics.set_wait(num_waiting, waiting_s)

    def export_gpus(self, uses: Mapping[int, GpuUse]) -> None:
        self._metrics.set_gpus(uses)


class Stopwatch:
    """Total time of several activities at once."""

    def __init__(self) -> None:
        self.number = 0
        self._since_s = 0.0
        self._total_s = 0.0

    def add(self, change: int, now_s: float) -> None:
        """Change the number of running activities from now on."""
        self._total_s = self.total_s(now_s)
        self._since_s = now_s
        self.number += change

    def total_s(self, now_s: float) -> float:
        return self._total_s + self.number * (now_s - self._since_s)
