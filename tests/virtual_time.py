"""Tests of what waits, in which hours pass in no time."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from cluster.analysis.virtual_clock import VirtualTimeLoop, run_in_virtual_time


def pass_time(seconds: float) -> None:
    """Let time pass in which the running loop is blocked."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.clock.now_s += seconds


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in which hours pass in no time."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        run_in_virtual_time(test(**arguments))

    del run.__wrapped__  # type: ignore[attr-defined]  # a coroutine function in pytest-asyncio's eyes
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run
