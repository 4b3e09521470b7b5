"""What the database need not remember for ever: events long past, webhooks long over, jobs long deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import delete, or_, select

from serve.database import Database
from serve.ids import made_s
from serve.jobs import DAY_S
from serve.tables import ACTIVE, Delivery, Dub, Event

LOOK_BACK_S = 7 * DAY_S
MAX_ASKED = 500
"""Ids in one query."""


async def long_deleted(database: Database) -> Sequence[str]:
    """Jobs that ``tidy`` forgets next. What could not be removed of their media at the time can be now."""
    async with database.transaction() as session:
        return list(await session.scalars(select(Dub.id).where(Dub.deleted_s < time.time() - DAY_S)))


async def without_job(database: Database, dub_ids: Sequence[str], after_s: float) -> Sequence[str]:
    """Those whose job never came to be, for its dispatcher died before: made longer ago than ``after_s``, and within
    the days before, for others were looked at then.
    """
    now_s = time.time()
    looked_at = [dub_id for dub_id in dub_ids if after_s < now_s - made_s(dub_id) < after_s + LOOK_BACK_S]
    async with database.transaction() as session:
        known = {
            dub_id
            for at in range(0, len(looked_at), MAX_ASKED)
            for dub_id in await session.scalars(select(Dub.id).where(Dub.id.in_(looked_at[at : at + MAX_ASKED])))
        }
    return [dub_id for dub_id in looked_at if dub_id not in known]


async def tidy(database: Database, *, keep_events_s: float, webhook_attempts: int) -> int:
    """Number of events removed. Numbers of later ones go on from where they were."""
    long_ago_s = time.time() - keep_events_s
    old = select(Dub.id).where(Dub.state.not_in(ACTIVE), Dub.updated_s < long_ago_s)
    is_over = or_(Delivery.delivered_s.is_not(None), Delivery.num_attempts >= webhook_attempts)
    async with database.transaction() as session:
        gone = await session.execute(delete(Event).where(Event.dub_id.in_(old)).returning(Event.number))
        await session.execute(delete(Delivery).where(is_over, Delivery.due_s < long_ago_s))
        # Until then they count against their owner's quota.
        await session.execute(delete(Dub).where(Dub.deleted_s < time.time() - DAY_S))
        return len(gone.all())
