"""The store's file format: a magic number, a checksum and the value.

The key is part of the checksum: a value under another value's name is found to be corrupt, too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from cluster.storage.keys import Key

MAGIC = b"raydub1\n"
CHECKSUM_BYTES = hashlib.sha256().digest_size
HEADER_BYTES = len(MAGIC) + CHECKSUM_BYTES
PART_BYTES = 2**20


class CorruptValueError(Exception):
    """A stored value differs from the one that was put."""


def framed(key: Key, value: bytes) -> bytes:
    """The value behind its header."""
    return MAGIC + _checksum(key, value) + value


def unframed(key: Key, data: bytes) -> bytes:
    """The value without its header. Raises CorruptValueError."""
    value = data[HEADER_BYTES:]
    if data[:HEADER_BYTES] != MAGIC + _checksum(key, value):
        raise _corrupt(key)
    return value


def frame_file(key: Key, value: Path, framed: Path) -> None:
    """Copy a file and put the header before it. Memory: one part."""
    with value.open("rb") as source, framed.open("wb") as target:
        target.write(bytes(HEADER_BYTES))
        checksum = _copy(key, source, target)
        target.seek(0)
        target.write(MAGIC + checksum)


def unframe_file(key: Key, framed: Path, value: Path) -> None:
    """Copy a file without its header. Raises CorruptValueError; the copy must then not be used."""
    with framed.open("rb") as source, value.open("wb") as target:
        header = source.read(HEADER_BYTES)
        checksum = _copy(key, source, target)
    if header != MAGIC + checksum:
        raise _corrupt(key)


def _copy(key: Key, source: BinaryIO, target: BinaryIO) -> bytes:
    """Copy the rest of ``source``; returns its checksum."""
    digest = hashlib.sha256(str(key).encode())
    while part := source.read(PART_BYTES):
        digest.update(part)
        target.write(part)
    return digest.digest()


def _checksum(key: Key, value: bytes) -> bytes:
    digest = hashlib.sha256(str(key).encode())
    digest.update(value)
    return digest.digest()


def _corrupt(key: Key) -> CorruptValueError:
    return CorruptValueError(f"{key} must be what was put; its checksum differs")
