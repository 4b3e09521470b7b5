"""Keys while the database answers, and while it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from serve.jobs import api_keys
from serve.jobs.api_keys import KeyRing, add_key, hash_key, list_keys, revoke_key
from serve.jobs.database import Database
from serve.settings import AuthSettings, ConfiguredKey, ServeSettings


class SilentDatabase(Database):
    """A database behind a host that drops every packet, once ``is_silent``."""

    is_silent = False

    def fall_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on it never answers. Before, a busy machine may take its time."""
        self.is_silent = True
        monkeypatch.setattr(api_keys, "READ_S", 0.05)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        if self.is_silent:
            await asyncio.Event().wait()
        async with super().reading() as session:
            yield session


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SilentDatabase]:
    monkeypatch.setattr(api_keys, "READ_S", 60.0)
    monkeypatch.setattr(api_keys, "READ_PAUSE_S", 0.0)
    async with SilentDatabase.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        assert isinstance(database, SilentDatabase)
        yield database


def with_key(key: str) -> ServeSettings:
    return ServeSettings(auth=AuthSettings(keys=(ConfiguredKey(name="one", sha256=hash_key(key)),)))


async def test_a_silent_database_stalls_no_request_with_a_known_key(
    database: SilentDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await add_key(database, "stored", None)
    key_ring = KeyRing(with_key("configured"), database)
    assert await key_ring.find(stored) is not None
    database.fall_silent(monkeypatch)
    for key in (stored, "configured"):
        finding = asyncio.ensure_future(key_ring.find(key))
        await asyncio.sleep(0)
        assert finding.done(), "it waits for the database"
    assert await key_ring.find("wrong") is None
    assert await key_ring.needs_key()


async def test_before_the_database_has_answered_only_configured_keys_are_known(
    database: SilentDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.fall_silent(monkeypatch)
    key_ring = KeyRing(with_key("configured"), database)
    assert await key_ring.find("configured") is not None
    with pytest.raises(ConnectionError, match="must answer"):
        await key_ring.find("another")
    with pytest.raises(ConnectionError, match="must answer"):
        await KeyRing(ServeSettings(), database, on_loopback=True).needs_key()


async def test_the_reading_of_keys_goes_on_in_the_background(database: SilentDatabase) -> None:
    key = await add_key(database, "stored", None)
    key_ring = KeyRing(ServeSettings(), database)
    assert await key_ring.find(key) is not None
    refreshing = asyncio.create_task(key_ring.refresh_forever())
    [row] = await list_keys(database)
    await revoke_key(database, row.id)
    found = await key_ring.find(key)
    while found is not None:
        await asyncio.sleep(0.01)
        found = await key_ring.find(key)
    refreshing.cancel()


@pytest.mark.parametrize(
    ("required", "on_loopback", "expected"),
    [(None, True, False), (None, False, True), (True, True, True), (False, False, False)],
)
async def test_who_needs_a_key_is_set_not_guessed(
    database: SilentDatabase, required: bool | None, on_loopback: bool, expected: bool
) -> None:
    settings = ServeSettings(auth=AuthSettings(required=required))
    assert await KeyRing(settings, database, on_loopback=on_loopback).needs_key() is expected


async def test_the_last_key_revoked_opens_nothing(database: SilentDatabase) -> None:
    await add_key(database, "first", None)
    [row] = await list_keys(database)
    await revoke_key(database, row.id)
    assert await KeyRing(ServeSettings(), database, on_loopback=True).needs_key()


async def test_a_key_made_just_after_a_read_is_known_at_its_first_request(
    database: SilentDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "READ_PAUSE_S", 0.2)
    key_ring = KeyRing(ServeSettings(), database)
    assert await key_ring.find("wrong") is None
    key = await add_key(database, "new", None)
    assert await key_ring.find(key) is not None


async def test_wrong_keys_share_reads(database: SilentDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "READ_S", 60.0)
    key_ring, num_reads, read = KeyRing(ServeSettings(), database), 0, KeyRing._read

    async def counted(self: KeyRing) -> None:
        nonlocal num_reads
        num_reads += 1
        await read(self)

    monkeypatch.setattr(KeyRing, "_read", counted)
    assert await asyncio.gather(*(key_ring.find(f"wrong {number}") for number in range(50))) == [None] * 50
    assert num_reads == 1
