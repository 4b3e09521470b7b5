"""An event loop in which hours pass in no time, for tests of what waits."""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _VirtualClock(selectors.DefaultSelector):
    """Where an event loop would sleep until its next timer, time jumps there."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "every task waits, and no timer will ever end that"
        self.now_s += max(0.0, timeout)
        return super().select(0)


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _VirtualClock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s


def pass_time(seconds: float) -> None:
    """Let time pass in which the running loop is blocked."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _VirtualTimeLoop)
    loop.clock.now_s += seconds


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Like ``asyncio.run``, at once."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(work)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in which hours pass in no time."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        run_in_virtual_time(test(**arguments))

    del run.__wrapped__  # type: ignore[attr-defined]  # a coroutine function in pytest-asyncio's eyes
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run
