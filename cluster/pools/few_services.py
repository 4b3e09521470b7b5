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
    init = RayParams.__init__

    def init_with_few(self: RayParams, *args: Any, **options: Any) -> None:
        init(self, *args, **{**options, "no_monitor": True, "include_log_monitor": False})

    changes: list[tuple[Any, str, Any]] = [
        (RayParams, "__init__", init_with_few),
        (Node, "start_api_server", _start_nothing),
        (utils, "get_dashboard_dependency_error", lambda: None),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _start_nothing(node: Node, **_: object) -> None:
    """Stands for the start of the API server."""
