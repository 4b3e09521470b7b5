"""Leases: a dispatcher holds a job for some time and must renew its lease. Only the holder writes to the job."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from serve.jobs.database import Database, clock_s
from serve.jobs.quotas import charge, lock_owner
from serve.jobs.tables import ACTIVE, Delivery, Dub, DubState, Event, Target, TargetState
from serve.settings import KeyLimits

SET_BACK_S = 3600.0
"""A lease that ends later than this and its length was given before the database's clock was set back: it has ended."""
DOWNLOADS = "downloads of all owners"
"""Name of the lock on claims of downloads."""


class LeaseLostError(Exception):
    """This dispatcher does not hold the job any more, and must stop working on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A job that this dispatcher holds, and whether its owner has cancelled it."""

    dub_id: str
    cancel_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """The end of a job."""

    state: DubState
    event: Mapping[str, Any]
    error: str | None = None
    output: str | None = None
    duration_s: float | None = None
    source_language: str | None = None
    verdict: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """The leases of one dispatcher."""

    database: Database
    holder: str
    lease_s: float

    async def claim(
        self, *, resume: bool = True, under_way: Collection[str] = (), not_of: Collection[str] = ()
    ) -> tuple[Dub, tuple[str, ...]] | None:
        """Claim a waiting job whose source is here, or one whose lease has expired. Returns it with its languages.

        Owners take turns: first those with the fewest running jobs, then those whose last claim is the longest ago; of
        one owner, the oldest job. Without ``resume`` only waiting jobs are claimed: after an outage, leases have
        expired because nobody could renew them. Jobs ``under_way`` here are never claimed, however late their renewal,
        and none of the owners ``not_of``.
        """
        now_s = self.database.now_s
        is_free = _is_free(self._has_ended(now_s), resume, under_way)
        is_free = and_(Dub.is_fetched, is_free, Dub.owner.not_in(not_of))
        async with self.database.transaction() as session:
            turn = (_num_running(self.database.is_postgres), _last_claim_s(), Dub.created_s)
            dub = await self._take(session, is_free, turn, state=DubState.RUNNING, claimed_s=now_s)
            if dub is None:
                return None
            targets = update(Target).where(Target.dub_id == dub.id, Target.state == TargetState.QUEUED)
            await session.execute(targets.values(state=TargetState.PROCESSING))
            languages = select(Target.language).where(Target.dub_id == dub.id).order_by(Target.created_s)
            return dub, tuple(await session.scalars(languages))

    async def claim_fetch(self, max_per_owner: int, *, under_way: Collection[str] = ()) -> Dub | None:
        """Claim a job whose source must be fetched: of the owner with the fewest downloads, the oldest."""
        now_s = self.database.now_s
        num_fetching = _num_fetching(self.database.is_postgres)
        is_free = and_(
            *(~Dub.is_fetched, Dub.state.in_(ACTIVE), self._has_ended(now_s)),
            *(Dub.id.not_in(under_way), Dub.deleted_s.is_(None), num_fetching < max_per_owner),
        )
        async with self.database.transaction() as session:
            await lock_owner(self.database, session, DOWNLOADS)  # or claims at the same moment count the same downloads
            return await self._take(session, is_free, (num_fetching, Dub.created_s), state=DubState.QUEUED)

    async def _take(
        self, session: AsyncSession, is_free: ColumnElement[bool], turn: Sequence[Any], **values: Any
    ) -> Dub | None:
        first = select(Dub.id).where(is_free).order_by(*turn).limit(1)
        if self.database.is_postgres:
            first = first.with_for_update(skip_locked=True, of=Dub)
        lease = {"lease_owner": self.holder, "lease_until_s": self.database.now_s + self.lease_s}
        claim = (
            update(Dub)
            .where(Dub.id == first.scalar_subquery(), is_free)
            .values(**lease, num_attempts=Dub.num_attempts + 1, updated_s=time.time(), **values)
            .returning(Dub)
            .execution_options(synchronize_session=False)
        )
        return (await session.scalars(claim)).one_or_none()

    async def renew(self, dub_ids: Collection[str]) -> list[HeldLease]:
        """Renew the leases of these jobs. Returns those that are still held."""
        query = (
            update(Dub)
            .where(Dub.id.in_(dub_ids), self._is_mine())
            .values(lease_until_s=self.database.now_s + self.lease_s)
            .returning(Dub.id, Dub.cancel_requested)
        )
        async with self.database.transaction() as session:
            return [HeldLease(dub_id=row[0], cancel_requested=row[1]) for row in await session.execute(query)]

    async def release(self, dub_id: str, *, is_fetched: bool | None = None) -> None:
        """Give a job back, so that another dispatcher can claim it. The attempt does not count.

        ``is_fetched`` is false if the source is gone and must be fetched again.
        """
        values: dict[str, Any] = {} if is_fetched is None else {"is_fetched": is_fetched}
        query = update(Dub).where(Dub.id == dub_id, self._is_mine())
        async with self.database.transaction() as session:
            await session.execute(
                query.values(
                    **{"state": DubState.QUEUED, "lease_owner": None, "lease_until_s": 0.0, **values},
                    num_attempts=Dub.num_attempts - 1,
                )
            )

    async def note_fetched(self, dub: Dub, duration_s: float, num_bytes: int, limits: KeyLimits) -> None:
        """End a download: the job may be run. Counts its media against its owner's day.

        Raises LeaseLostError, and CapacityError if there is not as much left.
        """
        async with self.database.transaction() as session:
            await lock_owner(self.database, session, dub.owner)
            if dub.duration_s is None:
                num_languages = await session.scalar(select(Target.num_of(dub.id))) or 0
                await charge(session, self.database, dub.owner, dub.id, duration_s * num_languages, limits)
            values = {"is_fetched": True, "duration_s": duration_s, "stored_bytes": num_bytes, "num_attempts": 0}
            await self._append(session, dub.id, [], {**values, "lease_owner": None, "lease_until_s": 0.0})

    async def note(
        self,
        dub_id: str,
        after: int,
        events: Sequence[tuple[str, Mapping[str, Any]]],
        progress: Mapping[str, Any],
        num_spoken: int = 0,
    ) -> None:
        """Write the progress, and events after number ``after``. Repeating the call does not write them twice.

        An attempt that has spoken more lines than any before it counts as the first: what ended the others, such as a
        machine taken away, was not the job's fault. Raises LeaseLostError.
        """
        async with self.database.transaction() as session:
            written = select(Dub.num_events).where(Dub.id == dub_id, self._is_mine())
            if events and await session.scalar(written) == after + len(events):
                return
            values: dict[str, Any] = {"progress": dict(progress)}
            if num_spoken:
                is_progress = Dub.num_spoken < num_spoken
                values["num_attempts"] = case((is_progress, 1), else_=Dub.num_attempts)
                values["num_spoken"] = case((is_progress, num_spoken), else_=Dub.num_spoken)
            await self._append(session, dub_id, events, values)

    async def finish(self, dub_id: str, outcome: AttemptOutcome) -> None:
        """Write state, last event and webhook in one transaction. Raises LeaseLostError."""
        done = outcome.state is DubState.DONE
        values: dict[str, Any] = {
            "state": outcome.state,
            "error": outcome.error,
            "lease_owner": None,
            "lease_until_s": 0.0,
        }
        if done:
            values |= {
                "output": outcome.output,
                "revision": Dub.revision + 1,
                "duration_s": outcome.duration_s,
                "source_language": outcome.source_language,
                "verdict": outcome.verdict,
            }
        async with self.database.transaction() as session:
            dub = await self._append(session, dub_id, [(outcome.state.value, outcome.event)], values)
            targets = update(Target).where(Target.dub_id == dub_id)
            if done:
                targets = targets.where(Target.state == TargetState.PROCESSING)
                await session.execute(targets.values(state=TargetState.COMPLETED, revision=Target.revision + 1))
            else:
                targets = targets.where(Target.state.in_((TargetState.PROCESSING, TargetState.QUEUED)))
                await session.execute(targets.values(state=TargetState.FAILED, error=outcome.error))
            if dub.webhook_url is not None:
                session.add(Delivery.of(dub, dub.webhook_url, outcome.state, outcome.error))

    async def _append(
        self,
        session: AsyncSession,
        dub_id: str,
        events: Sequence[tuple[str, Mapping[str, Any]]],
        values: Mapping[str, Any],
    ) -> Dub:
        now_s = time.time()
        query = (
            update(Dub)
            .where(Dub.id == dub_id, self._is_mine())
            .values(num_events=Dub.num_events + len(events), updated_s=now_s, **values)
            .returning(Dub)
            .execution_options(synchronize_session=False)
        )
        dub = (await session.scalars(query)).one_or_none()
        if dub is None:
            raise LeaseLostError(dub_id)
        first = dub.num_events - len(events) + 1
        rows = [
            {"dub_id": dub_id, "number": first + at, "kind": kind, "data": dict(data), "created_s": now_s}
            for at, (kind, data) in enumerate(events)
        ]
        if rows:
            await session.execute(insert(Event), rows)
        return dub

    def _has_ended(self, now_s: ColumnElement[float]) -> ColumnElement[bool]:
        return or_(Dub.lease_until_s < now_s, Dub.lease_until_s > now_s + SET_BACK_S + self.lease_s)

    def _is_mine(self) -> ColumnElement[bool]:
        return and_(Dub.lease_owner == self.holder, Dub.state.in_(ACTIVE))


def _is_free(has_ended: ColumnElement[bool], resume: bool, under_way: Collection[str]) -> ColumnElement[bool]:
    abandoned = and_(Dub.state == DubState.RUNNING, has_ended, Dub.id.not_in(under_way))
    free = or_(Dub.state == DubState.QUEUED, abandoned) if resume else Dub.state == DubState.QUEUED
    return and_(Dub.deleted_s.is_(None), free)


# Each of these is built once: building it takes as long as the rest of a claim.


@functools.cache
def _num_running(is_postgres: bool) -> ColumnElement[int]:
    """Number of jobs of a job's owner that are running under a lease."""
    other = aliased(Dub)
    query = select(func.count()).where(other.owner == Dub.owner, other.state == DubState.RUNNING)
    return query.where(other.lease_until_s >= clock_s(is_postgres)).correlate(Dub).scalar_subquery()


@functools.cache
def _num_fetching(is_postgres: bool) -> ColumnElement[int]:
    """Number of jobs of a job's owner whose source is being fetched."""
    other = aliased(Dub)
    query = select(func.count()).where(other.owner == Dub.owner, other.state == DubState.QUEUED, ~other.is_fetched)
    return query.where(other.lease_until_s >= clock_s(is_postgres)).correlate(Dub).scalar_subquery()


@functools.cache
def _last_claim_s() -> ColumnElement[float]:
    """Time at which a job of a job's owner was last claimed."""
    other = aliased(Dub)
    return select(func.max(other.claimed_s)).where(other.owner == Dub.owner).correlate(Dub).scalar_subquery()
