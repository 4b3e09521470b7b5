"""Counters, gauges and histograms: kept in this process, and exported by Ray too where it runs.

Both have the same names: Ray puts ``ray_`` before each, and ``_total`` behind counters. So one dashboard and one set of
rules do for Ray's endpoints and for that of a process without Ray. A record costs some microseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import prometheus_client
import ray
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as MetricFamily
from ray.util import metrics

PREFIX = "ray_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
NO_TAGS: Mapping[str, str] = {}

M = TypeVar("M", prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)

_registry = CollectorRegistry()


def exposition() -> bytes:
    """All metrics of this process, in Prometheus's text format 0.0.4."""
    return prometheus_client.generate_latest(_registry)


def families(*names: str) -> Iterable[MetricFamily]:
    """The metrics of this process that have samples of these names, or all, as ``exposition`` writes them."""
    found: Iterable[MetricFamily] = (_registry.restricted_registry(names) if names else _registry).collect()
    return found


class _Meter(Generic[M]):
    """One metric. The values of its tags must be few: no names of jobs, files or callers."""

    _kind: type[M]

    def __init__(self, name: str, description: str, tags: tuple[str, ...] = (), **options: Any) -> None:
        self._name, self._description, self._tags = name, description, tags
        self._own: M = self._kind(PREFIX + name, description, tags, registry=_registry, **options)

    def _tagged(self, tags: Mapping[str, str]) -> M:
        labelled: M = self._own.labels(**tags) if self._tags else self._own
        return labelled


class MetricCounter(_Meter[prometheus_client.Counter]):
    """A total that only grows."""

    _kind = prometheus_client.Counter

    def inc(self, value: float = 1, tags: Mapping[str, str] = NO_TAGS) -> None:
        if value <= 0:  # Ray raises
            return
        self._tagged(tags).inc(value)
        if ray.is_initialized():
            self._exported.inc(value, dict(tags))

    @functools.cached_property
    def _exported(self) -> metrics.Counter:
        return metrics.Counter(self._name, self._description, self._tags)


class MetricGauge(_Meter[prometheus_client.Gauge]):
    """A value that goes up and down. It is exported until it is replaced."""

    _kind = prometheus_client.Gauge
    _num_inside = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """The value is the number of those that are inside now, on one event loop. For a gauge without tags."""
        self._num_inside += 1
        self.set(self._num_inside)
        try:
            yield
        finally:
            self._num_inside -= 1
            self.set(self._num_inside)

    def set(self, value: float, tags: Mapping[str, str] = NO_TAGS) -> None:
        self._tagged(tags).set(value)
        if ray.is_initialized():
            self._exported.set(value, dict(tags))

    @functools.cached_property
    def _exported(self) -> metrics.Gauge:
        return metrics.Gauge(self._name, self._description, self._tags)


class MetricHistogram(_Meter[prometheus_client.Histogram]):
    """Counts of values by size, and their sum."""

    _kind = prometheus_client.Histogram

    def __init__(self, name: str, description: str, boundaries: Sequence[float], tags: tuple[str, ...] = ()) -> None:
        super().__init__(name, description, tags, buckets=boundaries)
        self._boundaries = boundaries

    def observe(self, value: float, tags: Mapping[str, str] = NO_TAGS) -> None:
        self._tagged(tags).observe(value)
        if ray.is_initialized():
            self._exported.observe(value, dict(tags))

    @functools.cached_property
    def _exported(self) -> metrics.Histogram:
        return metrics.Histogram(self._name, self._description, list(self._boundaries), self._tags)
