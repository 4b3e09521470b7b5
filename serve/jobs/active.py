"""Counts the dubs that wait or run, of all owners and dispatchers."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import case, func, select

from serve.jobs.database import Database
from serve.jobs.tables import ACTIVE, Dub, DubState


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveDubs:
    """Numbers of dubs that have not ended."""

    queued: int = 0
    fetching: int = 0
    """Queued, but their source is not in the data folder yet."""
    running: int = 0
    abandoned: int = 0
    """Running, but their lease has ended: their dispatcher is gone."""
    oldest_wait_s: float = 0.0
    """Wait of the queued dub that waits longest."""


async def count_active(database: Database) -> ActiveDubs:
    state = case(
        ((Dub.state == DubState.QUEUED) & Dub.is_fetched, "queued"),
        (Dub.state == DubState.QUEUED, "fetching"),
        (Dub.lease_until_s >= database.now_s, "running"),
        else_="abandoned",
    ).label("standing")
    is_active = (Dub.state.in_(ACTIVE), Dub.deleted_s.is_(None))
    query = select(state, func.count(), func.min(Dub.updated_s)).where(*is_active).group_by("standing")
    numbers: Counter[str] = Counter()
    oldest_wait_s = 0.0
    async with database.reading() as session:
        for name, number, oldest_s in await session.execute(query):
            numbers[name] = number
            if name == "queued":
                oldest_wait_s = max(0.0, time.time() - oldest_s)
    return ActiveDubs(**numbers, oldest_wait_s=oldest_wait_s)
