"""Finished dubs of one owner, with their speed and quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from serve.jobs.database import Database
from serve.jobs.tables import Dub, DubState, Event

GOOD_LINES = "good_lines"
"""Share of a dub's lines that nobody need look at; the other measures are those of ``cluster.quality``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDub:
    """A dub as it was first made: what is made again comes from the store for the most part, and tells no speed."""

    id: str
    name: str
    duration_s: float
    realtime: float
    """Seconds of media dubbed per second of wall time."""
    quality: Mapping[str, float]
    """By measure: the mean over its lines."""


async def finished_dubs(database: Database, owner: str, limit: int) -> list[MadeDub]:
    """The latest dubs of an owner that were made once and have lines, newest first."""
    query = (
        select(Dub.id, Dub.name, Dub.duration_s, Dub.verdict, Event.data)
        .join(Event, (Event.dub_id == Dub.id) & (Event.number == Dub.num_events))
        .where(Dub.owner == owner, Dub.state == DubState.DONE, Dub.deleted_s.is_(None))
        .where(Dub.revision == 1, Event.kind == DubState.DONE.value)
        .order_by(Dub.id.desc())
        .limit(limit)
    )
    async with database.reading() as session:
        rows = (await session.execute(query)).all()
    found = []
    for dub_id, name, duration_s, verdict, data in rows:
        if verdict is None or not verdict["num_lines"] or duration_s is None:
            continue
        quality = {GOOD_LINES: 1 - verdict["flagged_share"], **data.get("quality", {})}
        speed = data["realtime_factor"]
        found.append(MadeDub(id=dub_id, name=name, duration_s=duration_s, realtime=speed, quality=quality))
    return found
