"""What the database need not remember for ever: events long past, webhooks long over, jobs long deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import delete, or_, select

from serve.database import Database
from serve.jobs import DAY_S
from serve.tables import ACTIVE, Delivery, Dub, Event


async def long_deleted(database: Database) -> Sequence[str]:
    """Jobs that ``tidy`` forgets next. What could not be removed of their media at the time can be now."""
    async with database.transaction() as session:
        return list(await session.scalars(select(Dub.id).where(Dub.deleted_s < time.time() - DAY_S)))


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
