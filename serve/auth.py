"""Who asks: API keys, known by their hashes alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from actors.errors import ConfigError
from serve.database import Database
from serve.settings import KeyLimits, ServeSettings
from serve.tables import ApiKey

REFRESH_S = 5.0
"""How long a revoked key may go on working."""
MAX_KEY_CHARS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever is behind a request; what they make is theirs alone."""

    owner: str
    limits: KeyLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    sha256: str
    caller: Caller


def hash_key(key: str) -> str:
    """Keys are 256 bits of chance, so that a plain hash cannot be undone."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """The keys of the configuration, of the environment, and of the database."""

    def __init__(self, settings: ServeSettings, database: Database) -> None:
        self._database = database
        self._default = settings.auth.limits
        self._configured = [
            _Known(sha256=key.sha256, caller=Caller(owner=f"config:{key.name}", limits=key.limits))
            for key in settings.configured_keys()
        ]
        self._stored: list[_Known] = []
        self._read_s: float | None = None

    async def find(self, key: str) -> Caller | None:
        """Whose key it is. Takes as long for any wrong key as for a right one."""
        await self._refresh()
        digest = hash_key(key[:MAX_KEY_CHARS])
        found = None
        for known in (*self._configured, *self._stored):
            if hmac.compare_digest(known.sha256, digest):
                found = known.caller
        return found if len(key) <= MAX_KEY_CHARS else None

    async def is_empty(self) -> bool:
        """Whether no key is known."""
        if self._configured:
            return False
        await self._refresh()
        return not self._stored

    async def _refresh(self) -> None:
        now_s = time.monotonic()
        if self._read_s is not None and now_s - self._read_s < REFRESH_S:
            return
        try:
            async with self._database.transaction() as session:
                rows = list(await session.scalars(select(ApiKey).where(ApiKey.revoked_s.is_(None))))
        except (SQLAlchemyError, OSError):
            if self._read_s is None:
                raise
            return  # the database is gone for now: those known so far go on being known
        self._stored = [
            _Known(
                sha256=row.sha256,
                caller=Caller(
                    owner=f"key:{row.id}",
                    limits=KeyLimits.model_validate(row.limits) if row.limits else self._default,
                ),
            )
            for row in rows
        ]
        self._read_s = now_s


async def add_key(database: Database, name: str, limits: KeyLimits | None) -> str:
    """A new key, which is told only now."""
    key_id = secrets.token_hex(4)
    key = f"rd_{key_id}_{secrets.token_urlsafe(32)}"
    async with database.transaction() as session:
        session.add(
            ApiKey(
                id=key_id,
                name=name,
                sha256=hash_key(key),
                limits=limits.model_dump() if limits else {},
                created_s=time.time(),
                revoked_s=None,
            )
        )
    return key


async def list_keys(database: Database) -> Sequence[ApiKey]:
    async with database.transaction() as session:
        return list(await session.scalars(select(ApiKey).order_by(ApiKey.created_s)))


async def revoke_key(database: Database, key_id: str) -> None:
    """Raises ConfigError if there is no such key."""
    query = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_s.is_(None)).values(revoked_s=time.time())
    async with database.transaction() as session:
        revoked = (await session.execute(query.returning(ApiKey.id))).scalar_one_or_none()
    if revoked is None:
        raise ConfigError(f"the key must be one that `raydub serve keys list` shows as valid; found {key_id!r}")
