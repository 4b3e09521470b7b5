"""Runs a batch on drivers and collects what became of each video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.batch.coordinator import run_sharded
from cluster.batch.ledger import ItemStatus
from cluster.config.schema import Config
from cluster.pipeline import Job


async def statuses_of(
    jobs: Sequence[Job],
    config: Config,
    num_drivers: int,
    on_end: Callable[[ItemStatus], None] = lambda _: None,
    **options: Any,
) -> list[ItemStatus]:
    """The statuses of all jobs, in their order."""
    ended: dict[str, ItemStatus] = {}

    def note(status: ItemStatus) -> None:
        assert status.out not in ended, "a video ends once"
        ended[status.out] = status
        on_end(status)

    await run_sharded(jobs, config, num_drivers, note, **options)
    return [ended[job.out_location] for job in jobs]
