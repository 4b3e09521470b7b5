"""Metrics of pools and of the store, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from actors.device import GpuUse
from cluster.config.schema import PoolConfig, PriceConfig
from cluster.metrics.meters import SECONDS, MetricCounter, MetricGauge, MetricHistogram

ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
POOL = ("pool",)

_batch_items = MetricHistogram("raydub_pool_batch_items", "Requests in a batch.", ITEMS, POOL)
_wait_s = MetricHistogram(
    "raydub_pool_wait_seconds", "Wait of a batch's oldest request, from submission to a replica.", SECONDS, POOL
)
_engine_s = MetricHistogram("raydub_pool_engine_seconds", "A batch inside the engine.", SECONDS, POOL)
_gpu_s = MetricCounter(
    "raydub_pool_gpu_seconds", "Seconds inside engines, times the GPUs that a replica reserves.", POOL
)
_cpu_s = MetricCounter(
    "raydub_pool_cpu_seconds", "Seconds inside engines, times the CPUs that a replica reserves.", POOL
)
_cost = MetricCounter(
    "raydub_pool_cost", "Price of the GPU and CPU seconds, by the section price.", (*POOL, "currency")
)
_lost_replicas = MetricCounter("raydub_pool_lost_replicas", "Replicas that died or hung.", POOL)
_failed_items = MetricCounter("raydub_pool_failed_items", "Requests that failed.", POOL)
_queue_items = MetricGauge("raydub_pool_queue_items", "Requests waiting.", POOL)
_oldest_wait_s = MetricGauge("raydub_pool_oldest_wait_seconds", "Age of the oldest waiting request.", POOL)
_replicas = MetricGauge("raydub_pool_replicas", "Replicas by state.", (*POOL, "state"))
_waiting_replicas = MetricGauge("raydub_pool_waiting_replicas", "Replicas that no node has room for.", POOL)
_waiting_s = MetricGauge("raydub_pool_waiting_seconds", "Time for which no node has had room for a replica.", POOL)
_gpu_memory_bytes = MetricGauge(
    "raydub_replica_gpu_memory_bytes", "GPU memory that a replica holds.", (*POOL, "replica")
)
_gpu_utilisation = MetricGauge(
    "raydub_replica_gpu_utilisation",
    "Share of the time in which the GPU of a replica computes, for this replica or others.",
    (*POOL, "replica"),
)
_store_lookups = MetricCounter(
    "raydub_store_lookups",
    "Requests by what the store had: hit, miss, corrupt (also a miss), shared with one under way, "
    "unavailable; and unkept: results that could not be stored.",
    ("stage", "outcome"),
)


def count_lookup(stage: str, outcome: str) -> None:
    """Count a request by the store's outcome; see ``_store_lookups``."""
    _store_lookups.inc(1, {"stage": stage, "outcome": outcome})


class PoolMetrics:
    """Called once a batch or a tick, never once a request: a record costs some microseconds."""

    def __init__(self, pool: str, config: PoolConfig, price: PriceConfig) -> None:
        self._tags = {"pool": pool}
        self._config, self._price = config, price
        self._measured: set[int] = set()
        self._sent: list[tuple[int, float]] = []
        self._done: list[float] = []
        """Batches since the last ``set_state``, at which they are counted: a record after another takes a fifth."""

    def batch_sent(self, num_items: int, wait_s: float) -> None:
        self._sent.append((num_items, wait_s))

    def batch_done(self, run_s: float) -> None:
        self._done.append(run_s)

    def _count_batches(self) -> None:
        sent, self._sent, done, self._done = self._sent, [], self._done, []
        _batch_items.observe(*(num_items for num_items, _ in sent), tags=self._tags)
        _wait_s.observe(*(wait_s for _, wait_s in sent), tags=self._tags)
        _engine_s.observe(*done, tags=self._tags)
        gpu_s, cpu_s = sum(done) * self._config.num_gpus, sum(done) * self._config.num_cpus
        _gpu_s.inc(gpu_s, self._tags)
        _cpu_s.inc(cpu_s, self._tags)
        _cost.inc(self._price.cost(gpu_s, cpu_s), {**self._tags, "currency": self._price.currency})

    def replica_lost(self) -> None:
        _lost_replicas.inc(1, self._tags)

    def items_failed(self, number: int) -> None:
        _failed_items.inc(number, self._tags)

    def set_state(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None:
        self._count_batches()
        _queue_items.set(queue_items, self._tags)
        _oldest_wait_s.set(oldest_wait_s, self._tags)
        for state, number in replicas.items():
            _replicas.set(number, {**self._tags, "state": state})

    def set_wait(self, num_waiting: int, waiting_s: float) -> None:
        _waiting_replicas.set(num_waiting, self._tags)
        _waiting_s.set(waiting_s, self._tags)

    def set_gpus(self, uses: Mapping[int, GpuUse]) -> None:
        for replica in self._measured - set(uses):  # a value is exported until it is replaced
            self._set_gpu(replica, 0, 0.0)
        for replica, use in uses.items():
            self._set_gpu(replica, use.process_bytes, use.utilisation)
        self._measured = set(uses)

    def _set_gpu(self, replica: int, process_bytes: int | None, utilisation: float | None) -> None:
        tags = {**self._tags, "replica": str(replica)}
        if process_bytes is not None:
            _gpu_memory_bytes.set(process_bytes, tags)
        if utilisation is not None:
            _gpu_utilisation.set(utilisation, tags)
