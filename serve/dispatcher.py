"""One process that dubs for the service: it owns pools, takes jobs as it has room, and hands them on when it stops.

Every dispatcher takes jobs from the same database, whoever accepted them; see leases.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np

from actors.errors import DubbingError, EngineError, ItemError, first_of
from actors.types import ASR_HZ, PlanRequest, TranscribeRequest, TranslateRequest
from cluster.caching import fresh
from cluster.config import Config
from cluster.logs import log_context
from cluster.pools import Pools, speech_stage
from serve.auth import KeyRing
from serve.bucket import BucketError
from serve.database import UNREACHABLE, Database, until_it_answers
from serve.events import Bells, Recorder
from serve.files import JobFiles, open_files
from serve.inference import Inference
from serve.jobs import Jobs
from serve.leases import LeaseLostError, Leases, Outcome
from serve.settings import ServeSettings
from serve.tables import Dub, DubState
from serve.tidying import long_deleted, tidy, without_job
from serve.webhooks import Webhooks
from serve.work import Work

log = logging.getLogger(__name__)

LOAD_AGAIN_S = 2.0
TIDY_EVERY_S = 3600.0
CHECK_EVERY_S = 2.0
LET_GO_S = 4 * CHECK_EVERY_S
"""Without being asked for its health."""
DATABASE_ANSWERS_S = 3.0
"""Within which a database that is there says so."""
_SILENCE = TranscribeRequest(samples=np.zeros(ASR_HZ, np.float32), language="en")
_GREETING = TranslateRequest(text="Hello.", source_language="en", target_language="pt")


class Health(Enum):
    LOADING = "loading"
    READY = "ready"
    BROKEN = "broken"
    DRAINING = "draining"
    CUT_OFF = "database_unreachable"


class Stop(Enum):
    """Why a job that is under way is stopped here."""

    CANCELLED = auto()
    LOST = auto()
    HANDED_ON = auto()


@dataclass(slots=True, eq=False)
class _Running:
    task: asyncio.Task[None]
    stop: Stop | None = None

    def stop_for(self, reason: Stop) -> None:
        if self.stop is None:
            self.stop = reason
            self.task.cancel()


class Dispatcher:
    """Use as ``async with dispatcher.running()``; what it offers to routes is there inside the block."""

    database: Database
    files: JobFiles
    jobs: Jobs
    ring: KeyRing
    pools: Pools
    inference: Inference

    def __init__(self, settings: ServeSettings, configs: Mapping[str | None, Config]) -> None:
        self.settings = settings
        self.configs = configs
        """By the profile a request names; None for one that names none."""
        self.bells = Bells()
        self.health = Health.LOADING
        self._database_answers = True
        self._failure: BaseException | None = None
        self._running: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        self._holder = uuid.uuid4().hex
        self._checked_s: float | None = None
        self._resumes_s = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Raises ConfigError if the database or the data folder cannot be used."""
        async with AsyncExitStack() as stack:
            self.files = await asyncio.to_thread(stack.enter_context, open_files(self.settings))
            self.database = await stack.enter_async_context(Database.open(self.settings.database))
            self.jobs = Jobs(self.database, self.settings.max_queued_dubs)
            self.ring = KeyRing(self.settings, self.database)
            self._leases = Leases(database=self.database, holder=self._holder, lease_s=self.settings.lease_s)
            self.pools = await stack.enter_async_context(Pools(self.config))
            self.inference = Inference(self.config, self.pools, self.settings.inference)
            work = Work(self.configs, self.files, self.jobs, self.pools)
            tasks = [
                self._start(self._warm()),
                self._start(self._claim_forever(work)),
                self._start(self._renew_forever()),
                self._start(self._tidy_forever()),
                self._start(self._watch_database()),
                self._start(Webhooks(self.settings, self.config.fetch, self.database).deliver_forever()),
            ]
            try:
                yield
            finally:
                await self._drain()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def config(self) -> Config:
        return self.configs[None]

    @property
    def readiness(self) -> Health:
        """Whether new requests are well sent here. Looked up, never waited for."""
        is_cut_off = self.health is Health.READY and not self._database_answers
        return Health.CUT_OFF if is_cut_off else self.health

    @property
    def num_running(self) -> int:
        return len(self._running)

    async def work(self) -> dict[str, float]:
        """Dubs ``running`` here and ``waiting`` for any dispatcher, each in dispatchers that they would keep busy."""
        try:
            num_waiting = await self.jobs.num_queued()
        except UNREACHABLE:
            num_waiting = 0
        places = self.config.pipeline.max_videos
        return {"running": self.num_running / places, "waiting": num_waiting / places}

    def check(self) -> None:
        """Raises what ended a part of this dispatcher that must never end: it is to be replaced."""
        if self._failure is not None:
            raise RuntimeError("a dispatcher's own tasks must run as long as it does; one failed") from self._failure

    def note_check(self) -> None:
        """Ray Serve has asked for this dispatcher's health. One that it stops it asks no more."""
        self._checked_s = time.monotonic()

    @property
    def is_leaving(self) -> bool:
        """Being stopped, as far as can be told: no new job, and streams without end are to be followed elsewhere.

        Ray Serve waits for every open request before it says that it stops a replica.
        """
        is_let_go = self._checked_s is not None and time.monotonic() - self._checked_s > LET_GO_S
        return is_let_go or self.health is Health.DRAINING

    def wake(self) -> None:
        """There is a new job."""
        self._wake.set()

    def stop(self, dub_id: str) -> None:
        """Its owner has cancelled it; another dispatcher hears of it when it renews its lease."""
        if dub_id in self._running:
            self._running[dub_id].stop_for(Stop.CANCELLED)

    # --- its own tasks

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._note_failure)
        return task

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatcher failed", exc_info=error)
            self._failure = error
            self.health = Health.BROKEN

    async def _warm(self) -> None:
        """Load the models every job needs, and say so; or that they cannot be."""
        config = self.config
        speech = [speech_stage(config, language) for language in self.settings.warm_languages]
        requests = [
            (await self.pools.get("transcription", config.transcription), _SILENCE),
            (await self.pools.get("translation", config.translation), _GREETING),
            *[
                (await self.pools.get("speech", stage), PlanRequest(text="1", language=language))
                for stage, language in zip(speech, self.settings.warm_languages, strict=True)
            ],
        ]
        while True:
            try:
                for pool, request in requests:
                    # An engine that does not speak these languages is loaded all the same.
                    with fresh(), contextlib.suppress(ItemError):
                        await pool.submit(request)
                break
            except EngineError as error:
                # Its pool goes on trying: what is missing may come back.
                self._set_health(Health.BROKEN)
                log.error("models must load; %s", error.message)
                await asyncio.sleep(LOAD_AGAIN_S)
        self._set_health(Health.READY)
        log.info("ready")

    def _set_health(self, health: Health) -> None:
        if self.health is not Health.DRAINING:
            self.health = health

    async def _claim_forever(self, work: Work) -> None:
        while True:
            has_room = len(self._running) < self.config.pipeline.max_videos and not self.is_leaving
            has_room = has_room and await asyncio.to_thread(self.files.has_room)
            claimed = await until_it_answers(self._claim) if has_room else None
            if claimed is not None:
                self._run(work, *claimed)
                continue
            try:
                async with asyncio.timeout(self.settings.poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _claim(self) -> tuple[Dub, tuple[str, ...]] | None:
        """Once the database is back, others have the time of a lease to renew theirs before any is taken over."""
        try:
            return await self._leases.claim(resume=time.monotonic() > self._resumes_s, under_way=tuple(self._running))
        except UNREACHABLE:
            self._resumes_s = time.monotonic() + self.settings.lease_s
            raise

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.lease_s / 3)
            ids = list(self._running)
            if not ids:
                continue
            held = {one.dub_id: one for one in await until_it_answers(functools.partial(self._leases.renew, ids))}
            for dub_id in ids:
                running = self._running.get(dub_id)
                if running is None:
                    continue
                if dub_id not in held:
                    running.stop_for(Stop.LOST)
                elif held[dub_id].cancel_requested:
                    running.stop_for(Stop.CANCELLED)

    async def _tidy_forever(self) -> None:
        settings = self.settings
        keep_events_s, attempts = settings.keep_events_s, settings.webhook_attempts
        while True:
            try:
                await self._remove_media()
            except BucketError as error:
                log.warning("media not removed, tried again later error=%s", error)
            query = functools.partial(tidy, self.database, keep_events_s=keep_events_s, webhook_attempts=attempts)
            if num_events := await until_it_answers(query):
                log.info("old events removed num_events=%d", num_events)
            await asyncio.sleep(min(TIDY_EVERY_S, keep_events_s))

    async def _remove_media(self) -> None:
        """Of jobs that are deleted, and of those that never came to be. Raises BucketError."""
        there = await asyncio.to_thread(self.files.dub_ids)
        strays = functools.partial(without_job, self.database, there, 2 * self.settings.upload_max_s)
        deleted = functools.partial(long_deleted, self.database)
        for dub_id in (*await until_it_answers(strays), *await until_it_answers(deleted)):
            await asyncio.to_thread(self.files.delete, dub_id)

    async def _watch_database(self) -> None:
        while True:
            answers = await self.database.answers(DATABASE_ANSWERS_S)
            if answers != self._database_answers:
                log.warning("the database %s", "answers again" if answers else "does not answer")
            self._database_answers = answers
            await asyncio.sleep(CHECK_EVERY_S)

    async def _drain(self) -> None:
        self.health = Health.DRAINING
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self.settings.drain_s)
        for running in tuple(self._running.values()):
            running.stop_for(Stop.HANDED_ON)
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- jobs

    def _run(self, work: Work, dub: Dub, languages: tuple[str, ...]) -> None:
        task = asyncio.create_task(self._hold(work, dub, languages), name=dub.id)
        self._running[dub.id] = _Running(task=task)
        task.add_done_callback(lambda task: self._after(dub.id, task))

    def _after(self, dub_id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(dub_id, None)
        self._wake.set()
        self._note_failure(task)

    async def _hold(self, work: Work, dub: Dub, languages: tuple[str, ...]) -> None:
        """Work on a job until it is done, failed, or to be stopped here."""
        with log_context(job=dub.id):
            try:
                outcome = await self._attempt(work, dub, languages)
            except LeaseLostError:
                log.warning("lease lost, stopped")
                return
            except asyncio.CancelledError:
                reason = self._running[dub.id].stop
                if reason is Stop.LOST:
                    log.warning("lease lost, stopped")
                    return
                if reason is not Stop.CANCELLED:
                    log.info("handed on")
                    await self._leases.hand_on(dub.id)
                    return
                outcome = Outcome(state=DubState.CANCELLED, event={})
            await self._finish(dub.id, outcome)

    async def _attempt(self, work: Work, dub: Dub, languages: tuple[str, ...]) -> Outcome:
        if dub.cancel_requested:
            return Outcome(state=DubState.CANCELLED, event={})
        if dub.num_attempts > self.settings.max_attempts:
            return _failed(f"it must leave its dispatcher alive; {dub.num_attempts - 1} were lost with it under way")
        try:
            async with Recorder(dub, self._leases, self.files, self.bells) as recorder:
                recorder.tell("started", attempt=dub.num_attempts, revision=dub.revision + 1)
                return await work.make(dub, languages, recorder)
        except LeaseLostError:
            raise
        except Exception as error:
            reason = first_of(error)
            if isinstance(reason, DubbingError):
                log.warning("dub failed error=%s", reason.message)
                return _failed(self.files.without_paths(dub.id, dub.name, reason.message))
            log.exception("dub failed")
            return _failed(f"unexpected {type(reason).__name__}; the service's log has the traceback")

    async def _finish(self, dub_id: str, outcome: Outcome) -> None:
        try:
            await until_it_answers(lambda: self._leases.finish(dub_id, outcome))
        except LeaseLostError:
            log.warning("lease lost, its result is dropped")
            return
        if outcome.output is not None:
            with contextlib.suppress(BucketError):  # who finishes or deletes it next tries again
                await asyncio.to_thread(self.files.keep_output, dub_id, outcome.output)
        log.info("%s", outcome.state.value)
        self.bells.ring(dub_id)


def _failed(message: str) -> Outcome:
    return Outcome(state=DubState.FAILED, error=message, event={"error": message})
