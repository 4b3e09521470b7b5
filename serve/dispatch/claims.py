"""Claims jobs from the database and runs them. Every dispatcher claims from the same jobs; see jobs/leases.py."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from dataclasses import dataclass
from enum import Enum, auto

from actors.errors import DubbingError, first_of
from serve import metrics
from serve.dispatch.attempt import DubAttempts, SourceGoneError
from serve.dispatch.claim_loop import ClaimLoop, job_context
from serve.dispatch.fetches import SourceFetcher
from serve.dispatch.health import Health
from serve.errors import unexpected
from serve.jobs.database import UNREACHABLE, until_it_answers
from serve.jobs.events import Recorder
from serve.jobs.following import EventFeed
from serve.jobs.jobs import Jobs
from serve.jobs.leases import AttemptOutcome, LeaseLostError, Leases
from serve.jobs.tables import Dub, DubState
from serve.settings import ServeSettings
from serve.storage.bucket import BucketError
from serve.storage.files import JobFiles

log = logging.getLogger(__name__)


class StopReason(Enum):
    """The reason to stop a running job in this dispatcher."""

    CANCELLED = auto()
    LEASE_LOST = auto()
    HANDED_ON = auto()


@dataclass(slots=True, eq=False)
class _RunningJob:
    task: asyncio.Task[None]
    owner: str
    stop_reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        if self.stop_reason is None:
            self.stop_reason = reason
            self.task.cancel()


class JobRunner:
    """Claims jobs while there is room for them, and runs each until it ends or must stop here."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        max_jobs: int,
        leases: Leases,
        jobs: Jobs,
        files: JobFiles,
        attempts: DubAttempts,
        fetcher: SourceFetcher,
        feed: EventFeed,
        health: Health,
    ) -> None:
        self._settings = settings
        self._max_jobs = max_jobs
        self._leases = leases
        self._jobs = jobs
        self._files = files
        self._attempts = attempts
        self._fetcher = fetcher
        self._feed = feed
        self._health = health
        self._running: dict[str, _RunningJob] = {}
        self._loop = ClaimLoop(files=files, health=health, poll_s=settings.poll_s)
        self._resumes_s = 0.0
        fetcher.on_fetched = self._loop.wake

    @property
    def num_running(self) -> int:
        """Jobs that run here."""
        return len(self._running)

    @property
    def _barred(self) -> set[str]:
        """Owners whose jobs are not claimed now: the places beyond ``max_jobs`` are for those who have no job here."""
        is_full = len(self._running) >= self._max_jobs
        return {running.owner for running in self._running.values()} if is_full else set()

    async def load(self) -> dict[str, float]:
        """The dubs ``running`` here and ``waiting`` for any dispatcher, as numbers of dispatchers to keep busy."""
        try:
            num_waiting = await self._jobs.num_queued()
        except UNREACHABLE:
            num_waiting = 0
        return {"running": len(self._running) / self._max_jobs, "waiting": num_waiting / self._max_jobs}

    def wake(self, new: Dub) -> None:
        """Claim now, because there is a new job, if its owner's may be claimed."""
        if not new.is_fetched:
            self._fetcher.wake()
        elif new.owner not in self._barred:
            self._loop.wake()

    def cancel(self, dub_id: str) -> None:
        """Stop a job if it runs here. Another dispatcher hears of it when it renews its lease."""
        self._fetcher.cancel(dub_id)
        if dub_id in self._running:
            self._running[dub_id].stop(StopReason.CANCELLED)

    async def claim_forever(self) -> None:
        await self._loop.run(
            lambda: len(self._running) < self._max_jobs + self._settings.guest_dubs,
            self._claim,
            lambda claimed: self._start(*claimed),
        )

    async def renew_forever(self) -> None:
        """Renew the leases of running jobs, and stop jobs whose lease is lost or whose owner has cancelled them."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            ids = list(self._running)
            if not ids:
                continue
            held = {lease.dub_id: lease for lease in await until_it_answers(functools.partial(self._leases.renew, ids))}
            for dub_id in ids:
                running = self._running.get(dub_id)
                if running is None:
                    continue
                if dub_id not in held:
                    running.stop(StopReason.LEASE_LOST)
                elif held[dub_id].cancel_requested:
                    running.stop(StopReason.CANCELLED)

    async def drain(self) -> None:
        """Give running jobs ``drain_s`` to finish, then hand the others on."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.drain_s)
        for running in tuple(self._running.values()):
            running.stop(StopReason.HANDED_ON)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _claim(self) -> tuple[Dub, tuple[str, ...]] | None:
        """The next job. After an outage of the database, running jobs of others are left alone for one lease.

        Their dispatchers could not renew their leases during the outage.
        """
        try:
            return await self._leases.claim(
                resume=time.monotonic() > self._resumes_s, under_way=tuple(self._running), not_of=self._barred
            )
        except UNREACHABLE:
            self._resumes_s = time.monotonic() + self._settings.lease_s
            raise

    def _start(self, dub: Dub, languages: tuple[str, ...]) -> None:
        task = asyncio.create_task(self._run_leased(dub, languages), name=dub.id)
        self._running[dub.id] = _RunningJob(task=task, owner=dub.owner)
        task.add_done_callback(lambda task: self._ended(dub.id, task))

    def _ended(self, dub_id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(dub_id, None)
        self._loop.wake()
        self._health.note_end(task)

    async def _run_leased(self, dub: Dub, languages: tuple[str, ...]) -> None:
        """Run a job until it is done, failed, or must stop here."""
        with job_context(dub):
            try:
                outcome = await self._attempt(dub, languages)
            except LeaseLostError:
                metrics.lease_lost()
                log.warning("lease lost, stopped")
                return
            except SourceGoneError:
                log.warning("source gone, to be fetched again")
                await until_it_answers(functools.partial(self._leases.release, dub.id, is_fetched=False))
                self._fetcher.wake()
                return
            except asyncio.CancelledError:
                reason = self._running[dub.id].stop_reason
                if reason is StopReason.LEASE_LOST:
                    metrics.lease_lost()
                    log.warning("lease lost, stopped")
                    return
                if reason is not StopReason.CANCELLED:
                    log.info("handed on to another dispatcher")
                    await self._leases.release(dub.id)
                    return
                outcome = AttemptOutcome(state=DubState.CANCELLED, event={})
            await self._finish(dub.id, outcome)

    async def _attempt(self, dub: Dub, languages: tuple[str, ...]) -> AttemptOutcome:
        if dub.cancel_requested:
            return AttemptOutcome(state=DubState.CANCELLED, event={})
        if dub.num_attempts > self._settings.max_attempts:
            return _failed(f"a dub must not end its dispatcher; {dub.num_attempts - 1} dispatchers died while it ran")
        try:
            async with Recorder(dub, self._leases, self._files, self._feed) as recorder:
                recorder.record("started", attempt=dub.num_attempts, revision=dub.revision + 1)
                return await self._attempts.run(dub, languages, recorder)
        except (LeaseLostError, SourceGoneError):
            raise
        except Exception as error:
            reason = first_of(error)
            if isinstance(reason, DubbingError):
                log.warning("dub failed error=%s", reason.message)
                return _failed(self._files.paths.without_paths(dub.id, dub.name, reason.message))
            log.exception("dub failed")
            return _failed(unexpected(reason))

    async def _finish(self, dub_id: str, outcome: AttemptOutcome) -> None:
        try:
            await until_it_answers(lambda: self._leases.finish(dub_id, outcome))
        except LeaseLostError:
            metrics.lease_lost()
            log.warning("lease lost, its result is dropped")
            return
        with contextlib.suppress(BucketError):  # the next attempt, or the deletion, tries again
            if outcome.output is not None:
                await asyncio.to_thread(self._files.remove_other_attempts, dub_id, outcome.output)
            num_bytes = await asyncio.to_thread(self._files.stored_bytes, dub_id)
            await until_it_answers(lambda: self._jobs.note_bytes(dub_id, num_bytes))
        log.info("%s", outcome.state.value)
        self._feed.notify(dub_id)


def _failed(message: str) -> AttemptOutcome:
    return AttemptOutcome(state=DubState.FAILED, error=message, event={"error": message})
