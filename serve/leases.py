"""Jobs as dispatchers share them: one holds a job by a lease it must renew, and only its holder writes to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from serve.database import Database
from serve.tables import Delivery, Dub, DubState, Event, Target, TargetState


class LeaseLostError(Exception):
    """Another dispatcher has the job, or nobody: this one must stop working on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A job under way, and what its owner wants of it meanwhile."""

    dub_id: str
    cancel_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended."""

    state: DubState
    event: Mapping[str, Any]
    error: str | None = None
    output: str | None = None
    duration_s: float | None = None
    source_language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """Of one dispatcher."""

    database: Database
    holder: str
    lease_s: float

    async def claim(
        self, *, resume: bool = True, under_way: Collection[str] = ()
    ) -> tuple[Dub, tuple[str, ...]] | None:
        """The job that has waited longest, and its languages: a new one, or one whose holder gives no sign.

        Without ``resume`` only a new one: after a time in which nobody could give a sign. Never one of those that
        are ``under_way`` here, however late we are with renewing them.
        """
        now_s = time.time()
        is_free = _is_free(now_s, resume, under_way)
        first = select(Dub.id).where(is_free).order_by(Dub.created_s).limit(1)
        if self.database.is_postgres:
            first = first.with_for_update(skip_locked=True)
        claim = (
            update(Dub)
            .where(Dub.id == first.scalar_subquery(), is_free)
            .values(
                state=DubState.RUNNING,
                lease_owner=self.holder,
                lease_until_s=now_s + self.lease_s,
                num_attempts=Dub.num_attempts + 1,
                updated_s=now_s,
            )
            .returning(Dub)
            .execution_options(synchronize_session=False)
        )
        async with self.database.transaction() as session:
            dub = (await session.scalars(claim)).one_or_none()
            if dub is None:
                return None
            targets = update(Target).where(Target.dub_id == dub.id, Target.state == TargetState.QUEUED)
            await session.execute(targets.values(state=TargetState.PROCESSING))
            languages = select(Target.language).where(Target.dub_id == dub.id).order_by(Target.created_s)
            return dub, tuple(await session.scalars(languages))

    async def renew(self, dub_ids: Collection[str]) -> list[Held]:
        """Those of these jobs that are still held."""
        query = (
            update(Dub)
            .where(Dub.id.in_(dub_ids), self._is_mine())
            .values(lease_until_s=time.time() + self.lease_s)
            .returning(Dub.id, Dub.cancel_requested)
        )
        async with self.database.transaction() as session:
            return [Held(dub_id=row[0], cancel_requested=row[1]) for row in await session.execute(query)]

    async def hand_on(self, dub_id: str) -> None:
        """Let another dispatcher take it now; the attempt does not count."""
        query = update(Dub).where(Dub.id == dub_id, self._is_mine())
        async with self.database.transaction() as session:
            await session.execute(
                query.values(
                    state=DubState.QUEUED, lease_owner=None, lease_until_s=0.0, num_attempts=Dub.num_attempts - 1
                )
            )

    async def note(
        self, dub_id: str, after: int, events: Sequence[tuple[str, Mapping[str, Any]]], progress: Mapping[str, Any]
    ) -> None:
        """Write events behind number ``after``, once however often they are told, and how far it is.

        Raises LeaseLostError.
        """
        async with self.database.transaction() as session:
            written = select(Dub.num_events).where(Dub.id == dub_id, self._is_mine())
            if events and await session.scalar(written) == after + len(events):
                return
            await self._append(session, dub_id, events, {"progress": dict(progress)})

    async def finish(self, dub_id: str, outcome: Outcome) -> None:
        """State, last event and webhook at once. Raises LeaseLostError."""
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
                # Of a URL it was not known before.
                "charged_s": (outcome.duration_s or 0.0) * Target.num_of(dub_id),
                "source_language": outcome.source_language,
            }
        async with self.database.transaction() as session:
            dub = await self._append(session, dub_id, [(outcome.state.value, outcome.event)], values)
            targets = update(Target).where(Target.dub_id == dub_id, Target.state == TargetState.PROCESSING)
            if done:
                await session.execute(targets.values(state=TargetState.COMPLETED, revision=Target.revision + 1))
            else:
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

    def _is_mine(self) -> ColumnElement[bool]:
        return and_(Dub.lease_owner == self.holder, Dub.state == DubState.RUNNING)


def _is_free(now_s: float, resume: bool, under_way: Collection[str]) -> ColumnElement[bool]:
    abandoned = and_(Dub.state == DubState.RUNNING, Dub.lease_until_s < now_s, Dub.id.not_in(under_way))
    free = or_(Dub.state == DubState.QUEUED, abandoned) if resume else Dub.state == DubState.QUEUED
    return and_(Dub.deleted_s.is_(None), free)
