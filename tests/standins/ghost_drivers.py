"""Drivers without processes: each video ends at once, with the status of a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from cluster.batch import coordinator, drivers, ledger
from cluster.batch.drivers import DriverState
from cluster.batch.ledger import EngineUsage, ItemStatus
from cluster.config.schema import Config
from cluster.pipeline import Job

LANGUAGES = 5
LENGTH_S = 60.0


class GhostDrivers:
    """Takes the place of Ray in the coordinator's module, inside ``in_place``."""

    def __init__(self, status_of: Callable[[Job, str], ItemStatus] | None = None) -> None:
        self.num_open = self.most_open = 0
        self.dubbed: list[Job] = []
        """All jobs, if ``keeps_jobs``."""
        self.keeps_jobs = True
        self._num_made = 0
        self._status_of = status_of or (lambda job, driver: ledger.failed(job, ""))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[GhostDrivers]:
        """Inside, batches run on these, and inputs are not opened."""
        with (
            mock.patch.object(drivers.ray, "remote", self._remote),
            mock.patch.object(drivers.ray, "kill"),
            mock.patch.object(coordinator.sandbox, "start"),
            mock.patch.object(coordinator, "look_at_input", look_at_once),
        ):
            yield self

    def _remote(self, actor: type) -> Any:
        """As ``ray.remote``."""
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: self._start()))

    def _start(self) -> Any:
        name = f"driver{self._num_made}"
        self._num_made += 1
        calls = {"open": self._open, "dub": lambda job: self._dub(job, name), "ping": self._ping, "close": self._close}
        return SimpleNamespace(**{method: SimpleNamespace(remote=call) for method, call in calls.items()})

    async def _open(self) -> None:
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)

    async def _dub(self, job: Job, driver: str) -> ItemStatus:
        if self.keeps_jobs:
            self.dubbed.append(job)
        await asyncio.sleep(0)
        return self._status_of(job, driver)

    async def _ping(self) -> DriverState:
        return DriverState()

    async def _close(self) -> None:
        self.num_open -= 1


async def look_at_once(job: Job, config: Config) -> float:
    """As ``look_at_input``, of a file that nobody opens."""
    await asyncio.sleep(0)
    return LENGTH_S


def finished(job: Job, driver: str) -> ItemStatus:
    """The status of a video of a minute in five languages, as a driver returns it."""
    pools = ("transcription/a", "translation/b", "embedding/c", "speech/d", "speech/e")
    return ItemStatus(
        source=job.source_location,
        out=job.out_location,
        state="done",
        fingerprint="",
        error=None,
        ended=ledger.now(),
        duration_s=LENGTH_S,
        num_segments=20,
        num_utterances=20 * LANGUAGES,
        driver=driver,
        engines=tuple(EngineUsage(name=name, engine_s=1.5, num_hits=3, num_misses=97) for name in pools),
    )
