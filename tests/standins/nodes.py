"""A Ray cluster of several nodes on this machine, whose nodes may be dropped."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster

STORE_BYTES = 80_000_000
START_S = 300.0
"""In which every node must register, however busy the machine is."""


@dataclass(frozen=True, slots=True)
class Node:
    cluster: Cluster
    node: Any

    def add_like(self, **settings: Any) -> Node:
        """Add another node to the same cluster, and wait until it is there."""
        added = Node(self.cluster, self.cluster.add_node(object_store_memory=STORE_BYTES, **settings))
        self.cluster.wait_for_nodes(timeout=START_S)
        return added

    def drop(self) -> None:
        """Remove the node at once, as a power failure does."""
        self.cluster.remove_node(self.node, allow_graceful=False)


@contextmanager
def cluster(
    num_workers: int,
    *,
    dashboard: bool = False,
    num_cpus: int = 16,
    head_cpus: int | None = None,
    metrics_interval_ms: int = 10_000,
    **worker: Any,
) -> Iterator[tuple[Cluster, list[Node]]]:
    """Start a head node and further ones, each with room for all replicas, and connect to them."""
    folder = tempfile.mkdtemp(prefix="ray-")  # short: it is part of the names of sockets
    head = {
        "temp_dir": folder,
        "num_cpus": num_cpus if head_cpus is None else head_cpus,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": dashboard,
        "_system_config": {
            # A node that is gone must be found out in the time of a test.
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 3,
            "metrics_report_interval_ms": metrics_interval_ms,
        },
    }
    if dashboard:
        # Its ports are fixed otherwise, and an agent that finds its own taken lives on without taking jobs.
        head |= {"dashboard_port": _free_port(), "dashboard_agent_listen_port": _free_port()}
    made = Cluster(initialize_head=True, head_node_args=head)
    # Ray's jobs join the cluster that this file names. In the default folder it is the one that was started last.
    write_ray_address(made.address, folder)
    try:
        settings = {"num_cpus": num_cpus, "object_store_memory": STORE_BYTES} | worker
        workers = []
        for _ in range(num_workers):
            if dashboard:
                settings["dashboard_agent_listen_port"] = _free_port()
            workers.append(Node(made, made.add_node(**settings)))
        made.wait_for_nodes(timeout=START_S)
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        yield made, workers
    finally:
        ray.shutdown()
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
