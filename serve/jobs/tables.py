"""The database tables: jobs with their languages, events and edits; API keys; casts; webhooks to deliver."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    ScalarSelect,
    String,
    Text,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from serve.ids import new_dub_id


class DubState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (DubState.QUEUED, DubState.RUNNING)


class TargetState(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    STALE = "stale"
    """It was edited after it was made."""
    FAILED = "failed"


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON}


_IS_DELETED = text("deleted_s IS NOT NULL")


class Dub(Base):
    __tablename__ = "dubs"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("dubs_by_state", "state", "lease_until_s"),
        Index("dubs_by_owner", "owner", "id"),
        Index("dubs_by_claim", "owner", "claimed_s"),
        Index("dubs_by_bytes", "owner", "deleted_s", "stored_bytes"),
        Index("dubs_by_page", "owner", "state", "id"),
        Index("dubs_by_deletion", "deleted_s", sqlite_where=_IS_DELETED, postgresql_where=_IS_DELETED),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    name: Mapped[str] = mapped_column(Text)
    """Name to show; never used as a path."""
    source_url: Mapped[str | None] = mapped_column(Text)
    content_type: Mapped[str | None] = mapped_column(String(120))
    options: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    created_s: Mapped[float]
    """Times are Unix times, here and below."""
    updated_s: Mapped[float]
    duration_s: Mapped[float | None]
    """Duration of the media, once known."""
    charged_s: Mapped[float] = mapped_column(default=0.0)
    """Not used any more; dispatchers of release 0.1 read it."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    """Size of its source and its newest results."""
    source_language: Mapped[str | None] = mapped_column(String(35))
    error: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[dict[str, Any]]
    revision: Mapped[int]
    """Number of times it was made."""
    output: Mapped[str | None] = mapped_column(String(40))
    """Name of the folder with the newest results, inside the job's folder."""
    verdict: Mapped[dict[str, Any] | None]
    """The lines to look at in the newest results, as in their manifest."""
    num_events: Mapped[int] = mapped_column(BigInteger)

    is_fetched: Mapped[bool] = mapped_column(default=True)
    """False until a source behind a URL is in the data folder. Until then the job is not run; its lease is for the
    download."""
    claimed_s: Mapped[float] = mapped_column(default=0.0)
    """Time at which it was last claimed, so that owners take turns."""
    num_spoken: Mapped[int] = mapped_column(default=0)
    """Most lines that an attempt has spoken. One that speaks more makes progress."""
    num_attempts: Mapped[int]
    """Attempts since the last progress."""
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until_s: Mapped[float]
    cancel_requested: Mapped[bool]

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    webhook_url: Mapped[str | None] = mapped_column(Text)
    traceparent: Mapped[str | None] = mapped_column(String(64))
    """Header that names the trace of the request that made it; None for a job of an earlier version."""
    deleted_s: Mapped[float | None]
    """Time of deletion. Media and texts are gone; the row is removed a day later."""


class Target(Base):
    __tablename__ = "targets"

    dub_id: Mapped[str] = mapped_column(ForeignKey("dubs.id", ondelete="CASCADE"), primary_key=True)
    language: Mapped[str] = mapped_column(String(35), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    revision: Mapped[int]
    created_s: Mapped[float]
    error: Mapped[str | None] = mapped_column(Text)

    @classmethod
    def num_of(cls, dub_id: str) -> ScalarSelect[int]:
        """Number of languages of a dub, as a subquery."""
        return select(func.count()).select_from(cls).where(cls.dub_id == dub_id).scalar_subquery()


class Event(Base):
    __tablename__ = "events"

    dub_id: Mapped[str] = mapped_column(ForeignKey("dubs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String(24))
    data: Mapped[dict[str, Any]]
    created_s: Mapped[float]


class Edit(Base):
    """An edit of one line. It applies to every later revision."""

    __tablename__ = "edits"

    dub_id: Mapped[str] = mapped_column(ForeignKey("dubs.id", ondelete="CASCADE"), primary_key=True)
    utterance_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    text: Mapped[str | None] = mapped_column(Text)
    voice: Mapped[str | None] = mapped_column(String(120))
    created_s: Mapped[float]


class Charge(Base):
    """Media counted against an owner's day, once for each language, whenever it was made. Never changed."""

    __tablename__ = "charges"
    __table_args__ = (Index("charges_by_owner", "owner", "charged_s"), Index("charges_by_time", "charged_s"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    dub_id: Mapped[str] = mapped_column(String(40))
    media_s: Mapped[float]
    charged_s: Mapped[float]
    """Time of the charge, by the database's clock."""


class Instance(Base):
    """The mark that the data folder of this database has too. One row."""

    __tablename__ = "instance"

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(32))


class Stray(Base):
    """Media that no job has."""

    __tablename__ = "strays"

    dub_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    seen_s: Mapped[float]
    """Time at which this was first noticed."""


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    limits: Mapped[dict[str, Any]]
    created_s: Mapped[float]
    revoked_s: Mapped[float | None]


class CastRow(Base):
    """A cast of an owner: the speakers of a series, with their voices."""

    __tablename__ = "casts"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    data: Mapped[dict[str, Any]]
    """The content of a cast file."""
    num_speakers: Mapped[int]
    updated_s: Mapped[float]


class Delivery(Base):
    """A webhook call, repeated until it is answered or its attempts are used up."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_due", "delivered_s", "due_s"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dub_id: Mapped[str] = mapped_column(String(40))
    owner: Mapped[str] = mapped_column(String(80), default="")
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    num_attempts: Mapped[int]
    due_s: Mapped[float]
    delivered_s: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)

    @classmethod
    def of(cls, dub: Dub, url: str, state: DubState, error: str | None) -> Delivery:
        """The call that reports the end of a dub."""
        now_s = time.time()
        body = {"type": f"dub.{state.value}", "dub_id": dub.id, "created_s": now_s, "error": error}
        return cls(
            id=new_dub_id().replace("dub_", "msg_"),
            dub_id=dub.id,
            owner=dub.owner,
            url=url,
            body=json.dumps(body),
            num_attempts=0,
            due_s=now_s,
            delivered_s=None,
            error=None,
        )
