"""What the service remembers: jobs, their languages, events and edits; keys; webhooks to deliver."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, ScalarSelect, String, Text, UniqueConstraint, func, select
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
    """Edited since it was made."""
    FAILED = "failed"


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON}


class Dub(Base):
    __tablename__ = "dubs"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("dubs_by_state", "state", "lease_until_s"),
        Index("dubs_by_owner", "owner", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    name: Mapped[str] = mapped_column(Text)
    """What a person called it; never a path."""
    source_url: Mapped[str | None] = mapped_column(Text)
    content_type: Mapped[str | None] = mapped_column(String(120))
    options: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    created_s: Mapped[float]
    """Times are seconds since the epoch, here and below."""
    updated_s: Mapped[float]
    duration_s: Mapped[float | None]
    """Of the media, once known."""
    charged_s: Mapped[float]
    """Media counted against the owner's quota: once for each language."""
    source_language: Mapped[str | None] = mapped_column(String(35))
    error: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[dict[str, Any]]
    revision: Mapped[int]
    """How many times it was made, counting edits."""
    output: Mapped[str | None] = mapped_column(String(40))
    """Folder of the newest results, inside the job's."""
    num_events: Mapped[int] = mapped_column(BigInteger)

    num_attempts: Mapped[int]
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until_s: Mapped[float]
    cancel_requested: Mapped[bool]

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    webhook_url: Mapped[str | None] = mapped_column(Text)
    deleted_s: Mapped[float | None]
    """Its media and texts are gone then; what is left counts against the owner's quota for a day."""


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
        """How many the dub has, inside another query."""
        return select(func.count()).select_from(cls).where(cls.dub_id == dub_id).scalar_subquery()


class Event(Base):
    __tablename__ = "events"

    dub_id: Mapped[str] = mapped_column(ForeignKey("dubs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String(24))
    data: Mapped[dict[str, Any]]
    created_s: Mapped[float]


class Edit(Base):
    """What a person wants of one line; kept, so that it holds in every later revision."""

    __tablename__ = "edits"

    dub_id: Mapped[str] = mapped_column(ForeignKey("dubs.id", ondelete="CASCADE"), primary_key=True)
    utterance_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    text: Mapped[str | None] = mapped_column(Text)
    voice: Mapped[str | None] = mapped_column(String(120))
    created_s: Mapped[float]


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    limits: Mapped[dict[str, Any]]
    created_s: Mapped[float]
    revoked_s: Mapped[float | None]


class Delivery(Base):
    """A webhook to call, until it has answered or its tries are spent."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_due", "delivered_s", "due_s"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dub_id: Mapped[str] = mapped_column(String(40))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    num_attempts: Mapped[int]
    due_s: Mapped[float]
    delivered_s: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)

    @classmethod
    def of(cls, dub: Dub, url: str, state: DubState, error: str | None) -> Delivery:
        """Tells that the dub has ended so."""
        now_s = time.time()
        body = {"type": f"dub.{state.value}", "dub_id": dub.id, "created_s": now_s, "error": error}
        return cls(
            id=new_dub_id().replace("dub_", "msg_"),
            dub_id=dub.id,
            url=url,
            body=json.dumps(body),
            num_attempts=0,
            due_s=now_s,
            delivered_s=None,
            error=None,
        )
