"""Metrics of pools and of the store for Prometheus, exported by Ray; nothing is exported where Ray does not run.

Ray puts ``ray_`` before every name, and ``_total`` behind counters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Protocol

import ray
from ray.util import metrics

from actors.device import GpuUse

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class PoolMetrics(Protocol):
    """Called once a batch or a tick, never once a request: a record costs some microseconds."""

    def batch_sent(self, num_items: int, wait_s: float) -> None: ...

    def batch_done(self, run_s: float) -> None: ...

    def replica_lost(self) -> None: ...

    def items_failed(self, number: int) -> None: ...

    def set_state(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None: ...

    def set_wait(self, num_waiting: int, waiting_s: float) -> None: ...

    def set_gpus(self, uses: Mapping[int, GpuUse]) -> None: ...


def count_lookup(stage: str, outcome: str) -> None:
    """Count a request by the store's outcome; see ``_store_lookups``."""
    if ray.is_initialized():
        _store_lookups().inc(tags={"stage": stage, "outcome": outcome})


def metrics_of(pool: str) -> PoolMetrics:
    return _RayMetrics(pool) if ray.is_initialized() else _NoMetrics()


class _NoMetrics:
    def batch_sent(self, num_items: int, wait_s: float) -> None:
        pass

    def batch_done(self, run_s: float) -> None:
        pass

    def replica_lost(self) -> None:
        pass

    def items_failed(self, number: int) -> None:
        pass

    def set_state(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None:
        pass

    def set_wait(self, num_waiting: int, waiting_s: float) -> None:
        pass

    def set_gpus(self, uses: Mapping[int, GpuUse]) -> None:
        pass


class _RayMetrics:
    def __init__(self, pool: str) -> None:
        self._tags = {"pool": pool}
        self._measured: set[int] = set()

    def batch_sent(self, num_items: int, wait_s: float) -> None:
        _batch_items().observe(num_items, self._tags)
        _wait_s().observe(wait_s, self._tags)

    def batch_done(self, run_s: float) -> None:
        _engine_s().observe(run_s, self._tags)

    def replica_lost(self) -> None:
        _lost_replicas().inc(1, self._tags)

    def items_failed(self, number: int) -> None:
        if number:
            _failed_items().inc(number, self._tags)

    def set_state(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None:
        _queue_items().set(queue_items, self._tags)
        _oldest_wait_s().set(oldest_wait_s, self._tags)
        for state, number in replicas.items():
            _replicas().set(number, {**self._tags, "state": state})

    def set_wait(self, num_waiting: int, waiting_s: float) -> None:
        _waiting_replicas().set(num_waiting, self._tags)
        _waiting_s().set(waiting_s, self._tags)

    def set_gpus(self, uses: Mapping[int, GpuUse]) -> None:
        for replica in self._measured - set(uses):  # Ray exports a value until it is replaced
            self._set_gpu(replica, 0, 0.0)
        for replica, use in uses.items():
            self._set_gpu(replica, use.process_bytes, use.utilisation)
        self._measured = set(uses)

    def _set_gpu(self, replica: int, process_bytes: int | None, utilisation: float | None) -> None:
        tags = {**self._tags, "replica": str(replica)}
        if process_bytes is not None:
            _gpu_memory_bytes().set(process_bytes, tags)
        if utilisation is not None:
            _gpu_utilisation().set(utilisation, tags)


@functools.cache
def _batch_items() -> metrics.Histogram:
    return metrics.Histogram("raydub_pool_batch_items", "Requests in a batch.", list(ITEMS), ("pool",))


@functools.cache
def _wait_s() -> metrics.Histogram:
    return metrics.Histogram(
        "raydub_pool_wait_seconds",
        "Wait of a batch's oldest request, from submission to a replica.",
        list(SECONDS),
        ("pool",),
    )


@functools.cache
def _engine_s() -> metrics.Histogram:
    return metrics.Histogram("raydub_pool_engine_seconds", "A batch inside the engine.", list(SECONDS), ("pool",))


@functools.cache
def _lost_replicas() -> metrics.Counter:
    return metrics.Counter("raydub_pool_lost_replicas", "Replicas that died or hung.", ("pool",))


@functools.cache
def _failed_items() -> metrics.Counter:
    return metrics.Counter("raydub_pool_failed_items", "Requests that failed.", ("pool",))


@functools.cache
def _queue_items() -> metrics.Gauge:
    return metrics.Gauge("raydub_pool_queue_items", "Requests waiting.", ("pool",))


@functools.cache
def _oldest_wait_s() -> metrics.Gauge:
    return metrics.Gauge("raydub_pool_oldest_wait_seconds", "Age of the oldest waiting request.", ("pool",))


@functools.cache
def _replicas() -> metrics.Gauge:
    return metrics.Gauge("raydub_pool_replicas", "Replicas by state.", ("pool", "state"))


@functools.cache
def _waiting_replicas() -> metrics.Gauge:
    return metrics.Gauge("raydub_pool_waiting_replicas", "Replicas that no node has room for.", ("pool",))


@functools.cache
def _waiting_s() -> metrics.Gauge:
    return metrics.Gauge("raydub_pool_waiting_seconds", "Time for which no node has had room for a replica.", ("pool",))


@functools.cache
def _gpu_memory_bytes() -> metrics.Gauge:
    return metrics.Gauge("raydub_replica_gpu_memory_bytes", "GPU memory that a replica holds.", ("pool", "replica"))


@functools.cache
def _gpu_utilisation() -> metrics.Gauge:
    description = "Share of the time in which the GPU of a replica computes, for this replica or others."
    return metrics.Gauge("raydub_replica_gpu_utilisation", description, ("pool", "replica"))


@functools.cache
def _store_lookups() -> metrics.Counter:
    return metrics.Counter(
        "raydub_store_lookups",
        "Requests by what the store had: hit, miss, corrupt (also a miss), shared with one under way, "
        "unavailable; and unkept: results that could not be stored.",
        ("stage", "outcome"),
    )
