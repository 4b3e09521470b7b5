"""Limits of each owner: dubs at a time, stored bytes, and media a day, by a ledger that nothing is taken out of."""

from __future__ import annotations

import time

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from actors.errors import CapacityError
from serve.errors import ServiceFullError
from serve.ids import new_dub_id
from serve.jobs.database import Database
from serve.jobs.tables import ACTIVE, Charge, Dub, DubState
from serve.settings import KeyLimits

DAY_S = 24 * 3600.0
RETRY_WHEN_FULL_S = 30.0
RETRY_NEXT_DAY_S = 3600.0
LOCK = 7_208_114
"""PostgreSQL's number of the locks on owners: any number that is the same in every process."""


async def lock_owner(database: Database, session: AsyncSession, owner: str) -> None:
    """Wait until no other transaction checks or uses this owner's limits, until the end of this one."""
    if database.is_postgres:
        query = text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, :lock))")
        await session.execute(query, {"owner": owner, "lock": LOCK})
    else:
        # A statement that writes holds SQLite's only lock for writers, whatever it finds.
        await session.execute(delete(Charge).where(Charge.charged_s < time.time() - 2 * DAY_S))


async def charge(
    session: AsyncSession, database: Database, owner: str, dub_id: str, media_s: float, limits: KeyLimits
) -> None:
    """Count media against the owner's day, whose lock is held. Raises CapacityError if there is not as much left."""
    used_s = await _used_s(session, database, owner)
    if used_s + media_s > limits.media_s_per_day:
        raise _no_more_today(used_s, f"{media_s:.0f} s", limits)
    if media_s > 0:
        session.add(Charge(id=new_dub_id(), owner=owner, dub_id=dub_id, media_s=media_s, charged_s=database.now_s))


async def check_day(session: AsyncSession, database: Database, owner: str, limits: KeyLimits) -> None:
    """Raise CapacityError if nothing is left of the owner's day, before media of unknown length."""
    used_s = await _used_s(session, database, owner)
    if used_s >= limits.media_s_per_day:
        raise _no_more_today(used_s, "more", limits)


async def check_bytes(session: AsyncSession, owner: str, limits: KeyLimits, more_bytes: int) -> None:
    """Raise CapacityError if the owner's dubs would take more than the limit."""
    query = select(func.coalesce(func.sum(Dub.stored_bytes), 0)).where(Dub.owner == owner, Dub.deleted_s.is_(None))
    used = int((await session.execute(query)).scalar_one())
    if used + more_bytes > limits.max_stored_bytes:
        raise CapacityError(
            f"a key's dubs may take {limits.max_stored_bytes} bytes; this one's take {used} and {more_bytes} would be "
            "added; delete some",
            retry_after_s=RETRY_NEXT_DAY_S,
        )


async def check_counts(session: AsyncSession, owner: str, limits: KeyLimits, max_queued: int) -> None:
    """Raise ServiceFullError if too many dubs wait, CapacityError if the owner has too many at a time."""
    if await num_queued(session) >= max_queued:
        raise ServiceFullError(
            f"at most {max_queued} dubs may wait, and as many do; try again later", RETRY_WHEN_FULL_S
        )
    of_owner = select(func.count()).select_from(Dub).where(Dub.owner == owner, Dub.state.in_(ACTIVE))
    if (await session.execute(of_owner)).scalar_one() >= limits.max_active_dubs:
        raise CapacityError(
            f"a key may have {limits.max_active_dubs} dubs waiting or running, and has; wait for one to end",
            retry_after_s=RETRY_WHEN_FULL_S,
        )


async def num_queued(session: AsyncSession, *, only_fetched: bool = False) -> int:
    """Number of waiting jobs of all owners."""
    query = select(func.count()).select_from(Dub).where(Dub.state == DubState.QUEUED)
    found: int = (await session.execute(query.where(Dub.is_fetched) if only_fetched else query)).scalar_one()
    return found


async def _used_s(session: AsyncSession, database: Database, owner: str) -> float:
    query = select(func.coalesce(func.sum(Charge.media_s), 0.0))
    query = query.where(Charge.owner == owner, Charge.charged_s > database.now_s - DAY_S)
    found: float = (await session.execute(query)).scalar_one()
    return found


def _no_more_today(used_s: float, asked: str, limits: KeyLimits) -> CapacityError:
    return CapacityError(
        f"a key may have {limits.media_s_per_day:.0f} s of media dubbed a day; this one has used {used_s:.0f} s and "
        f"asks for {asked}; try again later",
        retry_after_s=RETRY_NEXT_DAY_S,
    )
