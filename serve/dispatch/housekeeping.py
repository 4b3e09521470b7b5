"""Removes media and database rows that nothing needs any more."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
from collections.abc import Sequence

from serve.jobs.cleanup import are_too_many, cleanup, delete_old, expired_dubs, note_strays, without_job
from serve.jobs.database import Database, until_it_answers
from serve.jobs.jobs import Jobs
from serve.settings import ServeSettings
from serve.storage.bucket import BucketError
from serve.storage.files import JobFiles

log = logging.getLogger(__name__)

EVERY_S = 3600.0
TRIM_EVERY_S = 60.0


async def clean_up_forever(settings: ServeSettings, database: Database, files: JobFiles) -> None:
    keep_events_s, attempts = settings.keep_events_s, settings.webhook_attempts
    while True:
        try:
            await _remove_media(settings, database, files)
        except BucketError as error:
            log.warning("media not removed, tried again later error=%s", error)
        query = functools.partial(cleanup, database, keep_events_s=keep_events_s, webhook_attempts=attempts)
        if num_events := await until_it_answers(query):
            log.info("old events removed num_events=%d", num_events)
        await asyncio.sleep(min(EVERY_S, keep_events_s))


async def return_memory_forever() -> None:
    """Give memory that is free within the C library's heaps back to the system, where the library can.

    glibc keeps a heap for every few threads, and each keeps the most that it ever held.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(TRIM_EVERY_S)
        await asyncio.to_thread(trim, 0)


async def _remove_media(settings: ServeSettings, database: Database, files: JobFiles) -> None:
    """Remove the media of deleted dubs, and of uploads that never became a dub. Raises BucketError."""
    if settings.keep_dubs_s is not None:
        jobs = Jobs(database, settings.max_queued_dubs)
        for dub_id in await until_it_answers(functools.partial(delete_old, database, jobs, settings.keep_dubs_s)):
            log.info("old dub deleted dub=%s", dub_id)
            await asyncio.to_thread(files.delete, dub_id)
    for dub_id in await until_it_answers(functools.partial(expired_dubs, database)):
        await asyncio.to_thread(files.delete, dub_id)
    for dub_id in await find_strays(settings, database, files):
        log.warning("media without a job removed dub=%s", dub_id)
        await asyncio.to_thread(files.delete, dub_id)


async def find_strays(settings: ServeSettings, database: Database, files: JobFiles) -> Sequence[str]:
    """Ids of media that had no job for long enough to be removed; none if too many have none. Raises BucketError."""
    storage = settings.storage
    dub_ids = await asyncio.to_thread(files.dub_ids)
    find = functools.partial(without_job, database, dub_ids, 2 * settings.upload_max_s, storage.stray_grace_s)
    strays, num_checked = await until_it_answers(find)
    if are_too_many(len(strays), num_checked, storage.max_stray_share):
        log.error(
            "media must have jobs in the database; %d of %d have none, and nothing is removed; check "
            "serve.database_url, or raise serve.storage.max_stray_share if the database lost these jobs",
            len(strays),
            num_checked,
        )
        return []
    return await until_it_answers(functools.partial(note_strays, database, strays, storage.stray_grace_s))
