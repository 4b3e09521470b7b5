"""Finds out what file system a file is on."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
REMOTE = re.compile(
    r"^(nfs\d?|cifs|smb\d?|smbfs|fuse|fuse\..*|9p|afs|beegfs|ceph|gfs2|glusterfs|gpfs|lustre|ocfs2|orangefs|virtiofs)$"
)
"""Types of file systems that other machines may write to at the same time."""


def remote_type(path: Path) -> str | None:
    """The type of the file system that ``path`` is or will be on, if machines may share it; None if it is local."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux
        return None
    kind = file_system_type(path.resolve(), mounts)
    return kind if kind is not None and REMOTE.match(kind) else None


def file_system_type(path: Path, mounts: str) -> str | None:
    """The type of the innermost mount above ``path`` in the text of ``/proc/self/mountinfo``."""
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5 or not kinds[0]:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        # Later mounts cover earlier ones at the same place.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kinds[0]
    return None if found is None else found[1]
