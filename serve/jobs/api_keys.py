"""API keys. Only their hashes are stored."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from actors.errors import ConfigError
from serve.jobs.database import Database
from serve.jobs.tables import ApiKey
from serve.settings import KeyLimits, ServeSettings

LOCAL = "local"
"""Owner of dubs that are made without a key."""
REFRESH_S = 5.0
"""Time for which a revoked key may still be accepted while the database answers."""
READ_S = 2.0
"""Time that a request with an unknown key waits for the keys of the database."""
MAX_READ_S = 30.0
"""Time after which a database that says nothing is asked anew."""
READ_PAUSE_S = 0.5
"""Time between two reads of the keys, however many requests have a wrong key."""
MAX_KEY_CHARS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The owner of a request. Nobody else sees the dubs that it makes."""

    owner: str
    limits: KeyLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    sha256: str
    caller: Caller


def hash_key(key: str) -> str:
    """The hash of a key. Keys have 256 random bits, so that a plain hash is safe."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """The keys of the configuration, of the environment, and of the database.

    Those of the database are read again in the background, so that a request with a known key never waits for it.
    """

    def __init__(self, settings: ServeSettings, database: Database, *, on_loopback: bool = False) -> None:
        """``on_loopback`` is true if only programs of this machine can reach the service, whatever a request says."""
        self._database = database
        self._required = settings.auth.required
        self._on_loopback = on_loopback
        self._default = settings.auth.limits
        self._configured = [
            _Known(sha256=key.sha256, caller=Caller(owner=f"config:{key.name}", limits=key.limits))
            for key in settings.configured_keys()
        ]
        self._stored: list[_Known] = []
        self._was_used = bool(self._configured)
        """True once any key was made, also if all are revoked."""
        self._read_s: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key: str) -> Caller | None:
        """The caller with this key; None for a wrong key. The time taken tells nothing about the keys that there are.

        Raises ConnectionError if the keys of the database could not be read yet.
        """
        digest = hash_key(key[:MAX_KEY_CHARS])
        found = self._match(digest)
        if found is None and len(key) <= MAX_KEY_CHARS:
            await self._read_again()  # it may have been made just now
            found = self._match(digest)
        return found if len(key) <= MAX_KEY_CHARS else None

    def limits_of(self, owner: str) -> KeyLimits:
        """The limits of an owner; the default ones if its key is gone."""
        callers = (known.caller for known in (*self._configured, *self._stored))
        return next((caller.limits for caller in callers if caller.owner == owner), self._default)

    async def needs_key(self) -> bool:
        """True if each request needs a key. It never depends on the request. Raises ConnectionError as ``find``."""
        if self._required is not None:
            return self._required
        return not self._on_loopback or await self.was_used()

    async def was_used(self) -> bool:
        """True once any key was made, also if all are revoked by now. Raises ConnectionError as ``find``."""
        if not self._was_used and self._read_s is None:
            await self._read_again()
        return self._was_used

    async def refresh_forever(self) -> None:
        while True:
            with contextlib.suppress(ConnectionError):  # keep the keys read before
                await self._read_again()
            await asyncio.sleep(REFRESH_S)

    def _match(self, digest: str) -> Caller | None:
        found = None
        for known in (*self._configured, *self._stored):
            if hmac.compare_digest(known.sha256, digest):
                found = known.caller
        return found

    async def _read_again(self) -> None:
        """Read the keys, READ_PAUSE_S after the last time at the soonest; callers share one read, and none waits longer
        than READ_S."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([self._reading], timeout=READ_S)
        if self._read_s is None:
            raise ConnectionError("the database must answer before keys are known; it does not at the moment")

    async def _read(self) -> None:
        if self._read_s is not None:
            await asyncio.sleep(self._read_s + READ_PAUSE_S - time.monotonic())
        async with asyncio.timeout(MAX_READ_S), self._database.reading() as session:
            rows = list(await session.scalars(select(ApiKey)))
        self._was_used = self._was_used or bool(rows)
        self._stored = [
            _Known(
                sha256=row.sha256,
                caller=Caller(
                    owner=f"key:{row.id}",
                    limits=KeyLimits.model_validate(row.limits) if row.limits else self._default,
                ),
            )
            for row in rows
            if row.revoked_s is None
        ]
        self._read_s = time.monotonic()


async def add_key(database: Database, name: str, limits: KeyLimits | None) -> str:
    """Make a new key. Only its hash is stored, so it cannot be shown again."""
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
    async with database.reading() as session:
        return list(await session.scalars(select(ApiKey).order_by(ApiKey.created_s)))


async def owner_named(database: Database, settings: ServeSettings, name: str) -> str:
    """The owner with this key: the id of a stored key, the name of a configured one, or "" for no key.

    Raises ConfigError.
    """
    if not name:
        return LOCAL
    if name in {key.name for key in settings.configured_keys()}:
        return f"config:{name}"
    if name in {key.id for key in await list_keys(database)}:
        return f"key:{name}"
    raise ConfigError(
        f"the key must be one of `raydub serve keys list`, or of serve.auth.keys by its name; found {name[:80]!r}"
    )


async def revoke_key(database: Database, key_id: str) -> None:
    """Raises ConfigError if there is no such valid key."""
    query = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_s.is_(None)).values(revoked_s=time.time())
    async with database.transaction() as session:
        revoked = (await session.execute(query.returning(ApiKey.id))).scalar_one_or_none()
    if revoked is None:
        raise ConfigError(f"the key must be one that `raydub serve keys list` shows as valid; found {key_id!r}")
