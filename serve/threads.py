"""Threads for work that blocks, a few for each kind, so that one kind or one key cannot take all of them."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

from cluster.pools.fairness import AdmissionLimiter

R = TypeVar("R")

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""The owner of the request that is being answered."""


class FairThreads:
    """Threads of their own for one kind of work. A thread that falls free goes to the owner with the fewest.

    No owner has more than ``max_per_owner`` at a time, if that is given.
    """

    def __init__(self, name: str, num_threads: int, max_per_owner: int | None = None) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._limiter = AdmissionLimiter(num_threads, max_per_owner or num_threads)

    async def run(self, function: Callable[..., R], *arguments: Any) -> R:
        """The result of the function. Its thread is taken until it ends, also if the caller is cancelled."""
        owner = OWNER.get()
        await self._limiter.enter(owner)
        work = self._executor.submit(functools.partial(function, *arguments))
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: _call_in(loop, self._limiter.leave, owner))
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Let threads end after the work that they have begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any) -> None:
    """Call a function on the loop, from any thread; not at all if the loop is closed."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)


class Workers:
    """The threads of a dispatcher, by kind of work."""

    def __init__(self, num_detecting: int = 1, num_extracting: int = 2) -> None:
        num_threads = max(2, min(4, os.cpu_count() or 1))
        self.inspecting = FairThreads("inspect", num_threads, max_per_owner=num_threads - 1)
        """Each waits for a process of the sandbox, which takes a core: one is kept for other owners."""
        self.encoding = FairThreads("encode", num_threads, max_per_owner=num_threads - 1)
        """Encodes spoken answers: 64 % of the event loop went into it while one key asked for speech only."""
        self.detecting = FairThreads("detect", num_detecting)
        """Detection of languages computes in the interpreter: 0.6 s for 2,048 texts."""
        self.extracting = FairThreads("extract", num_extracting)
        """Each copies the packets of a whole file."""

    def close(self) -> None:
        for threads in (self.inspecting, self.encoding, self.detecting, self.extracting):
            threads.close()
