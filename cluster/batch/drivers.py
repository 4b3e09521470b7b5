"""The drivers of a batch: each is a Ray actor with its own event loop and pools, and has a handle at the coordinator.

The coordinator (`coordinator.py`) owns the drivers, and they own their replicas: when a process dies, Ray ends
everything it owned. Every pool has its ``replicas`` once per driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

import ray
import ray.exceptions

from actors.errors import CapacityError
from cluster import logs
from cluster.batch import ledger
from cluster.batch.ledger import ItemStatus
from cluster.batch.runner import attempt
from cluster.config.schema import Config
from cluster.logs import LogFormat, LogSettings
from cluster.pipeline import Job
from cluster.pools.needs import DRIVER, Need
from cluster.pools.pool_set import PoolSet
from cluster.pools.reservation import Reservation, reserve
from cluster.pools.stats import RoomWait
from cluster.pools.waiting import wait_for_room
from cluster.steps.progress import Progress
from cluster.storage import output_lock
from cluster.streams import within

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 15.0
POLL_S = 2.0
"""Seconds between two questions to a driver."""
OUTPUT_WAIT_S = 2 * output_lock.EXPIRY_S
"""Time to wait for an output that a lost driver holds: it may live on, frozen or out of reach, until its lease ends."""


class DriverStartError(Exception):
    """A driver did not become ready."""


class DriverDiedError(Exception):
    """A driver died, and its replicas with it."""


class DriverStuckError(Exception):
    """A driver's pools cannot have a replica each: it must give back what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverState:
    """A driver's answer to the question whether its event loop runs."""

    waits: tuple[RoomWait, ...] = ()
    is_stuck: bool = False


class Driver:
    """The actor: one event loop with its own pools, which dubs the videos it is given concurrently."""

    def __init__(self, config: Config, log: LogSettings, reservation: Reservation | None) -> None:
        logs.set_up(log.level, log.format)
        self._reservation = reservation
        self._config = _with_output_wait(config)
        self._stack = AsyncExitStack()
        self._dubs: set[asyncio.Task[ItemStatus]] = set()

    async def open(self) -> None:
        self._pools = await self._stack.enter_async_context(PoolSet(self._config, self._reservation, is_patient=True))

    async def dub(self, job: Job) -> ItemStatus:
        """The status of a dubbed video. Its manifest stays here: the coordinator needs a line of each of 100,000."""
        task = asyncio.create_task(self._dub(job))
        self._dubs.add(task)
        try:
            return await task
        finally:
            self._dubs.discard(task)

    async def _dub(self, job: Job) -> ItemStatus:
        return ledger.status_of(await attempt(job, self._config, self._pools, Progress(job=job.source.name)))

    async def ping(self) -> DriverState:
        watch = self._pools.watch
        return DriverState(waits=watch.waits, is_stuck=watch.is_stuck)

    async def close(self) -> None:
        """Cancel running dubs, remove their partial results, and release the replicas."""
        for dub in self._dubs:
            dub.cancel()
        await asyncio.gather(*self._dubs, return_exceptions=True)
        await self._stack.aclose()


def _with_output_wait(config: Config) -> Config:
    wait_s = max(config.pipeline.output_wait_s, OUTPUT_WAIT_S)
    return config.model_copy(update={"pipeline": config.pipeline.model_copy(update={"output_wait_s": wait_s})})


class RemoteDriver:
    """The coordinator's handle of a driver: ``open``, then ``dub`` many times beside ``watch``, then ``close``."""

    def __init__(self, config: Config, needs: Sequence[Need]) -> None:
        self._config = config
        self._settings = config.drivers
        self._needs = needs
        self._reservation: Reservation | None = None
        self._actor: Any = None
        self._is_open = False

    async def open(self, on_wait: Callable[[RoomWait | None], None], may_wait: Callable[[], bool]) -> None:
        """Wait until the driver is ready; as long as needed while ``may_wait``. Raises DriverStartError."""
        try:
            self._reservation = reserve(self._needs)
            if self._reservation is not None:
                limit_s = self._settings.start_timeout_s
                await wait_for_room(self._reservation, self._config.ray, limit_s, on_wait=on_wait, may_wait=may_wait)
            self._actor = self._start(self._reservation)
            await self._within(self._settings.start_timeout_s, self._actor.open)
        except CapacityError as error:
            raise DriverStartError(error.message) from error
        except (DriverDiedError, ray.exceptions.RayError) as error:
            raise DriverStartError(str(error)) from error
        self._is_open = True

    def _start(self, reservation: Reservation | None) -> Any:
        index = None if reservation is None else reservation.index_of(DRIVER)
        actor = ray.remote(Driver).options(
            num_cpus=self._settings.num_cpus,
            resources=dict(self._settings.resources),
            # Without a place of its own it may be anywhere; a lost node takes few drivers with it.
            scheduling_strategy="SPREAD" if reservation is None or index is None else reservation.strategy(index),
            # The coordinator requeues lost videos; an actor that Ray restarted would have no pools.
            max_restarts=0,
            max_task_retries=0,
        )
        level = logging.getLogger("cluster").getEffectiveLevel()
        log_settings = logs.settings() or LogSettings(level=level, format=LogFormat.TEXT)
        return actor.remote(self._config, log_settings, reservation)

    async def dub(self, job: Job) -> ItemStatus:
        """Dub one video. Raises DriverDiedError."""
        try:
            status: ItemStatus = await self._call(self._actor.dub, job)
        except ray.exceptions.RayTaskError as error:  # `attempt` catches everything, so this is a bug
            log.exception("driver failed job=%s", job.source.name)
            return ledger.failed(job, f"unexpected {type(error.cause).__name__}: {error.cause}")
        return status

    async def watch(self, on_state: Callable[[DriverState], None]) -> NoReturn:
        """Raise DriverDiedError once the driver has died or its event loop has stopped answering.

        Raises DriverStuckError if its pools wait in vain.
        """
        while True:
            await asyncio.sleep(min(POLL_S, self._settings.silence_timeout_s / 4))
            state = await self._within(self._settings.silence_timeout_s, self._actor.ping)
            on_state(state)
            if state.is_stuck:
                texts = "; ".join(wait.text for wait in state.waits)
                raise DriverStuckError(f"each pool must have a replica; {texts}")

    async def close(self) -> None:
        """End the driver within ``CLOSE_TIMEOUT_S``; it releases its replicas itself if it still answers."""
        try:
            if self._is_open:
                await self._within(CLOSE_TIMEOUT_S, self._actor.close)
        except (DriverDiedError, ray.exceptions.RayTaskError) as error:
            log.warning("driver did not close, killed instead error=%r", error)
        finally:
            if self._actor is not None:
                ray.kill(self._actor)
            if self._reservation is not None:
                self._reservation.remove()

    async def _within(self, timeout_s: float, method: Any) -> Any:
        try:
            return await within(timeout_s, self._call(method))
        except TimeoutError as error:
            self._is_open = False
            raise DriverDiedError(str(error)) from error

    async def _call(self, method: Any, *args: Any) -> Any:
        try:
            return await method.remote(*args)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:  # its process or node died, or it can never be placed
            self._is_open = False
            raise DriverDiedError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
