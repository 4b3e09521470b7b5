"""Files and names that outlive a power cut: on disk, not only on their way there."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems that cannot sync a folder, and need not."""


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (error.errno in CANNOT_SYNC and path.is_dir()):
            raise
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder with everything in it, is on disk. Raises OSError."""
    if path.is_dir():
        for child in path.iterdir():
            sync_tree(child)
    sync(path)


def make_folder(path: Path) -> None:
    """Make a folder and the missing ones above it; their names are then on disk. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):  # made by another process meanwhile
        path.mkdir()
    sync(path.parent)
