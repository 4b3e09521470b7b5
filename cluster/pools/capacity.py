"""Resources of the cluster: of its nodes, and of those that Ray's autoscaler may add."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ray
import ray.exceptions
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.state import state
from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

from cluster.pools.needs import Node

log = logging.getLogger(__name__)

_NODE_OF_NO_TYPE = re.compile(r"node_[0-9a-f]{40,}")
"""Ray's stand-in for the type of a node that no autoscaler started: its own id."""
_NOT_CUSTOM = re.compile(r"_group_|^(memory|object_store_memory|CPU|GPU)$")
"""Resources that no pool asks for by name, those of placement groups among them."""


class Growth(StrEnum):
    """The prospects of the number of nodes."""

    FIXED = "fixed"
    """No autoscaler adds nodes."""
    POSSIBLE = "possible"
    """An autoscaler may add nodes, or it is not known yet whether there is one."""
    COMING = "coming"
    """A node is being started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """The cluster at one moment."""

    growth: Growth
    nodes: tuple[Node, ...]
    """The resources of each node that is alive."""
    addable: tuple[tuple[Node, int], ...] | None = ()
    """Kinds of nodes that the autoscaler may add, with their largest numbers; None if that is unknown."""
    free: tuple[Node, ...] = ()
    """Free resources of each node that is alive."""
    unplaced: tuple[Mapping[str, float], ...] = ()
    """Resources of each kind of actor that no node has room for; one whose process is starting is not among them."""


async def cluster_gpus() -> float:
    """GPUs of a cluster that cannot grow; infinity if it may, if that is unknown, and without Ray."""
    if not ray.is_initialized():
        return math.inf
    return await asyncio.to_thread(_gpus_of_ray)  # its control process may take a while to answer


def _gpus_of_ray() -> float:
    if _growth() is not Growth.FIXED:
        return math.inf
    gpus: float = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    return gpus


async def look_at_cluster() -> ClusterView | None:
    """The cluster as it is now; None without Ray, and while its control process does not answer."""
    if not ray.is_initialized():
        return None
    try:
        return await asyncio.to_thread(_view)
    except (ray.exceptions.RayError, RuntimeError) as error:
        log.warning("the cluster's nodes are unknown for now error=%s", error)
        return None


def _view() -> ClusterView:
    from ray.autoscaler.v2.sdk import get_cluster_resource_state  # slow to import, and only a cluster needs it

    growth = _growth()
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    labels = {node["NodeID"]: node["Labels"] for node in alive}
    seen = get_cluster_resource_state(internal_kv_get_gcs_client())  # type: ignore[no-untyped-call]
    free = {node.node_id.hex(): dict(node.available_resources) for node in seen.node_states}
    return ClusterView(
        growth=growth,
        nodes=tuple(_node(node["Resources"], node["Labels"]) for node in alive),
        addable=() if growth is Growth.FIXED else _addable(),
        free=tuple(_node(free.get(node_id, {}), its) for node_id, its in labels.items()),
        unplaced=tuple(dict(each.request.resources_bundle) for each in seen.pending_resource_requests),
    )


def _node(amounts: Mapping[str, float], labels: Mapping[str, str]) -> Node:
    gpus = amounts.get("GPU", 0.0)
    share = round(gpus % 1, 6)
    return Node(
        cpus=amounts.get("CPU", 0.0),
        cards=(1.0,) * int(gpus) + ((share,) if share else ()),
        resources=tuple(sorted((name, amount) for name, amount in amounts.items() if not _NOT_CUSTOM.search(name))),
        labels=tuple(sorted(labels.items())),
    )


def _addable() -> tuple[tuple[Node, int], ...] | None:
    config = state.get_cluster_config()
    if config is None or not config.node_group_configs:
        return None
    groups = [group for group in config.node_group_configs if group.max_count]
    # Labels of nodes to come are not among what the autoscaler reports of their kind.
    return tuple((_node(dict(group.resources), {}), group.max_count) for group in groups)


def _growth() -> Growth:
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    return Growth.POSSIBLE if status is None else growth_of(json.loads(status))


def growth_of(status: Mapping[str, Any]) -> Growth:
    """FIXED if Ray's autoscaler reports nodes, and has started none of them: it only watches the cluster."""
    report = status.get("autoscaler_report") or {}
    if report.get("pending_nodes") or report.get("pending_launches"):
        return Growth.COMING
    types = [*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())]
    is_watched = bool(types) and not report.get("failed_nodes") and all(map(_NODE_OF_NO_TYPE.fullmatch, types))
    return Growth.FIXED if is_watched else Growth.POSSIBLE
