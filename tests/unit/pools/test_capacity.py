"""Clusters that may grow, told from those that cannot by the report of Ray's autoscaler."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from cluster.pools import capacity
from cluster.pools.capacity import Growth, cluster_gpus, growth_of

HEAD = f"node_{'4a29889c' * 7}"
WORKER = f"node_{'0e1f5b77' * 7}"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"active_nodes": {HEAD: 1, WORKER: 1}}, Growth.FIXED),
        ({"active_nodes": {HEAD: 1}, "idle_nodes": {WORKER: 1}, "pending_launches": {}}, Growth.FIXED),
        ({"active_nodes": {"ray.head.default": 1}}, Growth.POSSIBLE),
        ({"active_nodes": {HEAD: 1, "gpu-group": 1}}, Growth.POSSIBLE),
        ({"active_nodes": {HEAD: 1}, "failed_nodes": [["10.0.0.7", "gpu-group"]]}, Growth.POSSIBLE),
        ({"active_nodes": {HEAD: 1}, "pending_launches": {"gpu-group": 2}}, Growth.COMING),
        ({"active_nodes": {HEAD: 1}, "pending_nodes": [["10.0.0.7", "gpu-group", "waiting-for-ssh"]]}, Growth.COMING),
        ({"active_nodes": {}, "idle_nodes": None}, Growth.POSSIBLE),  # it has not looked yet
        (None, Growth.POSSIBLE),
    ],
)
def test_a_cluster_is_fixed_if_the_autoscaler_only_watches_it(
    report: Mapping[str, Any] | None, expected: Growth
) -> None:
    assert growth_of({"autoscaler_report": report}) is expected


async def test_without_ray_there_is_no_limit() -> None:
    assert await cluster_gpus() == math.inf


async def test_a_fixed_cluster_has_its_gpus_and_another_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    status: dict[str, Any] = {"autoscaler_report": {"active_nodes": {HEAD: 1}}}
    monkeypatch.setattr(capacity.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(capacity.ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 2.0})
    monkeypatch.setattr(capacity, "_internal_kv_get", lambda key: json.dumps(status).encode())
    assert await cluster_gpus() == 2.0
    status["autoscaler_report"]["active_nodes"] = {"worker": 1}
    assert await cluster_gpus() == math.inf
    monkeypatch.setattr(capacity, "_internal_kv_get", lambda key: None)
    assert await cluster_gpus() == math.inf
