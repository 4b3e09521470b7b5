"""Ray is told of all that was recorded, in few calls."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cluster.metrics import meters
from cluster.metrics.meters import MetricCounter, MetricGauge, MetricHistogram

POOL = {"pool": "speech"}


class FakeRayMetric:
    """Keeps what it is told."""

    told: list[tuple[str, str, float, dict[str, str]]]

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name

    def _tell(self, how: str, value: float, tags: dict[str, str]) -> None:
        self.told.append((self.name, how, value, tags))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self._tell("inc", value, tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._tell("set", value, tags)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self._tell("observe", value, tags)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float, dict[str, str]]]:
    """What Ray is told; it seems to run, and nothing is told without ``export``."""
    monkeypatch.setattr(FakeRayMetric, "told", [], raising=False)
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(meters.metrics, kind, FakeRayMetric)
    monkeypatch.setattr(meters.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(meters, "_registry", CollectorRegistry())
    monkeypatch.setattr(meters, "_exporter", meters._Exporter())
    monkeypatch.setattr(meters._exporter, "start", lambda: None)
    return FakeRayMetric.told


def test_counts_are_told_as_one_and_the_last_value_alone(told: list[Any]) -> None:
    counter, gauge = MetricCounter("export_count", "", ("pool",)), MetricGauge("export_gauge", "", ("pool",))
    for value in (1.0, 2.0, 4.0):
        counter.inc(value, POOL)
        gauge.set(value, POOL)
    counter.inc(8.0, {"pool": "other"})
    assert told == []
    meters.export()
    assert sorted(told, key=str) == [
        ("export_count", "inc", 7.0, POOL),
        ("export_count", "inc", 8.0, {"pool": "other"}),
        ("export_gauge", "set", 4.0, POOL),
    ]
    meters.export()
    assert len(told) == 3


def test_every_observation_is_told(told: list[Any]) -> None:
    histogram = MetricHistogram("export_histogram", "", (1.0, 2.0))
    for value in (0.5, 0.5, 1.5):
        histogram.observe(value)
    meters.export()
    assert told == [("export_histogram", "observe", value, {}) for value in (0.5, 0.5, 1.5)]


def test_nothing_is_kept_for_ray_where_it_does_not_run(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    counter = MetricCounter("export_without_ray", "")
    monkeypatch.setattr(meters.ray, "is_initialized", lambda: False)
    counter.inc()
    monkeypatch.setattr(meters.ray, "is_initialized", lambda: True)
    meters.export()
    assert told == []
    assert b"ray_export_without_ray_total 1.0" in meters.exposition()
