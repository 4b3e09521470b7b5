"""Limits of each owner: dubs at a time, stored bytes, and media a day, by a ledger that nothing is taken out of.

A dub that is still being uploaded has no row in the database; its dispatcher counts it.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass

from sqlalchemy import Select, String, bindparam, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from actors.errors import CapacityError
from serve.errors import ServiceFullError
from serve.ids import new_dub_id
from serve.jobs.database import Database, clock_s
from serve.jobs.tables import ACTIVE, Charge, Dub, DubState
from serve.settings import KeyLimits

DAY_S = 24 * 3600.0
RETRY_WHEN_FULL_S = 30.0
RETRY_NEXT_DAY_S = 3600.0
_OWNER = bindparam("owner", type_=String)
LOCK = 7_208_114
"""PostgreSQL's number of the locks on owners: any number that is the same in every process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The parts of its limits that an owner has used, and those of all owners."""

    num_queued: int
    """Dubs of all owners that wait."""
    num_active: int
    """Its dubs that wait or run."""
    stored_bytes: int
    media_s: float
    """Media counted against its day."""
    uploading_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Upload:
    """A dub that is being uploaded to this dispatcher."""

    owner: str
    num_bytes: int
    """As the request says; 0 if it does not."""
    idempotency_key: str | None = None


class Uploads:
    """The uploads under way to this dispatcher. Each keeps the place that its dub will take.

    Without them, all uploads that come while one place is free would be received and inspected, to be refused then.
    """

    def __init__(self) -> None:
        self._under_way: set[Upload] = set()

    def begin(self, upload: Upload) -> None:
        self._under_way.add(upload)

    def end(self, upload: Upload) -> None:
        """Free its place, if that was not done before."""
        self._under_way.discard(upload)

    def has(self, owner: str, idempotency_key: str) -> bool:
        """True if the same request is under way."""
        return any(upload.owner == owner and upload.idempotency_key == idempotency_key for upload in self._under_way)

    def added_to(self, usage: Usage, owner: str) -> Usage:
        """The owner's usage once all uploads have become dubs."""
        own = [upload for upload in self._under_way if upload.owner == owner]
        return dataclasses.replace(
            usage,
            num_queued=usage.num_queued + len(self._under_way),
            num_active=usage.num_active + len(own),
            uploading_bytes=sum(upload.num_bytes for upload in own),
        )


async def lock_owner(database: Database, session: AsyncSession, owner: str) -> None:
    """Wait until no other transaction checks or uses this owner's limits, until the end of this one."""
    if database.is_postgres:
        query = text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, :lock))")
        await session.execute(query, {"owner": owner, "lock": LOCK})
    else:
        # A statement that writes holds SQLite's only lock for writers, whatever it finds.
        await session.execute(delete(Charge).where(Charge.charged_s < time.time() - 2 * DAY_S))


async def read_usage(session: AsyncSession, database: Database, owner: str) -> Usage:
    """All that limits are compared with, in one query."""
    row = (await session.execute(_usage_query(database.is_postgres), {"owner": owner})).one()
    return Usage(num_queued=row[0], num_active=row[1], stored_bytes=int(row[2] or 0), media_s=row[3] or 0.0)


def check_usage(usage: Usage, limits: KeyLimits, *, max_queued: int, more_bytes: int, media_s: float | None) -> None:
    """Check that one more dub is allowed; the length of its media is None if it is unknown.

    Raises ServiceFullError if too many dubs wait, CapacityError if a limit of the owner is reached.
    """
    if usage.num_queued >= max_queued:
        raise ServiceFullError(
            f"at most {max_queued} dubs may upload or wait, and as many do; try again later", RETRY_WHEN_FULL_S
        )
    if usage.num_active >= limits.max_active_dubs:
        raise CapacityError(
            f"a key may have {limits.max_active_dubs} dubs uploading, waiting or running, and has; wait for one to end",
            retry_after_s=RETRY_WHEN_FULL_S,
        )
    if usage.stored_bytes + more_bytes > limits.max_stored_bytes:
        raise CapacityError(
            f"a key's dubs may take {limits.max_stored_bytes} bytes; this one's take {usage.stored_bytes} and "
            f"{more_bytes} would be added; delete some",
            retry_after_s=RETRY_NEXT_DAY_S,
        )
    if usage.stored_bytes + usage.uploading_bytes + more_bytes > limits.max_stored_bytes:
        raise CapacityError(
            f"a key's dubs may take {limits.max_stored_bytes} bytes; this one's take {usage.stored_bytes}, "
            f"{usage.uploading_bytes} are being uploaded and {more_bytes} would be added; wait for the uploads to end",
            retry_after_s=RETRY_WHEN_FULL_S,
        )
    _check_day(usage.media_s, media_s, limits)


async def charge(
    session: AsyncSession, database: Database, owner: str, dub_id: str, media_s: float, limits: KeyLimits
) -> None:
    """Count media against the owner's day, whose lock is held. Raises CapacityError if there is not as much left."""
    used_s = (await session.execute(_charged_query(database.is_postgres), {"owner": owner})).scalar_one() or 0.0
    _check_day(used_s, media_s, limits)
    add_charge(session, database, owner, dub_id, media_s)


def add_charge(session: AsyncSession, database: Database, owner: str, dub_id: str, media_s: float) -> None:
    """Count media against the owner's day, without looking at its limit."""
    if media_s > 0:
        session.add(Charge(id=new_dub_id(), owner=owner, dub_id=dub_id, media_s=media_s, charged_s=database.now_s))


async def num_waiting(session: AsyncSession) -> int:
    """Number of waiting jobs of all owners whose source is here."""
    query = select(func.count()).select_from(Dub).where(Dub.state == DubState.QUEUED, Dub.is_fetched)
    found: int = (await session.execute(query)).scalar_one()
    return found


# Each of these is built once: building it takes longer than its execution, and every upload of a flood needs it.


@functools.cache
def _usage_query(is_postgres: bool) -> Select[int, int, int | None, float | None]:
    """Query for the numbers of ``Usage``, given ``owner``; a sum is null without anything to add."""
    is_own = Dub.owner == _OWNER
    queued = select(func.count()).where(Dub.state == DubState.QUEUED).scalar_subquery()
    active = select(func.count()).where(is_own, Dub.state.in_(ACTIVE)).scalar_subquery()
    stored = select(func.sum(Dub.stored_bytes)).where(is_own, Dub.deleted_s.is_(None)).scalar_subquery()
    return select(queued, active, stored, _charged_query(is_postgres).scalar_subquery())


@functools.cache
def _charged_query(is_postgres: bool) -> Select[float | None]:
    """Query for the media counted against the day of ``owner``; null without any."""
    lately = Charge.charged_s > clock_s(is_postgres) - DAY_S
    return select(func.sum(Charge.media_s)).where(Charge.owner == _OWNER, lately)


def _check_day(used_s: float, media_s: float | None, limits: KeyLimits) -> None:
    """Raise CapacityError if so much media, or any where that is None, is more than what is left of the day."""
    limit_s = limits.media_s_per_day
    if used_s >= limit_s if media_s is None else used_s + media_s > limit_s:
        asked = "more" if media_s is None else f"{media_s:.0f} s"
        raise CapacityError(
            f"a key may have {limit_s:.0f} s of media dubbed a day; this one has used {used_s:.0f} s and asks for "
            f"{asked}; try again later",
            retry_after_s=RETRY_NEXT_DAY_S,
        )
