"""What pools tell Prometheus, by way of Ray; nothing where Ray does not run.

Ray puts ``ray_`` before every name, and ``_total`` behind counters.
"""

from __future__ import annotations

import functools
from typing import Protocol

import ray
from ray.util import metrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class PoolMetrics(Protocol):
    """Once a batch or a tick, never once a request: a record costs some microseconds."""

    def batch_sent(self, num_items: int, wait_s: float) -> None: ...

    def batch_done(self, run_s: float) -> None: ...

    def replica_lost(self) -> None: ...

    def items_failed(self, number: int) -> None: ...

    def look(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None: ...


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

    def look(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None:
        pass


class _RayMetrics:
    def __init__(self, pool: str) -> None:
        self._tags = {"pool": pool}

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

    def look(self, queue_items: int, oldest_wait_s: float, replicas: dict[str, int]) -> None:
        _queue_items().set(queue_items, self._tags)
        _oldest_wait_s().set(oldest_wait_s, self._tags)
        for state, number in replicas.items():
            _replicas().set(number, {**self._tags, "state": state})


@functools.cache
def _batch_items() -> metrics.Histogram:
    return metrics.Histogram("raydub_pool_batch_items", "Requests in a batch.", list(ITEMS), ("pool",))


@functools.cache
def _wait_s() -> metrics.Histogram:
    return metrics.Histogram(
        "raydub_pool_wait_seconds",
        "From submission to a replica, of a batch's oldest request.",
        list(SECONDS),
        ("pool",),
    )


@functools.cache
def _engine_s() -> metrics.Histogram:
    return metrics.Histogram("raydub_pool_engine_seconds", "Inside the engine, of a batch.", list(SECONDS), ("pool",))


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
    return metrics.Gauge("raydub_pool_oldest_wait_seconds", "Of the requests waiting.", ("pool",))


@functools.cache
def _replicas() -> metrics.Gauge:
    return metrics.Gauge("raydub_pool_replicas", "By state.", ("pool", "state"))
