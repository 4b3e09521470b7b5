"""Starts Ray on this machine without services that one program does not use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import utils
from ray._private.node import Node
from ray._private.parameter import RayParams


@contextmanager
def few_services() -> Iterator[None]:
    """A node that is started in the block has no API server, log monitor and cluster autoscaler.

    They serve other programs and clusters of several nodes, and took 2 of the 4 s of a start and 1 s of a stop. `ray
    start` can leave out two of the three, ``ray.init`` none: so what Ray starts by default is changed for a moment.
    Ray also imports all that its dashboard needs, to know whether it is installed: 0.4 s of computing. It is, because
    raydub requires ``ray[default]``.
    """
    init, start_api_server = RayParams.__init__, Node.start_api_server
    dependency_error = utils.get_dashboard_dependency_error

    def init_with_few(self: RayParams, *args: Any, **options: Any) -> None:
        init(self, *args, **{**options, "no_monitor": True, "include_log_monitor": False})

    setattr(RayParams, "__init__", init_with_few)  # noqa: B010 -- so written, it is checked as any value is
    setattr(Node, "start_api_server", _start_nothing)  # noqa: B010
    setattr(utils, "get_dashboard_dependency_error", lambda: None)  # noqa: B010
    try:
        yield
    finally:
        setattr(utils, "get_dashboard_dependency_error", dependency_error)  # noqa: B010
        setattr(RayParams, "__init__", init)  # noqa: B010
        setattr(Node, "start_api_server", start_api_server)  # noqa: B010


def _start_nothing(node: Node, **_: object) -> None:
    """Stands for the start of the API server."""
