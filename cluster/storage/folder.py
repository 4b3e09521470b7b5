"""A store's folder: its values are listed one by one, and kept within a limit of bytes.

A value's name is a hash, and its folder the first two digits: so each of these 256 parts holds about as much as any
other. A large store is watched and evicted a part at a time, so that a look costs a 256th of a listing, in time and in
memory. Each process looks at a part after its share of puts: many processes together look as often as one that puts as
much as all of them, and none has to know of the others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.framing import CHECKSUM_BYTES

log = logging.getLogger(__name__)

PARTS = tuple(f"{number:02x}" for number in range(256))
MIN_PART_VALUES = 200
"""Values in a part of a large store: with fewer, parts differ too much in size, and a listing of all is quick."""
EVICT_TO = 0.9
"""Share of the limit that is left after an eviction: else every later put would evict again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEntry:
    """A stored value, as the store lists it."""

    path: str
    task: str
    num_bytes: int
    used_s: float | None
    """Time of last use (of last change where no use is noted), in seconds since 1970."""


def list_values(root: str, part: str | None = None) -> Iterator[StoreEntry]:
    """All values in a store's folder, or those of one part. Raises OSError."""
    for task in _folders(root):
        for folder in _folders(task.path) if part is None else [Path(task.path) / part]:
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
                for file in found:
                    if len(file.name) == CHECKSUM_BYTES * 2:
                        with contextlib.suppress(FileNotFoundError):  # removed by another process
                            stat = file.stat()
                            yield StoreEntry(
                                path=file.path, task=task.name, num_bytes=stat.st_size, used_s=stat.st_mtime
                            )


def _folders(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return [entry for entry in found if entry.is_dir()]
    except FileNotFoundError:
        return []


class FolderLimit:
    """Keeps a store's folder within ``max_bytes``, as one of many processes that put values into it.

    Not safe to use from several threads.
    """

    def __init__(self, root: str, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._at = random.randrange(len(PARTS))  # noqa: S311  # no secret
        """Part that is looked at next; not the same one for all processes."""
        self._is_large: bool | None = None
        """None before the first look."""
        self._left_bytes = 0
        """Bytes that this process may put before it looks again."""

    def note_put(self, num_bytes: int) -> None:
        """Look after enough puts, and evict what is over the limit. Raises OSError."""
        self._left_bytes -= num_bytes
        if self._left_bytes > 0:
            return
        if self._is_large is None or self._is_large:
            self._is_large = self._look_at_part()
        if not self._is_large:
            self._is_large = self._look_at_all()

    def shrink(self, max_bytes: int) -> tuple[int, int]:
        """Remove the least recently used values until the rest fits; returns the numbers of values and bytes removed.

        A large store is shrunk part by part. Raises OSError.
        """
        num_in_part = sum(1 for _ in list_values(self._root, PARTS[self._at]))
        if num_in_part < MIN_PART_VALUES:
            return _shrink(list(list_values(self._root)), max_bytes)
        num_removed = bytes_removed = 0
        for part in PARTS:
            removed = _shrink(list(list_values(self._root, part)), max_bytes // len(PARTS))
            num_removed, bytes_removed = num_removed + removed[0], bytes_removed + removed[1]
        return num_removed, bytes_removed

    def _look_at_part(self) -> bool:
        """Evict what is too much of the next part; False if its values are too few to tell of the others."""
        entries = list(list_values(self._root, PARTS[self._at]))
        if len(entries) < MIN_PART_VALUES:
            return False
        self._at = (self._at + 1) % len(PARTS)
        self._left_bytes = int(self._max_bytes * (1 - EVICT_TO)) // len(PARTS)
        self._evict(entries, self._max_bytes // len(PARTS))
        return True

    def _look_at_all(self) -> bool:
        """Evict what is too much; True if the store is large."""
        entries = list(list_values(self._root))
        num_bytes = self._evict(entries, self._max_bytes)
        self._left_bytes = self._max_bytes - num_bytes + 1
        return len(entries) >= len(PARTS) * MIN_PART_VALUES

    def _evict(self, entries: list[StoreEntry], max_bytes: int) -> int:
        """The bytes that are left of these values."""
        num_bytes = sum(entry.num_bytes for entry in entries)
        if num_bytes <= max_bytes:
            return num_bytes
        num_removed, bytes_removed = _shrink(entries, int(max_bytes * EVICT_TO))
        log.info("store evicted values=%d bytes=%d", num_removed, bytes_removed)
        return num_bytes - bytes_removed


def _shrink(entries: list[StoreEntry], max_bytes: int) -> tuple[int, int]:
    entries.sort(key=lambda entry: entry.used_s or 0.0)
    excess = sum(entry.num_bytes for entry in entries) - max_bytes
    num_removed = bytes_removed = 0
    for entry in entries:
        if bytes_removed >= excess:
            break
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            os.unlink(entry.path)
        num_removed += 1
        bytes_removed += entry.num_bytes
    return num_removed, bytes_removed
