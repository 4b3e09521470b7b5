"""A deadline that only counts time in which this process could have noticed the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

MAX_TICK_S = 1.0
NUM_TICKS = 4


async def within(timeout_s: float, awaitable: Awaitable[T]) -> T:
    """Its result. Raises TimeoutError after ``timeout_s`` in which the event loop ran.

    While the loop is blocked (a long computation, a stopped process), answers lie unread; a timer would
    expire before they are, and take the driver's fault for the replica's. So time is counted in ticks, and
    one that came late counts as if it had been punctual.
    """
    call = asyncio.ensure_future(awaitable)
    tick_s = min(MAX_TICK_S, timeout_s / NUM_TICKS)
    left_s = timeout_s
    try:
        while left_s > 0:
            await asyncio.wait((call,), timeout=min(tick_s, left_s))
            if call.done():
                return call.result()
            left_s -= tick_s
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    finally:
        if not call.done():
            call.cancel()
            await asyncio.wait((call,))
        if not call.cancelled():
            call.exception()  # if this was cancelled, nobody else will look at it
