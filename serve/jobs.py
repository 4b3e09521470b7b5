"""Jobs as their owners see them: accepted within limits, listed, cancelled, edited, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from actors.errors import CapacityError
from serve.database import Database
from serve.errors import ConflictError, NotFoundError, ServiceFullError
from serve.ids import new_dub_id
from serve.settings import KeyLimits
from serve.tables import ACTIVE, Delivery, Dub, DubState, Edit, Event, Target, TargetState

DAY_S = 24 * 3600.0
RETRY_WHEN_FULL_S = 30.0


class DubOptions(BaseModel):
    """What was asked for, besides the languages to dub into."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_language: str | None = None
    profile: str | None = None
    voices: Mapping[str, str] = {}
    """Target language → voice."""
    audio_track: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDub:
    id: str
    owner: str
    name: str
    options: DubOptions
    targets: tuple[str, ...]
    source_url: str | None = None
    content_type: str | None = None
    duration_s: float | None = None
    webhook_url: str | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """Of the request: the same key with another request is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DubView:
    """A job with its languages, in the order they were asked for."""

    dub: Dub
    targets: tuple[Target, ...]


@dataclass(slots=True)
class Jobs:
    database: Database
    max_queued: int
    _accepting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def create(self, new: NewDub, limits: KeyLimits) -> tuple[DubView, bool]:
        """The job, and whether it is new: a repeated idempotency key finds the first one.

        Raises CapacityError past the owner's limits, ServiceFullError if too many wait, ConflictError if the
        key was used for another request.
        """
        try:
            async with self._accepting, self.database.transaction() as session:
                known = await self._repeated(session, new)
                if known is not None:
                    return known, False
                wanted_s = None if new.duration_s is None else new.duration_s * len(new.targets)
                await self._check_counts(session, new.owner, limits)
                await self._check_day(session, new.owner, limits, wanted_s)
                return await _insert(session, new), True
        except IntegrityError:  # another dispatcher took the same idempotency key at the same moment
            async with self.database.transaction() as session:
                known = await self._repeated(session, new)
            if known is None:
                raise
            return known, False

    async def find_repeated(self, owner: str, key: str) -> Dub | None:
        async with self.database.transaction() as session:
            query = select(Dub).where(Dub.owner == owner, Dub.idempotency_key == key, Dub.deleted_s.is_(None))
            return (await session.scalars(query)).one_or_none()

    async def check_room(self, owner: str, limits: KeyLimits) -> None:
        """Before anything is uploaded. Raises CapacityError, ServiceFullError."""
        async with self.database.transaction() as session:
            await self._check_counts(session, owner, limits)

    async def num_queued(self) -> int:
        """Of everybody's."""
        async with self.database.transaction() as session:
            return await _num_queued(session)

    async def get(self, owner: str, dub_id: str) -> DubView:
        """Raises NotFoundError, also if it is another's."""
        async with self.database.transaction() as session:
            return await _view(session, await _owned(session, owner, dub_id))

    async def page(
        self, owner: str, *, before: str | None, limit: int, states: Sequence[str] = ()
    ) -> tuple[list[DubView], str | None]:
        """Newest first, and the cursor of the next page; None at the end."""
        query = select(Dub).where(Dub.owner == owner, Dub.deleted_s.is_(None)).order_by(Dub.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(Dub.id < before)
        if states:
            query = query.where(Dub.state.in_(states))
        async with self.database.transaction() as session:
            found = list(await session.scalars(query))
            views = [await _view(session, dub) for dub in found[:limit]]
        return views, found[limit - 1].id if len(found) > limit else None

    async def events_after(self, dub_id: str, number: int, limit: int = 500) -> list[Event]:
        query = select(Event).where(Event.dub_id == dub_id, Event.number > number).order_by(Event.number).limit(limit)
        async with self.database.transaction() as session:
            return list(await session.scalars(query))

    async def cancel(self, owner: str, dub_id: str) -> DubView:
        """One that waits ends now, one under way as soon as its dispatcher has heard. Raises NotFoundError."""
        now_s = time.time()
        async with self.database.transaction() as session:
            dub = await _owned(session, owner, dub_id)
            waiting = (
                update(Dub)
                .where(Dub.id == dub.id, Dub.state == DubState.QUEUED)
                .values(state=DubState.CANCELLED, updated_s=now_s, num_events=Dub.num_events + 1)
                .returning(Dub.num_events)
            )
            number = (await session.execute(waiting)).scalar_one_or_none()
            if number is not None:
                session.add(Event(dub_id=dub.id, number=number, kind="cancelled", data={}, created_s=now_s))
                targets = update(Target).where(Target.dub_id == dub.id, Target.state == TargetState.QUEUED)
                await session.execute(targets.values(state=TargetState.FAILED))
                if dub.webhook_url is not None:
                    session.add(Delivery.of(dub, dub.webhook_url, DubState.CANCELLED, None))
            running = update(Dub).where(Dub.id == dub.id, Dub.state == DubState.RUNNING)
            await session.execute(running.values(cancel_requested=True, updated_s=now_s))
            await session.refresh(dub)
            return await _view(session, dub)

    async def delete(self, owner: str, dub_id: str) -> None:
        """Raises NotFoundError, ConflictError while it is under way."""
        async with self.database.transaction() as session:
            dub = await _owned(session, owner, dub_id)
            gone = (
                update(Dub)
                .where(Dub.id == dub.id, Dub.state != DubState.RUNNING)
                .values(
                    **{"deleted_s": time.time(), "name": "", "source_url": None, "webhook_url": None, "error": None},
                    **{"idempotency_key": None, "options": {}, "state": DubState.CANCELLED},
                )
                .returning(Dub.id)
            )
            if (await session.execute(gone)).scalar_one_or_none() is None:
                raise ConflictError(f"{dub_id} must not be under way to be deleted; cancel it first")
            for table in (Event, Edit, Target):
                await session.execute(delete(table).where(table.dub_id == dub.id))

    async def edits(self, dub_id: str) -> Sequence[Edit]:
        async with self.database.transaction() as session:
            return list(await session.scalars(select(Edit).where(Edit.dub_id == dub_id)))

    async def edit(
        self, owner: str, dub_id: str, language: str, utterance_id: str, *, text: str | None, voice: str | None
    ) -> DubView:
        """Note what is wanted of a line; its language is stale until made again.

        Raises NotFoundError, ConflictError.
        """
        async with self.database.transaction() as session:
            dub = await _owned(session, owner, dub_id)
            if dub.state in ACTIVE or dub.output is None:
                raise ConflictError(
                    f"{dub_id} must have been made, and not be under way, to be edited; it is {dub.state}"
                )
            edit = await session.get(Edit, (dub_id, utterance_id))
            if edit is None:
                edit = Edit(dub_id=dub_id, utterance_id=utterance_id, text=None, voice=None, created_s=time.time())
                session.add(edit)
            edit.text = edit.text if text is None else text
            edit.voice = edit.voice if voice is None else voice
            stale = update(Target).where(Target.dub_id == dub_id, Target.language == language)
            await session.execute(stale.values(state=TargetState.STALE))
            await session.flush()
            return await _view(session, dub)

    async def charge(self, owner: str, duration_s: float, limits: KeyLimits) -> None:
        """Count what is dubbed without a job against the owner's day. Raises CapacityError."""
        now_s = time.time()
        new = NewDub(id=new_dub_id(), owner=owner, name="", options=DubOptions(), targets=())
        async with self._accepting, self.database.transaction() as session:
            await self._check_day(session, owner, limits, duration_s)
            dub = (await _insert(session, new)).dub
            # As what is left of a job that was deleted.
            dub.charged_s, dub.state, dub.deleted_s = duration_s, DubState.CANCELLED, now_s

    async def note_length(self, dub_id: str, duration_s: float) -> None:
        """Of a source that was not here when the job was accepted: from now on it counts against its owner's day."""
        query = update(Dub).where(Dub.id == dub_id, Dub.duration_s.is_(None))
        async with self.database.transaction() as session:
            await session.execute(query.values(duration_s=duration_s, charged_s=duration_s * Target.num_of(dub_id)))

    async def make_again(
        self, owner: str, dub_id: str, *, languages: Sequence[str] = (), limits: KeyLimits | None = None
    ) -> DubView:
        """Wait to be made again: what is stale or failed, and ``languages`` that are new, which are within ``limits``.

        Raises NotFoundError, ConflictError, CapacityError.
        """
        now_s = time.time()
        async with self.database.transaction() as session:
            dub = await _owned(session, owner, dub_id)
            more_s = (dub.duration_s or 0.0) * len(languages)
            if limits is not None:
                await self._check_day(session, owner, limits, more_s)
            again = (
                update(Dub)
                .where(Dub.id == dub_id, Dub.state.not_in(ACTIVE))
                .values(state=DubState.QUEUED, error=None, num_attempts=0, cancel_requested=False, updated_s=now_s)
                .values(charged_s=Dub.charged_s + more_s)
                .returning(Dub.id)
            )
            if (await session.execute(again)).scalar_one_or_none() is None:
                raise ConflictError(f"{dub_id} must not be under way to be made again; it is {dub.state}")
            outdated = (TargetState.STALE, TargetState.FAILED, TargetState.PROCESSING)
            waiting = update(Target).where(Target.dub_id == dub_id, Target.state.in_(outdated))
            await session.execute(waiting.values(state=TargetState.QUEUED, error=None))
            for language in languages:
                new = {"dub_id": dub_id, "language": language, "revision": 0, "created_s": time.time(), "error": None}
                session.add(Target(state=TargetState.QUEUED, **new))
            await session.flush()
            await session.refresh(dub)
            return await _view(session, dub)

    async def remove_target(self, owner: str, dub_id: str, language: str) -> None:
        """Raises NotFoundError, ConflictError."""
        async with self.database.transaction() as session:
            dub = await _owned(session, owner, dub_id)
            if dub.state in ACTIVE:
                raise ConflictError(f"{dub_id} must not be under way to lose a language; cancel it first")
            gone = delete(Target).where(Target.dub_id == dub_id, Target.language == language)
            await session.execute(gone)

    async def _repeated(self, session: AsyncSession, new: NewDub) -> DubView | None:
        if new.idempotency_key is None:
            return None
        query = select(Dub).where(Dub.owner == new.owner, Dub.idempotency_key == new.idempotency_key)
        dub = (await session.scalars(query)).one_or_none()
        if dub is None:
            return None
        if dub.fingerprint != new.fingerprint:
            raise ConflictError(
                f"an Idempotency-Key must belong to one request; this one was used for another, which is {dub.id}; "
                f"choose a new key"
            )
        return await _view(session, dub)

    async def _check_day(self, session: AsyncSession, owner: str, limits: KeyLimits, wanted_s: float | None) -> None:
        """``wanted_s`` is None where it is not known yet: then something must be left."""
        spent = select(func.coalesce(func.sum(Dub.charged_s), 0.0))
        spent = spent.where(Dub.owner == owner, Dub.created_s > time.time() - DAY_S)
        used_s = (await session.execute(spent)).scalar_one()
        fits = used_s < limits.media_s_per_day if wanted_s is None else used_s + wanted_s <= limits.media_s_per_day
        if not fits:
            asked = "more" if wanted_s is None else f"{wanted_s:.0f} s"
            raise CapacityError(
                f"a key may have {limits.media_s_per_day:.0f} s of media dubbed a day; this one has used "
                f"{used_s:.0f} s and asks for {asked}; try again later",
                retry_after_s=3600.0,
            )

    async def _check_counts(self, session: AsyncSession, owner: str, limits: KeyLimits) -> None:
        if await _num_queued(session) >= self.max_queued:
            raise ServiceFullError(
                f"at most {self.max_queued} dubs may wait, and as many do; try again later", RETRY_WHEN_FULL_S
            )
        of_owner = select(func.count()).select_from(Dub).where(Dub.owner == owner, Dub.state.in_(ACTIVE))
        if (await session.execute(of_owner)).scalar_one() >= limits.max_active_dubs:
            raise CapacityError(
                f"a key may have {limits.max_active_dubs} dubs waiting or under way, and has; wait for one to end",
                retry_after_s=RETRY_WHEN_FULL_S,
            )


async def _num_queued(session: AsyncSession) -> int:
    query = select(func.count()).select_from(Dub).where(Dub.state == DubState.QUEUED)
    found: int = (await session.execute(query)).scalar_one()
    return found


async def _insert(session: AsyncSession, new: NewDub) -> DubView:
    now_s = time.time()
    dub = Dub(
        id=new.id,
        owner=new.owner,
        name=new.name,
        source_url=new.source_url,
        content_type=new.content_type,
        options=new.options.model_dump(mode="json"),
        # One without a language has nothing to do until it gets one.
        state=DubState.QUEUED if new.targets else DubState.DONE,
        created_s=now_s,
        updated_s=now_s,
        duration_s=new.duration_s,
        charged_s=(new.duration_s or 0.0) * len(new.targets),
        source_language=new.options.source_language,
        error=None,
        progress={},
        revision=0,
        output=None,
        num_events=0,
        num_attempts=0,
        lease_owner=None,
        lease_until_s=0.0,
        cancel_requested=False,
        idempotency_key=new.idempotency_key,
        fingerprint=new.fingerprint,
        webhook_url=new.webhook_url,
        deleted_s=None,
    )
    session.add(dub)
    await session.flush()
    targets = tuple(
        Target(
            dub_id=new.id,
            language=language,
            state=TargetState.QUEUED,
            revision=0,
            created_s=now_s + at / 1e3,
            error=None,
        )
        for at, language in enumerate(new.targets)
    )
    session.add_all(targets)
    await session.flush()
    return DubView(dub=dub, targets=targets)


async def _owned(session: AsyncSession, owner: str, dub_id: str) -> Dub:
    dub = await session.get(Dub, dub_id)
    if dub is None or dub.owner != owner or dub.deleted_s is not None:
        raise NotFoundError(f"there is no dub {dub_id[:40]} of yours")
    return dub


async def _view(session: AsyncSession, dub: Dub) -> DubView:
    query = select(Target).where(Target.dub_id == dub.id).order_by(Target.created_s)
    return DubView(dub=dub, targets=tuple(await session.scalars(query)))
