"""Coordinates a batch over many drivers: looks at the inputs, and gives videos to drivers that have room.

Drivers begin with the first input that was looked at, while others still are: a batch of 100,000 begins as soon as one
of ten. What a video costs here depends neither on the number of videos nor on that of drivers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from actors.errors import MediaError
from cluster.batch import ledger
from cluster.batch.drivers import DriverDiedError, DriverStartError, DriverStuckError, RemoteDriver
from cluster.batch.inputs import look_at_input
from cluster.batch.items import ItemJobs
from cluster.batch.ledger import ItemStatus
from cluster.batch.room import check_room, driver_need, needs_of_jobs
from cluster.batch.sharding import Sharding
from cluster.config.schema import Config
from cluster.logs import log_context
from cluster.media import sandbox
from cluster.pipeline import Job
from cluster.pools.needs import Need
from cluster.pools.stats import RoomWait
from cluster.pools.waiting import WaitLog

log = logging.getLogger(__name__)

MAX_LOOKS = 8
"""Inputs that are looked at at a time."""
FIRST_AHEAD, AHEAD = (64, 2), (1_000, 8)
"""Inputs that are looked at ahead of the drivers: at least so many, and so many times what the drivers hold at a time.
Few until the first video is done, which would share this machine with the looks. Then enough that each driver's last
videos are short ones."""
CLOSED = 1_000_000
"""Rank of a driver that is not open: videos go to open ones first."""


def _ignore(_: object) -> None:
    return None


def _always(_: object) -> bool:
    return True


async def run_sharded(
    jobs: Sequence[Job],
    config: Config,
    num_drivers: int,
    on_end: Callable[[ItemStatus], None],
    on_start: Callable[[Job], None] = _ignore,
    on_waits: Callable[[Sequence[RoomWait]], None] = _ignore,
    is_wanted: Callable[[Job], bool] = _always,
) -> None:
    """Dub every job on ``num_drivers`` drivers, ``pipeline.max_videos`` at a time on each.

    Inputs are looked at in their order: jobs of higher priority should come first.
    ``is_wanted`` is called in threads, and tells whether a job must be dubbed at all. ``on_end`` is called with the
    status of each that was, as it comes; ``on_start`` with each job that a driver starts, again if another driver has
    to; ``on_waits`` with what the cluster has no room for, again and again while it waits. Ray must be connected. On
    cancellation, every driver ends and partial results are removed. Raises ConfigError if the cluster can never hold a
    driver and one replica of each pool.
    """
    if num_drivers < 1:
        raise ValueError(f"num_drivers must be at least 1, found {num_drivers}")
    coordinator = _Coordinator(jobs, config, num_drivers, on_end, on_start, on_waits)
    looking = asyncio.create_task(coordinator.look_at_inputs(is_wanted), name="look at inputs")
    try:
        if await coordinator.has_work():
            kinds = jobs.one_of_each_kind() if isinstance(jobs, ItemJobs) else jobs
            needs = [driver_need(config), *([] if config.ray.mode == "inline" else needs_of_jobs(kinds, config))]
            await check_room(needs)
            async with asyncio.TaskGroup() as group:
                for driver in range(num_drivers):
                    group.create_task(coordinator.drive(driver, needs), name=f"driver {driver}")
        await looking
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


class _Wakeups:
    """Wakes tasks that wait for a change: one of those that could do something, or all. Each has a number."""

    def __init__(self, num_tasks: int) -> None:
        self._events = [asyncio.Event() for _ in range(num_tasks)]
        self._hungry: dict[int, set[int]] = {}
        """Tasks that could take a video, by their rank: those of the lowest come first."""

    def wake(self, task: int) -> None:
        self._events[task].set()

    def wake_all(self) -> None:
        for event in self._events:
            event.set()

    def wake_hungry(self) -> None:
        """Wake one of those that could take a video; it wakes the next one."""
        if self._hungry:
            self.wake(next(iter(self._hungry[min(self._hungry)])))

    async def wait(self, task: int, hungry: int | None = None) -> None:
        """Return at once if there was a change since the last call. ``hungry`` is the rank of one that is."""
        if hungry is not None:
            self._hungry.setdefault(hungry, set()).add(task)
        try:
            await self._events[task].wait()
        finally:
            if hungry is not None:
                self._hungry[hungry].discard(task)
                if not self._hungry[hungry]:
                    del self._hungry[hungry]
        self._events[task].clear()


class _Coordinator:
    """Keeps the drivers up, gives them videos, and passes on what became of these."""

    def __init__(
        self,
        jobs: Sequence[Job],
        config: Config,
        num_drivers: int,
        on_end: Callable[[ItemStatus], None],
        on_start: Callable[[Job], None],
        on_waits: Callable[[Sequence[RoomWait]], None],
    ) -> None:
        self._jobs = jobs
        self._queued: dict[int, Job] = {}
        """Jobs that were looked at and have not ended."""
        self._config = config
        self._settings = config.drivers
        self._sharding = Sharding([], num_drivers, config.pipeline.max_videos, self._settings.max_losses)
        self._on_end = on_end
        self._on_start = on_start
        self._on_waits = on_waits
        self._waits: dict[int, tuple[RoomWait, ...]] = {}
        """Waits of the drivers that have any."""
        self._wait_logs = [WaitLog(f"driver {driver} is ") for driver in range(num_drivers)]
        self._num_failures = [0] * num_drivers
        self._last_failure = ""
        self._num_at_once = num_drivers * config.pipeline.max_videos
        self._ahead = FIRST_AHEAD
        self._taken = asyncio.Event()
        """Set when a video was taken."""
        self._has_looked = False
        """True once every input was looked at."""
        self._wakeups = _Wakeups(num_drivers + 1)

    # --- inputs

    async def look_at_inputs(self, is_wanted: Callable[[Job], bool]) -> None:
        """Look at each input, in order, and queue what must be dubbed."""
        sandbox.start()
        order = iter(range(len(self._jobs)))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(MAX_LOOKS):
                    group.create_task(self._look(order, is_wanted))
        finally:
            self._has_looked = True
            self._wakeups.wake_all()

    async def _look(self, order: Iterator[int], is_wanted: Callable[[Job], bool]) -> None:
        for index in order:
            await self._wait_for_need()
            job = self._jobs[index]
            if is_wanted is not _always and not await asyncio.to_thread(is_wanted, job):
                continue
            try:
                duration_s = await look_at_input(job, self._config)
            except MediaError as error:
                self._on_end(ledger.failed(job, error.message))
                continue
            self._queued[index] = job
            if self._sharding.has_drivers:
                self._sharding.add(index, duration_s, job.priority)
                self._wakeups.wake_hungry()
            else:
                self._abandon(index)

    async def _wait_for_need(self) -> None:
        """Wait while more inputs were looked at than drivers will soon ask for."""
        while self._sharding.num_waiting >= max(self._ahead[0], self._ahead[1] * self._num_at_once):
            self._taken.clear()
            await self._taken.wait()

    async def has_work(self) -> bool:
        """Wait until a video needs a driver; False once none can any more."""
        return await self._has_work(len(self._num_failures))

    # --- drivers

    async def drive(self, driver: int, needs: Sequence[Need]) -> None:
        """Keep one driver up while there is work for it, as long as it can be started."""
        while self._num_failures[driver] < self._settings.max_start_failures and await self._has_work(driver):
            remote = RemoteDriver(self._config, needs)
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

    @property
    def _is_over(self) -> bool:
        return self._has_looked and self._sharding.is_done

    async def _has_work(self, task: int) -> bool:
        """Wait until a video needs a driver; False once all are done. A running video may yet be requeued."""
        while not self._sharding.has_waiting and not self._is_over:
            await self._wakeups.wait(task, hungry=CLOSED)
        return not self._is_over

    async def _open(self, driver: int, remote: RemoteDriver) -> bool:
        """Open the driver; False if no video needed it any more, which may happen while a full cluster has no room."""
        opening = asyncio.create_task(
            remote.open(
                lambda wait: self._note_waits(driver, () if wait is None else (wait,)),
                lambda: self._sharding.has_others(driver),
            )
        )
        opening.add_done_callback(lambda _: self._wakeups.wake(driver))
        try:
            while not opening.done() and self._may_need_drivers:
                await self._wakeups.wait(driver)
            if opening.done():
                opening.result()
            return opening.done()
        finally:
            opening.cancel()

    @property
    def _may_need_drivers(self) -> bool:
        return self._sharding.has_waiting or not self._has_looked

    def _note_waits(self, driver: int, waits: tuple[RoomWait, ...]) -> None:
        had = self._waits.pop(driver, ())
        self._wait_logs[driver].note(waits)
        if waits:
            self._waits[driver] = waits
        if waits or had:
            self._on_waits([wait for each in self._waits.values() for wait in each])

    async def _work(self, driver: int, remote: RemoteDriver) -> None:
        """Give the driver videos until it is lost, or none is left.

        It is not kept for videos that might be requeued, so that its replicas are released. Raises DriverStartError if
        the driver has room for a part of its replicas only.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watch: asyncio.Task[None] = group.create_task(
                    remote.watch(lambda state: self._note_waits(driver, state.waits))
                )
                while self._may_need_drivers or self._sharding.num_running(driver):
                    index = self._sharding.take(driver)
                    if index is None:
                        await self._wait_for_video(driver)
                    else:
                        self._start(driver, remote, index, group)
                watch.cancel()
        except* DriverDiedError as errors:
            self._handle_loss(driver, errors.exceptions[0])
        except* DriverStuckError as errors:
            self._sharding.requeue(driver)
            self._wakeups.wake_all()
            raise DriverStartError(str(errors.exceptions[0])) from errors.exceptions[0]

    async def _wait_for_video(self, driver: int) -> None:
        has_room = not self._sharding.is_full(driver)
        await self._wakeups.wait(driver, hungry=self._sharding.num_running(driver) if has_room else None)

    def _start(self, driver: int, remote: RemoteDriver, index: int, group: asyncio.TaskGroup) -> None:
        self._taken.set()
        self._on_start(self._queued[index])
        group.create_task(self._dub(driver, remote, index))
        if self._sharding.has_waiting:
            self._wakeups.wake_hungry()
        elif not self._may_need_drivers:
            self._wakeups.wake_all()  # drivers that are still being opened, or have nothing left to do

    async def _dub(self, driver: int, remote: RemoteDriver, index: int) -> None:
        status = await remote.dub(self._queued[index])
        del self._queued[index]
        self._sharding.finish(driver, index)
        self._num_failures[driver] = 0
        self._ahead = AHEAD
        self._on_end(status)
        if self._is_over:
            self._wakeups.wake_all()
        else:
            self._wakeups.wake(driver)

    # --- failures

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
        self._wakeups.wake_all()

    async def _after_start_failure(self, driver: int, error: Exception) -> None:
        num_failures = self._num_failures[driver] = self._num_failures[driver] + 1
        with log_context(stage="driver", replica=str(driver)):
            log.warning("driver did not start failures=%d error=%s", num_failures, error)
        if num_failures < self._settings.max_start_failures:
            return await asyncio.sleep(self._settings.restart_delay_s)
        self._last_failure = str(error)
        for index in self._sharding.retire(driver):
            self._abandon(index)
        self._taken.set()
        self._wakeups.wake_all()

    def _abandon(self, index: int) -> None:
        self._fail(index, f"a driver must start to dub this video; none did; the last error was: {self._last_failure}")

    def _fail(self, index: int, reason: str) -> None:
        self._on_end(ledger.failed(self._queued.pop(index), reason))
