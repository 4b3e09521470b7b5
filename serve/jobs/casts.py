"""Casts of the service's keys: the speakers of a series with their voices, kept in the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from actors.errors import CapacityError
from cluster.casting.cast_file import CastFile, check_model, encoded, merged
from serve.errors import NotFoundError
from serve.jobs.database import Database
from serve.jobs.quotas import RETRY_NEXT_DAY_S, lock_owner
from serve.jobs.tables import CastRow
from serve.settings import KeyLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CastSummary:
    name: str
    num_speakers: int
    updated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Casts:
    """The casts of all owners; nobody sees those of another."""

    database: Database
    limits_of: Callable[[str], KeyLimits]
    """The limits of an owner."""

    async def every(self, owner: str) -> list[CastSummary]:
        """All casts of an owner, by name."""
        query = select(CastRow.name, CastRow.num_speakers, CastRow.updated_s).where(CastRow.owner == owner)
        async with self.database.reading() as session:
            rows = (await session.execute(query.order_by(CastRow.name))).all()
        return [CastSummary(name=name, num_speakers=number, updated_s=updated_s) for name, number, updated_s in rows]

    async def find(self, owner: str, name: str) -> CastFile | None:
        async with self.database.reading() as session:
            row = await session.get(CastRow, (owner, name))
        return None if row is None else await asyncio.to_thread(CastFile.model_validate, row.data)

    async def get(self, owner: str, name: str) -> CastFile:
        """Raises NotFoundError, also for a cast of another owner."""
        found = await self.find(owner, name)
        if found is None:
            raise _not_found(name)
        return found

    async def put(self, owner: str, name: str, cast: CastFile) -> CastSummary:
        """Keep a cast, in place of the one of that name. Raises ConfigError if it is too large, CapacityError."""
        data = await asyncio.to_thread(_data, cast)
        async with self.database.transaction() as session:
            await lock_owner(self.database, session, owner)
            row = await session.get(CastRow, (owner, name))
            return await self._write(session, owner, name, row, data)

    async def delete(self, owner: str, name: str) -> None:
        """Raises NotFoundError, also for a cast of another owner."""
        gone = delete(CastRow).where(CastRow.owner == owner, CastRow.name == name).returning(CastRow.name)
        async with self.database.transaction() as session:
            if (await session.execute(gone)).scalar_one_or_none() is None:
                raise _not_found(name)

    async def check(self, owner: str, name: str, model: str) -> None:
        """Check that a dub may use a cast, or make it.

        Raises ConfigError if another voice model made it, CapacityError if there is none and no room for one.
        """
        found = await self.find(owner, name)
        if found is not None:
            check_model(found, model, f"the cast {name}")
            return
        async with self.database.reading() as session:
            await self._check_room(session, owner)

    async def merge(self, owner: str, name: str, before: CastFile, after: CastFile, min_likeness: float) -> None:
        """Add what a dub changed in its copy of a cast. One that was deleted since the dub began stays deleted.

        Raises ConfigError if the cast is of another voice model by now, or grows too large, and CapacityError.
        """
        async with self.database.transaction() as session:
            await lock_owner(self.database, session, owner)
            row = await session.get(CastRow, (owner, name))
            if row is None and before.speakers:
                log.info("cast deleted while its dub ran cast=%s", name)
                return
            data = await asyncio.to_thread(_merged_data, row, name, before, after, min_likeness)
            await self._write(session, owner, name, row, data)

    async def _write(
        self, session: AsyncSession, owner: str, name: str, row: CastRow | None, data: dict[str, Any]
    ) -> CastSummary:
        if row is None:
            await self._check_room(session, owner)
            row = CastRow(owner=owner, name=name)
            session.add(row)
        row.data, row.num_speakers, row.updated_s = data, len(data["speakers"]), time.time()
        await session.flush()
        return CastSummary(name=name, num_speakers=row.num_speakers, updated_s=row.updated_s)

    async def _check_room(self, session: AsyncSession, owner: str) -> None:
        limit = self.limits_of(owner).max_casts
        query = select(func.count()).select_from(CastRow).where(CastRow.owner == owner)
        if (await session.execute(query)).scalar_one() >= limit:
            raise CapacityError(
                f"a key may have {limit} casts, and has; delete some, or use one of them",
                retry_after_s=RETRY_NEXT_DAY_S,
            )


def _data(cast: CastFile) -> dict[str, Any]:
    encoded(cast)  # for its limit
    return cast.model_dump(mode="json")


def _merged_data(
    row: CastRow | None, name: str, before: CastFile, after: CastFile, min_likeness: float
) -> dict[str, Any]:
    known = CastFile(model=after.model) if row is None else CastFile.model_validate(row.data)
    check_model(known, after.model, f"the cast {name}")
    return _data(merged(known, before, after, min_likeness))


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"a cast must exist and be yours; found none with the name {name[:64]}")
