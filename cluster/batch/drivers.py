"""A batch over many drivers: each is a Ray actor with its own event loop and pools.

This process coordinates: it gives videos, one by one, to drivers that have room (`sharding.py`), and collects
the outcomes. It owns the drivers, and they own their replicas: when a process dies, Ray ends everything it owned.
Every pool has its ``replicas`` once per driver.
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
from cluster.batch.inputs import look_at_inputs
from cluster.batch.room import check_room, driver_need, needs_of_jobs
from cluster.batch.runner import ItemOutcome, attempt
from cluster.batch.sharding import Sharding
from cluster.config.schema import Config
from cluster.logs import LogFormat, LogSettings, log_context
from cluster.pipeline import Job
from cluster.pools.needs import DRIVER, Need
from cluster.pools.pool_set import PoolSet
from cluster.pools.reservation import Reservation, reserve
from cluster.pools.stats import RoomWait
from cluster.pools.waiting import WaitLog, wait_for_room
from cluster.steps.progress import Progress
from cluster.storage import output_lock
from cluster.streams import within

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 15.0
POLL_S = 2.0
"""Seconds between two questions to a driver."""
OUTPUT_WAIT_S = 2 * output_lock.EXPIRY_S
"""Time to wait for an output that a lost driver holds: it may live on, frozen or out of reach, until its lease ends."""


def _ignore(_: object) -> None:
    return None


async def run_sharded(
    jobs: Sequence[Job],
    config: Config,
    num_drivers: int,
    on_outcome: Callable[[ItemOutcome], None],
    on_start: Callable[[Job], None] = _ignore,
    on_waits: Callable[[Sequence[RoomWait]], None] = _ignore,
) -> list[ItemOutcome]:
    """Dub every job on ``num_drivers`` drivers, ``pipeline.max_videos`` at a time on each.

    ``on_outcome`` is called with each outcome as it comes; ``on_start`` with each job that a driver starts, again if
    another driver has to; ``on_waits`` with what the cluster has no room for, again and again while it waits. The
    returned outcomes are in the order of the jobs. Ray must be connected. On cancellation, every driver ends and
    partial results are removed. Raises ConfigError if the cluster can never hold a driver and one replica of each pool.
    """
    if num_drivers < 1:
        raise ValueError(f"num_drivers must be at least 1, found {num_drivers}")
    looked_at = await look_at_inputs(jobs, config, on_outcome)
    left = [index for index, found in enumerate(looked_at) if not isinstance(found, ItemOutcome)]
    outcomes = {index: found for index, found in enumerate(looked_at) if isinstance(found, ItemOutcome)}
    if left:
        dubbed = [jobs[index] for index in left]
        needs = [driver_need(config), *([] if config.ray.mode == "inline" else needs_of_jobs(dubbed, config))]
        await check_room(needs)
        durations_s = [found for found in looked_at if not isinstance(found, ItemOutcome)]
        coordinator = _Coordinator(dubbed, config, needs, durations_s, num_drivers, on_outcome, on_start, on_waits)
        async with asyncio.TaskGroup() as group:
            for driver in range(num_drivers):
                group.create_task(coordinator.drive(driver), name=f"driver {driver}")
        outcomes |= {index: coordinator.outcomes[number] for number, index in enumerate(left)}
    return [outcomes[index] for index in range(len(jobs))]


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
        self._dubs: set[asyncio.Task[ItemOutcome]] = set()

    async def open(self) -> None:
        self._pools = await self._stack.enter_async_context(PoolSet(self._config, self._reservation, is_patient=True))

    async def dub(self, job: Job) -> ItemOutcome:
        task = asyncio.create_task(attempt(job, self._config, self._pools, Progress(job=job.source.name)))
        self._dubs.add(task)
        try:
            return await task
        finally:
            self._dubs.discard(task)

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


class _RemoteDriver:
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

    async def dub(self, job: Job) -> ItemOutcome:
        """Dub one video. Raises DriverDiedError."""
        try:
            outcome: ItemOutcome = await self._call(self._actor.dub, job)
        except ray.exceptions.RayTaskError as error:  # `attempt` catches everything, so this is a bug
            log.exception("driver failed job=%s", job.source.name)
            return ItemOutcome(job=job, manifest=None, error=f"unexpected {type(error.cause).__name__}: {error.cause}")
        return outcome

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


class _Coordinator:
    """Keeps the drivers up, gives them videos, and collects the outcomes."""

    def __init__(
        self,
        jobs: Sequence[Job],
        config: Config,
        needs: Sequence[Need],
        durations_s: Sequence[float],
        num_drivers: int,
        on_outcome: Callable[[ItemOutcome], None],
        on_start: Callable[[Job], None],
        on_waits: Callable[[Sequence[RoomWait]], None],
    ) -> None:
        self.outcomes: dict[int, ItemOutcome] = {}
        self._jobs = jobs
        self._config = config
        self._settings = config.drivers
        self._sharding = Sharding(
            durations_s,
            num_drivers,
            config.pipeline.max_videos,
            self._settings.max_losses,
            priorities=[job.priority for job in jobs],
        )
        self._on_outcome = on_outcome
        self._on_start = on_start
        self._on_waits = on_waits
        self._needs = needs
        self._waits: dict[int, tuple[RoomWait, ...]] = {}
        self._wait_logs = [WaitLog(f"driver {driver} is ") for driver in range(num_drivers)]
        self._num_failures = [0] * num_drivers
        self._changed = asyncio.Event()

    async def drive(self, driver: int) -> None:
        """Keep one driver up while there is work for it, as long as it can be started."""
        while self._num_failures[driver] < self._settings.max_start_failures and await self._has_work():
            remote = _RemoteDriver(self._config, self._needs)
            failure: DriverStartError | None = None
            try:
                if await self._open(driver, remote):
                    await self._work(driver, remote)
            except DriverStartError as error:
                failure = error
            finally:
                self._note_waits(driver, ())
                await remote.close()
            if failure is not None:
                await self._after_start_failure(driver, failure)

    async def _has_work(self) -> bool:
        """Wait until a video needs a driver; False once all are done. A running video may yet be requeued."""
        await self._wait_until(lambda: self._sharding.has_waiting or self._sharding.is_done)
        return not self._sharding.is_done

    async def _open(self, driver: int, remote: _RemoteDriver) -> bool:
        """Open the driver; False if no video needed it any more, which may happen while a full cluster has no room."""
        opening = asyncio.create_task(
            remote.open(
                lambda wait: self._note_waits(driver, () if wait is None else (wait,)),
                lambda: self._sharding.has_others(driver),
            )
        )
        opening.add_done_callback(lambda _: self._notify())
        try:
            await self._wait_until(lambda: opening.done() or not self._sharding.has_waiting)
            if opening.done():
                opening.result()
            return opening.done()
        finally:
            opening.cancel()

    def _note_waits(self, driver: int, waits: tuple[RoomWait, ...]) -> None:
        self._waits[driver] = waits
        self._wait_logs[driver].note(waits)
        self._on_waits([wait for each in self._waits.values() for wait in each])

    async def _work(self, driver: int, remote: _RemoteDriver) -> None:
        """Give the driver videos until it is lost, or none is left.

        It is not kept for videos that might be requeued, so that its replicas are released. Raises DriverStartError if
        the driver has room for a part of its replicas only.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watch: asyncio.Task[None] = group.create_task(
                    remote.watch(lambda state: self._note_waits(driver, state.waits))
                )
                while self._sharding.has_waiting or self._sharding.num_running(driver):
                    index = self._sharding.take(driver)
                    if index is None:
                        await self._changed.wait()
                    else:
                        self._on_start(self._jobs[index])
                        group.create_task(self._dub(driver, remote, index))
                watch.cancel()
        except* DriverDiedError as errors:
            self._handle_loss(driver, errors.exceptions[0])
        except* DriverStuckError as errors:
            self._sharding.requeue(driver)
            self._notify()
            raise DriverStartError(str(errors.exceptions[0])) from errors.exceptions[0]

    async def _dub(self, driver: int, remote: _RemoteDriver, index: int) -> None:
        outcome = await remote.dub(self._jobs[index])
        self._sharding.finish(driver, index)
        self._num_failures[driver] = 0
        self._record(index, outcome)

    def _handle_loss(self, driver: int, error: Exception) -> None:
        self._num_failures[driver] = 0
        with log_context(stage="driver", replica=str(driver)):
            log.warning("driver lost videos=%d error=%s", self._sharding.num_running(driver), error)
        for index in self._sharding.lose(driver):
            self._fail(
                index,
                f"a driver must stay alive while it dubs this video; {self._settings.max_losses} drivers were lost "
                f"with it, the last one with no other video: {error}; that driver's log has the reason",
            )
        self._notify()

    async def _after_start_failure(self, driver: int, error: Exception) -> None:
        num_failures = self._num_failures[driver] = self._num_failures[driver] + 1
        with log_context(stage="driver", replica=str(driver)):
            log.warning("driver did not start failures=%d error=%s", num_failures, error)
        if num_failures < self._settings.max_start_failures:
            return await asyncio.sleep(self._settings.restart_delay_s)
        for index in self._sharding.retire(driver):
            self._fail(index, f"a driver must start to dub this video; none did; the last error was: {error}")
        self._notify()

    def _fail(self, index: int, reason: str) -> None:
        self._record(index, ItemOutcome(job=self._jobs[index], manifest=None, error=reason))

    def _record(self, index: int, outcome: ItemOutcome) -> None:
        self.outcomes[index] = outcome
        self._on_outcome(outcome)
        self._notify()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        """Wake every task that waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
