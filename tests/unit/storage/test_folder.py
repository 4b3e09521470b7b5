"""A store's folder within its limit: what a put lists does not grow with the number of values, nor of processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage import folder
from cluster.storage.folder import FolderLimit, StoreEntry, list_values

VALUE_BYTES = 10


def put(root: Path, number: int) -> None:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    path = root / "translation" / digest[:2] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"v" * VALUE_BYTES)
    os.utime(path, (number, number))


@pytest.fixture
def num_listed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Adds up the values that were listed; parts of four values are large ones."""
    number = [0]

    def counted(root: str, part: str | None = None) -> Iterator[StoreEntry]:
        for entry in list_values(root, part):
            number[0] += 1
            yield entry

    monkeypatch.setattr(folder, "list_values", counted)
    monkeypatch.setattr(folder, "MIN_PART_VALUES", 2)
    monkeypatch.setattr(folder.random, "randrange", lambda end: 0)
    return number


def total_bytes(root: Path) -> int:
    return sum(entry.num_bytes for entry in list_values(str(root)))


def test_a_look_at_a_large_store_lists_one_part(tmp_path: Path, num_listed: list[int]) -> None:
    num_values = 2560
    for number in range(num_values):
        put(tmp_path, number)
    limit = FolderLimit(str(tmp_path), 100 * num_values * VALUE_BYTES)
    limit.note_put(VALUE_BYTES)
    assert num_listed[0] < num_values / 50


def test_many_processes_keep_a_large_store_near_its_limit(tmp_path: Path, num_listed: list[int]) -> None:
    """Each looks as often as it puts; none knows of the others. The oldest values go."""
    num_values = 4000
    for number in range(num_values):
        put(tmp_path, number)
    max_bytes = num_values * VALUE_BYTES
    limits = [FolderLimit(str(tmp_path), max_bytes) for _ in range(20)]
    for at, limit in enumerate(limits):
        limit._at = at * 13 % len(folder.PARTS)
    for number in range(num_values, 3 * num_values):
        put(tmp_path, number)
        limits[number % len(limits)].note_put(VALUE_BYTES)
    assert total_bytes(tmp_path) < 1.2 * max_bytes
    oldest_s = sorted(entry.used_s or 0.0 for entry in list_values(str(tmp_path)))
    assert oldest_s[len(oldest_s) // 10] > num_values


def test_a_small_store_is_listed_whole_and_keeps_its_limit(tmp_path: Path) -> None:
    limit = FolderLimit(str(tmp_path), 50 * VALUE_BYTES)
    for number in range(200):
        put(tmp_path, number)
        limit.note_put(VALUE_BYTES)
        assert total_bytes(tmp_path) <= 50 * VALUE_BYTES
    assert {int(entry.used_s or 0.0) for entry in list_values(str(tmp_path))} <= set(range(150, 200))
