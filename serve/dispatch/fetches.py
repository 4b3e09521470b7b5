"""Fetches the sources of jobs that are given as URLs, before the jobs are run.

A slow server, or one that says nothing, so takes no place from jobs that could run. Every dispatcher fetches for all.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from actors.errors import DubbingError, MediaError
from cluster.config.schema import Config
from cluster.media.sandbox import inspect
from cluster.storage.http import fetch
from cluster.streams import in_own_thread
from serve.dispatch.claim_loop import ClaimLoop, job_context
from serve.dispatch.health import Health
from serve.errors import unexpected
from serve.jobs.api_keys import KeyRing
from serve.jobs.database import until_it_answers
from serve.jobs.following import EventFeed
from serve.jobs.leases import AttemptOutcome, LeaseLostError, Leases
from serve.jobs.tables import Dub, DubState
from serve.settings import ServeSettings
from serve.storage.files import JobFiles
from serve.threads import OWNER, FairThreads

log = logging.getLogger(__name__)


class SourceFetcher:
    """Claims jobs whose source is behind a URL, while there is room for downloads."""

    def __init__(
        self,
        settings: ServeSettings,
        config: Config,
        *,
        leases: Leases,
        files: JobFiles,
        key_ring: KeyRing,
        inspecting: FairThreads,
        feed: EventFeed,
        health: Health,
    ) -> None:
        self._settings = settings
        self._config = config
        self._leases = leases
        self._files = files
        self._key_ring = key_ring
        self._inspecting = inspecting
        self._feed = feed
        self._health = health
        self._running: dict[str, asyncio.Task[None]] = {}
        self._loop = ClaimLoop(files=files, health=health, poll_s=settings.poll_s)
        self.on_fetched: Callable[[], None] = lambda: None
        """Called when a job may be run."""

    def wake(self) -> None:
        """Claim now, because there is a new job."""
        self._loop.wake()

    def cancel(self, dub_id: str) -> None:
        """Stop a download if it runs here. Another dispatcher hears of it when it renews its lease."""
        if dub_id in self._running:
            self._running[dub_id].cancel()

    async def claim_forever(self) -> None:
        try:
            await self._loop.run(
                lambda: len(self._running) < self._settings.max_fetches,
                self._claim,
                self._start,
            )
        finally:
            tasks = tuple(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _claim(self) -> Dub | None:
        return await self._leases.claim_fetch(self._settings.max_fetches_per_key, under_way=tuple(self._running))

    def _start(self, dub: Dub) -> None:
        task = asyncio.create_task(self._run_leased(dub), name=f"fetch {dub.id}")
        self._running[dub.id] = task
        task.add_done_callback(lambda task: self._ended(dub.id, task))

    def _ended(self, dub_id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(dub_id, None)
        self._loop.wake()
        self._health.note_end(task)

    async def _run_leased(self, dub: Dub) -> None:
        """Fetch the source of a job for as long as the job is held."""
        with job_context(dub):
            fetching = asyncio.create_task(self._fetch(dub))
            try:
                while not fetching.done():
                    await asyncio.wait([fetching], timeout=self._settings.lease_s / 3)
                    if not fetching.done() and not await until_it_answers(lambda: self._leases.renew([dub.id])):
                        log.info("download stopped, the job was cancelled or is fetched elsewhere")
                        return
                await self._finish(dub, fetching)
            except asyncio.CancelledError:
                await self._leases.release(dub.id)  # does nothing for a job that was cancelled
                raise
            finally:
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)

    async def _finish(self, dub: Dub, fetching: asyncio.Task[None]) -> None:
        error = fetching.exception()
        if error is None:
            self.on_fetched()
            return
        if isinstance(error, LeaseLostError):
            log.info("download dropped, the job was cancelled or is fetched elsewhere")
            return
        if isinstance(error, DubbingError):
            log.warning("source not fetched error=%s", error.message)
            reason = error.message
        else:
            log.error("source not fetched", exc_info=error)
            reason = unexpected(error)
        outcome = AttemptOutcome(state=DubState.FAILED, error=reason, event={"error": reason})
        try:
            await until_it_answers(lambda: self._leases.finish(dub.id, outcome))
        except LeaseLostError:
            return
        self._feed.notify(dub.id)

    async def _fetch(self, dub: Dub) -> None:
        """Fetch, check and keep the source. Raises DubbingError, LeaseLostError."""
        if dub.num_attempts > self._settings.max_attempts:
            raise MediaError(
                f"a source must not end its dispatcher; {dub.num_attempts - 1} dispatchers died while it was fetched"
            )
        assert dub.source_url is not None
        path = self._files.paths.source(dub.id)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        aside = path.with_name(f"source.{dub.lease_owner}")
        try:
            await fetch(dub.source_url, aside, self._config.fetch)
            OWNER.set(dub.owner)
            info = await self._inspecting.run(inspect, aside, self._config.media)
            num_bytes = (await asyncio.to_thread(aside.stat)).st_size
            await in_own_thread(lambda: self._files.publish(aside, path), "keep source")
        except MediaError as error:
            raise MediaError(error.message.replace(str(aside), "the file at the URL")) from error
        finally:
            await asyncio.to_thread(aside.unlink, missing_ok=True)
            await asyncio.to_thread(self._files.release, dub.id)
        limits = self._key_ring.limits_of(dub.owner)
        await until_it_answers(functools.partial(self._leases.note_fetched, dub, info.duration_s, num_bytes, limits))
