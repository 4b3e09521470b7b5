"""A Ray cluster of several nodes on this machine, whose nodes may be dropped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.cluster_utils import Cluster

STORE_BYTES = 80_000_000


@dataclass(frozen=True, slots=True)
class Node:
    cluster: Cluster
    node: Any

    def drop(self) -> None:
        """As if its power had failed."""
        self.cluster.remove_node(self.node, allow_graceful=False)


@contextmanager
def cluster(
    num_workers: int,
    *,
    dashboard: bool = False,
    num_cpus: int = 16,
    metrics_interval_ms: int = 10_000,
    **worker: Any,
) -> Iterator[tuple[Cluster, list[Node]]]:
    """A head and so many more nodes, each with room for all replicas; this process is connected to it."""
    head = {
        "num_cpus": num_cpus,
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
    try:
        settings = {"num_cpus": num_cpus, "object_store_memory": STORE_BYTES} | worker
        workers = []
        for _ in range(num_workers):
            if dashboard:
                settings["dashboard_agent_listen_port"] = _free_port()
            workers.append(Node(made, made.add_node(**settings)))
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        yield made, workers
    finally:
        ray.shutdown()
        made.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
