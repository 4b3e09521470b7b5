"""A batch over many drivers: each is a Ray actor with an event loop and pools of its own.

This process coordinates: it hands out videos, one by one, to drivers that have room (`sharding.py`),
and gathers what became of them. It owns the drivers and they own their replicas, so that whatever
dies, what it owned dies with it. Every pool has its ``replicas`` once per driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, NoReturn

import ray
import ray.exceptions

from actors.errors import MediaError
from cluster import lease, logs, places
from cluster.config import Config
from cluster.deadline import within
from cluster.fetch import describe
from cluster.logs import log_context
from cluster.media import probe
from cluster.pipeline import Job
from cluster.pools import Pools
from cluster.progress import Progress
from cluster.runner import Outcome, attempt
from cluster.sharding import Sharding

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 15.0
OUTPUT_WAIT_S = 2 * lease.EXPIRY_S
"""A driver that was lost may live on for a while, frozen or out of reach: until it has ended, or its lease has,
the outputs it worked on are its own."""
MAX_PROBES = 8
"""Inputs whose lengths are read at a time."""
GUESSED_BYTES_PER_S = 250_000
"""Of an input behind a URL, whose length is not known before it is fetched: only the order depends on it."""


def _ignore(job: Job) -> None:
    """A start."""


async def run_sharded(
    jobs: Sequence[Job],
    config: Config,
    num_drivers: int,
    on_outcome: Callable[[Outcome], None],
    on_start: Callable[[Job], None] = _ignore,
) -> list[Outcome]:
    """Dub every job on ``num_drivers`` drivers, ``pipeline.max_videos`` at a time on each.

    ``on_outcome`` is told of each as it comes, ``on_start`` of each that a driver is given, again if it is given
    to another; the returned outcomes are in the order of the jobs. Ray must be connected. If this is cancelled,
    every driver ends, and what was half done is removed.
    """
    if num_drivers < 1:
        raise ValueError(f"num_drivers must be at least 1, found {num_drivers}")
    durations_s = await _durations_s(jobs, config)
    coordinator = _Coordinator(jobs, config, durations_s, num_drivers, on_outcome, on_start)
    async with asyncio.TaskGroup() as group:
        for driver in range(num_drivers):
            group.create_task(coordinator.drive(driver), name=f"driver {driver}")
    return [coordinator.outcomes[index] for index in range(len(jobs))]


async def _durations_s(jobs: Sequence[Job], config: Config) -> list[float]:
    room = asyncio.Semaphore(MAX_PROBES)

    async def duration_s(job: Job) -> float:
        async with room:
            if job.elsewhere is not None and job.elsewhere.source is not None:
                return (await _size_of(job.elsewhere.source, config) or 0) / GUESSED_BYTES_PER_S
            try:
                return (await asyncio.to_thread(probe, job.source, config.media)).duration_s
            except MediaError:  # its driver will say so
                return 0.0

    return await asyncio.gather(*(duration_s(job) for job in jobs))


async def _size_of(place: str, config: Config) -> int | None:
    """In bytes; None if nobody says."""
    if not places.is_http(place):
        return await asyncio.to_thread(places.size_of, place)
    try:
        return (await describe(place, config.fetch)).num_bytes
    except MediaError:  # its driver will say so
        return None


class DriverStartError(Exception):
    """The driver never became ready."""


class DriverDiedError(Exception):
    """The driver is gone, and all it had."""


class Driver:
    """The actor: one event loop with pools of its own, dubbing the videos it is given at the same time."""

    def __init__(self, config: Config, log_level: int) -> None:
        logs.set_up(log_level)
        self._config = _patient(config)
        self._stack = AsyncExitStack()
        self._dubs: set[asyncio.Task[Outcome]] = set()

    async def open(self) -> None:
        self._pools = await self._stack.enter_async_context(Pools(self._config))

    async def dub(self, job: Job) -> Outcome:
        task = asyncio.create_task(attempt(job, self._config, self._pools, Progress(job=job.source.name)))
        self._dubs.add(task)
        try:
            return await task
        finally:
            self._dubs.discard(task)

    async def ping(self) -> None:
        """Answers while the event loop runs."""

    async def close(self) -> None:
        """End what is under way, with nothing half done left, and release the replicas."""
        for dub in self._dubs:
            dub.cancel()
        await asyncio.gather(*self._dubs, return_exceptions=True)
        await self._stack.aclose()


def _patient(config: Config) -> Config:
    wait_s = max(config.pipeline.output_wait_s, OUTPUT_WAIT_S)
    return config.model_copy(update={"pipeline": config.pipeline.model_copy(update={"output_wait_s": wait_s})})


class _RemoteDriver:
    """A driver as its owner sees it. Life: ``open``, ``dub`` many times and ``watch`` beside it, ``close``."""

    def __init__(self, config: Config) -> None:
        self._settings = config.drivers
        actor = ray.remote(Driver).options(
            num_cpus=self._settings.num_cpus,
            resources=dict(self._settings.resources),
            scheduling_strategy="SPREAD",  # a lost node takes few drivers with it
            # The coordinator hands out again what was lost; Ray's own restarts would have no pools.
            max_restarts=0,
            max_task_retries=0,
        )
        self._actor: Any = actor.remote(config, logging.getLogger("cluster").getEffectiveLevel())
        self._is_open = False

    async def open(self) -> None:
        """Raises DriverStartError."""
        try:
            await self._within(self._settings.start_timeout_s, self._actor.open)
        except (DriverDiedError, ray.exceptions.RayTaskError) as error:
            raise DriverStartError(str(error)) from error
        self._is_open = True

    async def dub(self, job: Job) -> Outcome:
        """Raises DriverDiedError."""
        try:
            outcome: Outcome = await self._call(self._actor.dub, job)
        except ray.exceptions.RayTaskError as error:  # `attempt` lets nothing pass, so this is a bug of ours
            log.exception("driver failed job=%s", job.source.name)
            return Outcome(job=job, manifest=None, error=f"unexpected {type(error.cause).__name__}: {error.cause}")
        return outcome

    async def watch(self) -> NoReturn:
        """Raises DriverDiedError once the driver has died or its event loop stands still."""
        while True:
            await asyncio.sleep(self._settings.silence_timeout_s / 4)
            await self._within(self._settings.silence_timeout_s, self._actor.ping)

    async def close(self) -> None:
        """End it, within ``CLOSE_TIMEOUT_S`` and in good order if it still answers."""
        try:
            if self._is_open:
                await self._within(CLOSE_TIMEOUT_S, self._actor.close)
        except (DriverDiedError, ray.exceptions.RayTaskError) as error:
            log.warning("driver did not close, killed instead error=%r", error)
        finally:
            ray.kill(self._actor)

    async def _within(self, timeout_s: float, method: Any) -> None:
        try:
            await within(timeout_s, self._call(method))
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
    def __init__(
        self,
        jobs: Sequence[Job],
        config: Config,
        durations_s: Sequence[float],
        num_drivers: int,
        on_outcome: Callable[[Outcome], None],
        on_start: Callable[[Job], None],
    ) -> None:
        self.outcomes: dict[int, Outcome] = {}
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
        self._changed = asyncio.Event()

    async def drive(self, driver: int) -> None:
        """Keep one driver up while there is work for it, as long as it can be started."""
        num_failures = 0
        while num_failures < self._settings.max_start_failures and await self._has_work():
            remote = _RemoteDriver(self._config)
            try:
                if await self._open(remote):
                    num_failures = 0
                    await self._work(driver, remote)
            except DriverStartError as error:
                num_failures += 1
                await self._after_start_failure(driver, num_failures, error)
            finally:
                await remote.close()

    async def _has_work(self) -> bool:
        """Waits while all there is is in other hands, that might yet drop it; False when all is done."""
        await self._until(lambda: self._sharding.has_waiting or self._sharding.is_done)
        return not self._sharding.is_done

    async def _open(self, remote: _RemoteDriver) -> bool:
        """False if it was no longer needed before it was there: a full cluster may keep it waiting."""
        opening = asyncio.create_task(remote.open())
        opening.add_done_callback(lambda _: self._tell())
        try:
            await self._until(lambda: opening.done() or not self._sharding.has_waiting)
            if opening.done():
                opening.result()
            return opening.done()
        finally:
            opening.cancel()

    async def _work(self, driver: int, remote: _RemoteDriver) -> None:
        """Until the driver is lost, or nothing is left to take: replicas without work are released, not kept for
        what might come back.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watch: asyncio.Task[None] = group.create_task(remote.watch())
                while self._sharding.has_waiting or self._sharding.num_running(driver):
                    index = self._sharding.take(driver)
                    if index is None:
                        await self._changed.wait()
                    else:
                        self._on_start(self._jobs[index])
                        group.create_task(self._dub(driver, remote, index))
                watch.cancel()
        except* DriverDiedError as errors:
            self._lose(driver, errors.exceptions[0])

    async def _dub(self, driver: int, remote: _RemoteDriver, index: int) -> None:
        outcome = await remote.dub(self._jobs[index])
        self._sharding.finish(driver, index)
        self._settle(index, outcome)

    def _lose(self, driver: int, error: Exception) -> None:
        with log_context(stage="driver", replica=str(driver)):
            log.warning("driver lost videos=%d error=%s", self._sharding.num_running(driver), error)
        for index in self._sharding.lose(driver):
            self._fail(
                index,
                f"a driver must stay alive while it dubs this video; {self._settings.max_losses} drivers were lost "
                f"with it, the last with nothing else to do: {error}; look for the reason in that driver's log",
            )
        self._tell()

    async def _after_start_failure(self, driver: int, num_failures: int, error: Exception) -> None:
        with log_context(stage="driver", replica=str(driver)):
            log.warning("driver did not start failures=%d error=%s", num_failures, error)
        if num_failures < self._settings.max_start_failures:
            return await asyncio.sleep(self._settings.restart_delay_s)
        for index in self._sharding.retire(driver):
            self._fail(index, f"a driver must start to dub this video; none did, the last one with: {error}")
        self._tell()

    def _fail(self, index: int, reason: str) -> None:
        self._settle(index, Outcome(job=self._jobs[index], manifest=None, error=reason))

    def _settle(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self._on_outcome(outcome)
        self._tell()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    def _tell(self) -> None:
        """Wake all that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
