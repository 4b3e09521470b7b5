"""Writes the statuses and the summary of a running batch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from actors.errors import MediaError
from cluster.batch import ledger
from cluster.batch.ledger import BatchSummary, ItemStatus
from cluster.config.schema import Config
from cluster.pools.stats import RoomWait

log = logging.getLogger(__name__)

WAITS_INTERVAL_S = 5.0
"""Seconds between two writes of what the batch waits for."""
MAX_WRITES = 16
"""Statuses that are written at a time. A bucket takes some 50 ms for one: one after another they would bound a batch to
ten videos a second."""


class StatusRecorder:
    """Writes each item's latest status, those of one item one after another. Use with ``async with``.

    A status that cannot be written fails no dub: it is in the summary, and is tried once more at the end.
    """

    def __init__(self, out: str, config: Config, num_items: int) -> None:
        self._out = out
        self._config = config
        self._num_items = num_items
        self._kept: list[ItemStatus] = []
        self._ended: list[ItemStatus] = []
        self._unwritten: dict[str, ItemStatus] = {}
        """The latest status of each item whose last could not be written, by its output."""
        self._to_write: dict[str, ItemStatus] = {}
        """The latest status of each item that waits to be written, by its output."""
        self._queue: deque[str] = deque()
        self._at_work: set[str] = set()
        self._writers = asyncio.TaskGroup()
        self._num_writers = 0
        self._waits: Sequence[RoomWait] = ()
        """As they were written last."""
        self._waits_written_s = 0.0
        self._writing_waits = asyncio.Lock()

    async def __aenter__(self) -> StatusRecorder:
        await self._writers.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._writers.__aexit__(*raised)  # type: ignore[arg-type]  # as it was passed to this

    @property
    def num_kept(self) -> int:
        return len(self._kept)

    def keep(self, status: ItemStatus) -> None:
        """Note an item that an earlier run finished. May be called in threads."""
        self._kept.append(status)

    def record_start(self, status: ItemStatus) -> None:
        self._write_soon(status)

    def record_end(self, status: ItemStatus) -> None:
        self._ended.append(status)
        log.info("item state=%s source=%s error=%s", status.state, status.source, status.error)
        self._write_soon(status)

    def record_waits(self, waits: Sequence[RoomWait]) -> None:
        """Write what the batch waits for, if that is news."""
        if self._has_news(waits):
            self._waits, self._waits_written_s = waits, time.monotonic()
            self._writers.create_task(self._write_waits(waits))

    async def finish(self) -> BatchSummary:
        """Write the summary, after the block. Raises MediaError."""
        room = asyncio.Semaphore(MAX_WRITES)

        async def again(status: ItemStatus) -> None:
            async with room:
                await self._write(status)

        await asyncio.gather(*map(again, tuple(self._unwritten.values())))
        summary = ledger.summarise(
            [*self._kept, *self._ended], self._num_items, self.num_kept, self._config, ended=True
        )
        try:
            await asyncio.to_thread(ledger.write_summary, summary, self._out)
        except MediaError as error:
            raise MediaError(
                f"the batch's summary must be written; {error.message}; the log has the state of each item, and the "
                f"same batch, run again, keeps finished items"
            ) from error
        return summary

    def _has_news(self, waits: Sequence[RoomWait]) -> bool:
        """True if other things wait than were written last, or if that was a while ago."""
        is_old = bool(waits) and time.monotonic() - self._waits_written_s >= WAITS_INTERVAL_S
        return is_old or {wait.name for wait in waits} != {wait.name for wait in self._waits}

    async def _write_waits(self, waits: Sequence[RoomWait]) -> None:
        async with self._writing_waits:
            try:
                await asyncio.to_thread(ledger.write_waiting, [wait.text for wait in waits], self._out)
            except MediaError as error:
                log.warning("status of the batch not written error=%s", error.message)

    def _write_soon(self, status: ItemStatus) -> None:
        """Write the status once a writer is free; an older one of the item that still waits is left out."""
        if status.out not in self._to_write and status.out not in self._at_work:
            self._queue.append(status.out)
        self._to_write[status.out] = status
        if self._queue and self._num_writers < MAX_WRITES:
            self._num_writers += 1
            self._writers.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._queue:
                out = self._queue.popleft()
                self._at_work.add(out)
                while (status := self._to_write.pop(out, None)) is not None:
                    await self._write(status)
                self._at_work.discard(out)
        finally:
            self._num_writers -= 1

    async def _write(self, status: ItemStatus) -> None:
        try:
            await asyncio.to_thread(ledger.write_status, status)
        except MediaError as error:
            log.warning("status not written state=%s out=%s error=%s", status.state, status.out, error.message)
            self._unwritten[status.out] = status
        else:
            self._unwritten.pop(status.out, None)
