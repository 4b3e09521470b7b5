"""Jobs as their owners use them: create, list, cancel, edit, delete."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from actors.errors import ItemError
from serve.errors import ConflictError, NotFoundError
from serve.jobs.database import Database
from serve.jobs.quotas import (
    Upload,
    Uploads,
    add_charge,
    charge,
    check_usage,
    lock_owner,
    num_waiting,
    read_usage,
)
from serve.jobs.tables import ACTIVE, Delivery, Dub, DubState, Edit, Event, Target, TargetState
from serve.settings import KeyLimits

_UPLOAD: ContextVar[Upload | None] = ContextVar("upload", default=None)
"""The upload that the present request makes."""


class DubOptions(BaseModel):
    """Options of a dub, besides its target languages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_language: str | None = None
    profile: str | None = None
    voices: Mapping[str, str] = {}
    """Target language → voice."""
    audio_track: int | None = None
    speakers: str | None = None
    """Number of speakers, or ``auto``; None for the service's setting."""
    cast: str | None = Field(default=None, exclude_if=lambda cast: cast is None)
    """Name of the owner's cast, by which speakers are known again. Left out where there is none: dispatchers of an
    earlier release refuse what they do not know."""


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
    source_bytes: int = 0
    webhook_url: str | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """Hash of the request, to refuse another request with the same idempotency key."""
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DubView:
    """A job with its target languages, in the order of the request."""

    dub: Dub
    targets: tuple[Target, ...]


@dataclass(slots=True)
class Jobs:
    database: Database
    max_queued: int
    uploads: Uploads = field(default_factory=Uploads)

    async def create(self, new: NewDub, limits: KeyLimits) -> tuple[DubView, bool]:
        """The job, and True if it is new. A repeated idempotency key returns the first job.

        Raises CapacityError above the owner's limits, ServiceFullError if too many jobs wait, and ConflictError if
        the key was used for another request.
        """
        try:
            async with self.database.transaction() as session:
                await lock_owner(self.database, session, new.owner)
                known = await self._repeated(session, new)
                if known is not None:
                    return known, False
                usage = await read_usage(session, self.database, new.owner)
                media_s = None if new.duration_s is None else new.duration_s * len(new.targets)
                check_usage(usage, limits, max_queued=self.max_queued, more_bytes=new.source_bytes, media_s=media_s)
                add_charge(session, self.database, new.owner, new.id, media_s or 0.0)
                view = await _insert(session, new)
                self._end_upload()  # before the commit: nobody counts the dub twice
                return view, True
        except IntegrityError:  # another dispatcher took the same idempotency key at the same moment
            async with self.database.reading() as session:
                known = await self._repeated(session, new)
            if known is None:
                raise
            return known, False

    async def find_repeated(self, owner: str, key: str) -> Dub | None:
        async with self.database.reading() as session:
            query = select(Dub).where(Dub.owner == owner, Dub.idempotency_key == key, Dub.deleted_s.is_(None))
            return (await session.scalars(query)).one_or_none()

    @asynccontextmanager
    async def uploading(
        self, owner: str, limits: KeyLimits, num_bytes: int, idempotency_key: str | None = None
    ) -> AsyncIterator[None]:
        """Keep a place for a dub until it is created inside, or until the end. Raises CapacityError, ServiceFullError.

        ``num_bytes`` is the size of the upload; 0 if it is unknown. A repeated request needs no place.
        """
        if idempotency_key is not None and (
            self.uploads.has(owner, idempotency_key) or await self.find_repeated(owner, idempotency_key) is not None
        ):
            yield
            return
        await self.check_room(owner, limits, num_bytes)
        upload = Upload(owner=owner, num_bytes=num_bytes, idempotency_key=idempotency_key)
        self.uploads.begin(upload)
        _UPLOAD.set(upload)
        try:
            yield
        finally:
            self.uploads.end(upload)

    def _end_upload(self) -> None:
        if (upload := _UPLOAD.get()) is not None:
            self.uploads.end(upload)

    async def check_room(self, owner: str, limits: KeyLimits, more_bytes: int = 0) -> None:
        """Check the limits, beside what is being uploaded. Raises CapacityError, ServiceFullError."""
        async with self.database.reading() as session:
            usage = await read_usage(session, self.database, owner)
        usage = self.uploads.added_to(usage, owner)
        check_usage(usage, limits, max_queued=self.max_queued, more_bytes=more_bytes, media_s=None)

    async def num_queued(self) -> int:
        """Number of jobs of all owners that wait for a dispatcher; their sources are here."""
        async with self.database.reading() as session:
            return await num_waiting(session)

    async def get(self, owner: str, dub_id: str) -> DubView:
        """Raises NotFoundError, also for a job of another owner."""
        async with self.database.reading() as session:
            return await _view(session, await _owned(session, owner, dub_id))

    async def page(
        self, owner: str, *, before: str | None, limit: int, states: Sequence[str] = ()
    ) -> tuple[list[DubView], str | None]:
        """Jobs, newest first, and the cursor of the next page; None on the last page."""
        query = select(Dub).where(Dub.owner == owner, Dub.deleted_s.is_(None)).order_by(Dub.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(Dub.id < before)
        # One query a state: an index has the jobs of one state in order, and those of several would all be sorted.
        queries = [query.where(Dub.state == state) for state in dict.fromkeys(states)] or [query]
        async with self.database.reading() as session:
            each = [await session.scalars(query) for query in queries]
            found = sorted(itertools.chain(*each), key=lambda dub: dub.id, reverse=True)[: limit + 1]
            views = [await _view(session, dub) for dub in found[:limit]]
        return views, found[limit - 1].id if len(found) > limit else None

    async def events_after(self, dub_id: str, number: int, limit: int = 500) -> list[Event]:
        query = select(Event).where(Event.dub_id == dub_id, Event.number > number).order_by(Event.number).limit(limit)
        async with self.database.reading() as session:
            return list(await session.scalars(query))

    async def cancel(self, owner: str, dub_id: str) -> DubView:
        """Cancel a job. A running one ends once its dispatcher hears of it. Raises NotFoundError."""
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
        """Raises NotFoundError, and ConflictError while the job is running."""
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
                raise ConflictError(f"{dub_id} must not be running to be deleted; cancel it first")
            for table in (Event, Edit, Target):
                await session.execute(delete(table).where(table.dub_id == dub.id))

    async def edits(self, dub_id: str) -> Sequence[Edit]:
        async with self.database.reading() as session:
            return list(await session.scalars(select(Edit).where(Edit.dub_id == dub_id)))

    async def edit(
        self, owner: str, dub_id: str, language: str, utterance_id: str, *, text: str | None, voice: str | None
    ) -> DubView:
        """Store an edit of a line. Its language is stale until it is made again.

        Raises NotFoundError, ConflictError, ItemError.
        """
        if "\0" in (text or "") + (voice or ""):  # PostgreSQL cannot store it
            raise ItemError("a text and a voice must have no character NUL; found one; leave it out")
        async with self.database.transaction() as session:
            dub = await _owned(session, owner, dub_id)
            if dub.state in ACTIVE or dub.output is None:
                raise ConflictError(f"{dub_id} must be finished, and not be running, to be edited; it is {dub.state}")
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
        """Count media that are dubbed without a job against the owner's daily limit. Raises CapacityError."""
        async with self.database.transaction() as session:
            await lock_owner(self.database, session, owner)
            await charge(session, self.database, owner, "", duration_s, limits)

    async def note_bytes(self, dub_id: str, num_bytes: int) -> None:
        """Store the size of all files of a dub."""
        async with self.database.transaction() as session:
            await session.execute(update(Dub).where(Dub.id == dub_id).values(stored_bytes=num_bytes))

    async def make_again(self, owner: str, dub_id: str, limits: KeyLimits, *, languages: Sequence[str] = ()) -> DubView:
        """Queue a job again, for its stale and failed languages and for new ``languages``, within ``limits``.

        Raises NotFoundError, ConflictError, CapacityError.
        """
        async with self.database.transaction() as session:
            await lock_owner(self.database, session, owner)
            dub = await _owned(session, owner, dub_id)
            again = (
                update(Dub)
                .where(Dub.id == dub_id, Dub.state.not_in(ACTIVE))
                .values(state=DubState.QUEUED, error=None, num_attempts=0, num_spoken=0)
                .values(cancel_requested=False, updated_s=time.time())
                .returning(Dub.id)
            )
            if (await session.execute(again)).scalar_one_or_none() is None:
                raise ConflictError(f"{dub_id} must not be running to be made again; it is {dub.state}")
            outdated = (TargetState.STALE, TargetState.FAILED, TargetState.PROCESSING)
            waiting = update(Target).where(Target.dub_id == dub_id, Target.state.in_(outdated))
            made = await session.execute(
                waiting.values(state=TargetState.QUEUED, error=None).returning(Target.language)
            )
            num_languages = len(made.all()) + len(languages)
            if dub.duration_s is not None:  # else it is charged once its source is fetched
                await charge(session, self.database, owner, dub_id, dub.duration_s * num_languages, limits)
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
                raise ConflictError(f"{dub_id} must not be running when a language is removed; cancel it first")
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
                f"an Idempotency-Key must belong to one request; this one was used for another, {dub.id}; "
                f"choose a new key"
            )
        return await _view(session, dub)


_NEVER_RUN = {
    **{"error": None, "revision": 0, "output": None, "num_events": 0, "num_attempts": 0, "lease_owner": None},
    **{"verdict": None, "lease_until_s": 0.0, "cancel_requested": False, "deleted_s": None},
}


async def _insert(session: AsyncSession, new: NewDub) -> DubView:
    now_s = time.time()
    dub = Dub(
        id=new.id,
        owner=new.owner,
        name=new.name,
        source_url=new.source_url,
        content_type=new.content_type,
        options=new.options.model_dump(mode="json"),
        # A dub without a target language has nothing to do until one is added.
        state=DubState.QUEUED if new.targets else DubState.DONE,
        created_s=now_s,
        updated_s=now_s,
        duration_s=new.duration_s,
        stored_bytes=new.source_bytes,
        is_fetched=new.source_url is None,
        source_language=new.options.source_language,
        progress={},
        idempotency_key=new.idempotency_key,
        fingerprint=new.fingerprint,
        webhook_url=new.webhook_url,
        traceparent=new.traceparent,
        **_NEVER_RUN,
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
        raise NotFoundError(f"a dub must exist and be yours; found none with the id {dub_id[:40]}")
    return dub


async def _view(session: AsyncSession, dub: Dub) -> DubView:
    """The job and its languages, read in one query: with two, the job could end between them."""
    query = (
        select(Dub, Target)
        .outerjoin(Target, Target.dub_id == Dub.id)
        .where(Dub.id == dub.id)
        .order_by(Target.created_s)
        .execution_options(populate_existing=True)
    )
    rows = (await session.execute(query)).all()
    return DubView(dub=dub, targets=tuple(target for _, target in rows if target is not None))
