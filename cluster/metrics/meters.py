"""Counters, gauges and histograms: kept in this process, and exported by Ray too where it runs.

Both have the same names: Ray puts ``ray_`` before each, and ``_total`` behind counters. So one dashboard and one set of
rules do for Ray's endpoints and for that of a process without Ray. A record costs one or two microseconds. Ray takes
ten and more: a thread tells it every ``EXPORT_EVERY_S`` what came together, and once more when the process ends.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import prometheus_client
import ray
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as MetricFamily
from ray.util import metrics

PREFIX = "ray_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
Tags = tuple[tuple[str, str], ...]
NO_TAGS: Mapping[str, str] = {}
EXPORT_EVERY_S = 5.0
"""Ray itself passes metrics on every ten seconds."""
MAX_UNEXPORTED = 100_000
"""Records of a meter that wait for the export; of more, the oldest are not exported."""

M = TypeVar("M", prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)

_registry = CollectorRegistry()


def exposition() -> bytes:
    """All metrics of this process, in Prometheus's text format 0.0.4."""
    return prometheus_client.generate_latest(_registry)


def families(*names: str) -> Iterable[MetricFamily]:
    """The metrics of this process that have samples of these names, or all, as ``exposition`` writes them."""
    found: Iterable[MetricFamily] = (_registry.restricted_registry(names) if names else _registry).collect()
    return found


def export() -> None:
    """Tell Ray at once what was recorded."""
    _exporter.export()


class _Exporter:
    """A thread that tells Ray what was recorded. It starts with the first record after Ray."""

    def __init__(self) -> None:
        self.exports: list[Callable[[], None]] = []
        """One for each meter."""
        self._exporting = threading.Lock()
        self._has_started = False

    def start(self) -> None:
        if not self._has_started:
            self._has_started = True
            threading.Thread(target=self._run, name="metrics-export", daemon=True).start()
            atexit.register(self.export)  # runs before Ray's own, which was registered earlier

    def export(self) -> None:
        with self._exporting:
            if ray.is_initialized():
                for export in self.exports:
                    export()

    def _run(self) -> None:
        while True:
            time.sleep(EXPORT_EVERY_S)
            self.export()


_exporter = _Exporter()


class _Meter(Generic[M]):
    """One metric. The values of its tags must be few: no names of jobs, files or callers."""

    _kind: type[M]

    def __init__(self, name: str, description: str, tags: tuple[str, ...] = (), **options: Any) -> None:
        self._name, self._description, self._tags = name, description, tags
        self._own: M = self._kind(PREFIX + name, description, tags, registry=_registry, **options)
        self._by_tags: dict[Tags, M] = {}
        self._unexported: deque[tuple[Tags, float]] = deque(maxlen=MAX_UNEXPORTED)
        _exporter.exports.append(self._export_all)

    def _export_all(self) -> None:
        records = [self._unexported.popleft() for _ in range(len(self._unexported))]
        if records:
            self._export(records)

    def _export(self, records: Sequence[tuple[Tags, float]]) -> None:
        raise NotImplementedError

    def _recorded_in(self, tags: Mapping[str, str], *values: float) -> M:
        """Where to record values in this process; Ray is told of them later."""
        key = tuple(tags.items())
        if ray.is_initialized():
            self._unexported.extend([(key, value) for value in values])
            _exporter.start()
        labelled = self._by_tags.get(key)
        if labelled is None:
            labelled = self._by_tags[key] = self._own.labels(**tags) if self._tags else self._own
        return labelled


class MetricCounter(_Meter[prometheus_client.Counter]):
    """A total that only grows."""

    _kind = prometheus_client.Counter

    def inc(self, value: float = 1, tags: Mapping[str, str] = NO_TAGS) -> None:
        if value > 0:  # Ray raises if not
            self._recorded_in(tags, value).inc(value)

    def _export(self, records: Sequence[tuple[Tags, float]]) -> None:
        sums: dict[Tags, float] = defaultdict(float)
        for tags, value in records:
            sums[tags] += value
        for tags, value in sums.items():
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
        self._recorded_in(tags, value).set(value)

    def _export(self, records: Sequence[tuple[Tags, float]]) -> None:
        for tags, value in dict(records).items():
            if self._in_ray.get(tags) != value:
                self._in_ray[tags] = value
                self._exported.set(value, dict(tags))

    @functools.cached_property
    def _in_ray(self) -> dict[Tags, float]:
        """The values that Ray has."""
        return {}

    @functools.cached_property
    def _exported(self) -> metrics.Gauge:
        return metrics.Gauge(self._name, self._description, self._tags)


class MetricHistogram(_Meter[prometheus_client.Histogram]):
    """Counts of values by size, and their sum."""

    _kind = prometheus_client.Histogram

    def __init__(self, name: str, description: str, boundaries: Sequence[float], tags: tuple[str, ...] = ()) -> None:
        super().__init__(name, description, tags, buckets=boundaries)
        self._boundaries = boundaries

    def observe(self, *values: float, tags: Mapping[str, str] = NO_TAGS) -> None:
        observe = self._recorded_in(tags, *values).observe
        for value in values:
            observe(value)

    def _export(self, records: Sequence[tuple[Tags, float]]) -> None:
        for tags, value in records:
            self._exported.observe(value, dict(tags))

    @functools.cached_property
    def _exported(self) -> metrics.Histogram:
        return metrics.Histogram(self._name, self._description, list(self._boundaries), self._tags)
