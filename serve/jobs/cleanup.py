"""Removes old rows from the database: events, delivered webhooks, deleted jobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from sqlalchemy import delete, or_, select, text

from serve.errors import ConflictError, NotFoundError
from serve.ids import made_s
from serve.jobs.database import Database
from serve.jobs.jobs import Jobs
from serve.jobs.quotas import DAY_S
from serve.jobs.tables import ACTIVE, Charge, Delivery, Dub, Event, Stray

LOOK_BACK_S = 7 * DAY_S
MAX_ASKED = 500
"""Number of ids in one query."""
MAX_FEW = 5
"""Media without a job that are never too many: uploads that a dying dispatcher had under way."""
_ADD_STRAY = text("INSERT INTO strays (dub_id, seen_s) VALUES (:dub_id, :seen_s) ON CONFLICT DO NOTHING")


async def expired_dubs(database: Database) -> Sequence[str]:
    """Deleted jobs that ``cleanup`` removes next. Their media are deleted again, in case that failed before."""
    async with database.reading() as session:
        return list(await session.scalars(select(Dub.id).where(Dub.deleted_s < time.time() - DAY_S)))


async def delete_old(database: Database, jobs: Jobs, keep_dubs_s: float) -> Sequence[str]:
    """Delete jobs that ended long ago; returns their ids. Their media must be deleted next."""
    query = select(Dub.id, Dub.owner).where(
        Dub.state.not_in(ACTIVE), Dub.deleted_s.is_(None), Dub.updated_s < time.time() - keep_dubs_s
    )
    async with database.reading() as session:
        found = list((await session.execute(query.limit(MAX_ASKED))).all())
    gone = []
    for dub_id, owner in found:
        with contextlib.suppress(ConflictError, NotFoundError):  # made again, or deleted, in the meantime
            await jobs.delete(owner, dub_id)
            gone.append(dub_id)
    return gone


async def without_job(
    database: Database, dub_ids: Sequence[str], after_s: float, grace_s: float
) -> tuple[Sequence[str], int]:
    """Ids that no job has, because a dispatcher died between an upload and the creation of its job.

    Also returns the number of ids that were checked: those made more than ``after_s`` ago, and not long before they
    would be removed after ``grace_s``. Older ones were checked then.
    """
    now_s = time.time()
    oldest_s = after_s + grace_s + LOOK_BACK_S
    candidates = [dub_id for dub_id in dub_ids if after_s < now_s - made_s(dub_id) < oldest_s]
    async with database.reading() as session:
        known = {
            dub_id
            for at in range(0, len(candidates), MAX_ASKED)
            for dub_id in await session.scalars(select(Dub.id).where(Dub.id.in_(candidates[at : at + MAX_ASKED])))
        }
    return [dub_id for dub_id in candidates if dub_id not in known], len(candidates)


def are_too_many(num_strays: int, num_checked: int, max_share: float) -> bool:
    """True if so many media have no job that the database is probably not theirs."""
    return num_strays > max(MAX_FEW, max_share * num_checked)


async def note_strays(database: Database, dub_ids: Sequence[str], grace_s: float) -> Sequence[str]:
    """Store these ids as those without a job; returns those that were for longer than ``grace_s``."""
    now_s = time.time()
    async with database.transaction() as session:
        seen = {stray.dub_id: stray.seen_s for stray in await session.scalars(select(Stray))}
        if gone := seen.keys() - set(dub_ids):
            await session.execute(delete(Stray).where(Stray.dub_id.in_(gone)))
        for dub_id in dub_ids:
            await session.execute(_ADD_STRAY, {"dub_id": dub_id, "seen_s": now_s})
    return [dub_id for dub_id in dub_ids if now_s - seen.get(dub_id, now_s) >= grace_s]


async def cleanup(database: Database, *, keep_events_s: float, webhook_attempts: int) -> int:
    """Remove old rows; returns the number of events removed. The numbers of later events continue as before."""
    long_ago_s = time.time() - keep_events_s
    old = select(Dub.id).where(Dub.state.not_in(ACTIVE), Dub.updated_s < long_ago_s)
    is_over = or_(Delivery.delivered_s.is_not(None), Delivery.num_attempts >= webhook_attempts)
    async with database.transaction() as session:
        gone = await session.execute(delete(Event).where(Event.dub_id.in_(old)).returning(Event.number))
        await session.execute(delete(Delivery).where(is_over, Delivery.due_s < long_ago_s))
        await session.execute(delete(Charge).where(Charge.charged_s < time.time() - 2 * DAY_S))
        await session.execute(delete(Dub).where(Dub.deleted_s < time.time() - DAY_S))
        return len(gone.all())
