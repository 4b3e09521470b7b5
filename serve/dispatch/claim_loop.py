"""Claims work from the database for as long as there is room for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cluster.logs import log_context
from cluster.tracing.spans import TraceParent, in_trace
from serve.dispatch.health import Health
from serve.jobs.database import until_it_answers
from serve.jobs.tables import Dub
from serve.storage.files import JobFiles

W = TypeVar("W")


@contextmanager
def job_context(dub: Dub) -> Iterator[None]:
    """Work on a claimed job inside: log records name it, and spans belong to the trace of the request that made it."""
    request = TraceParent.read(dub.traceparent)
    with log_context(job=dub.id, trace="-" if request is None else request.trace_id), in_trace(request):
        yield


class ClaimLoop:
    """Claims again when woken, when something ends, and every ``poll_s``."""

    def __init__(self, *, files: JobFiles, health: Health, poll_s: float) -> None:
        self._files = files
        self._health = health
        self._poll_s = poll_s
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Claim now, because there is new work or new room."""
        self._wake.set()

    async def run(
        self, has_room: Callable[[], bool], claim: Callable[[], Awaitable[W | None]], start: Callable[[W], None]
    ) -> None:
        """Claim and start work for ever. A dispatcher that is leaving, or whose disk is full, claims none."""
        while True:
            may_claim = has_room() and not self._health.is_leaving
            may_claim = may_claim and await asyncio.to_thread(self._files.has_room)
            claimed = await until_it_answers(claim) if may_claim else None
            if claimed is not None:
                start(claimed)
                continue
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()
