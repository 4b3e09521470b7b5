"""Files that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import contextlib
import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.durable import sync

ASIDE_PREFIX = ".aside-"
"""Begins the names of files that are still being written; those of killed processes stay behind."""


def is_full(error: BaseException) -> bool:
    """True for the error of a disk without room, or of a user who may use no more of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A path for a temporary file in the folder of ``path``; the file is removed at the end of the block."""
    # A name of its own, not the target's with a suffix: that one may already be as long as names can be.
    temporary = path.with_name(f"{ASIDE_PREFIX}{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write to; the file there takes the place of ``path`` at the end of the block.

    A reader never sees half of it, and a failure leaves what was at ``path``. A power cut may leave any part of it.
    """
    with aside(path) as temporary:
        yield temporary
        temporary.replace(path)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, whatever happens; once written it is on disk.

    Raises OSError, and then leaves what was there.
    """
    with replaced(path) as temporary:
        temporary.write_bytes(data)
        sync(temporary)
    sync(path.parent)
