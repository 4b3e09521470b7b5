"""Names of a dub's files. Nothing that a person types becomes part of a path."""

from __future__ import annotations

import re
from pathlib import Path

from serve.ids import ID_PATTERN

UTTERANCE_PATTERN = r"^[A-Za-z0-9-]{1,35}:u[0-9]{1,9}(-[0-9]{1,5})?$"
ATTEMPT_PATTERN = "[0-9a-f]{32}"
DUBS = "dubs"


class DubPaths:
    """Paths below ``root``, one folder for each dub."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.dubs = root / DUBS
        self.instance = root / "instance"
        """The mark that the database has too."""

    def folder(self, dub_id: str) -> Path:
        if re.fullmatch(ID_PATTERN, dub_id) is None:
            raise ValueError(f"a job's id must look like {ID_PATTERN}, found {dub_id[:60]!r}")
        return self.dubs / dub_id

    def source(self, dub_id: str) -> Path:
        return self.folder(dub_id) / "source"

    def output(self, dub_id: str, name: str) -> Path:
        """The folder of one attempt. Attempts that overlap after a lost lease never share a folder."""
        if re.fullmatch(ATTEMPT_PATTERN, name) is None:
            raise ValueError(f"an attempt's name must be 32 hex digits, found {name[:60]!r}")
        return self.folder(dub_id) / name

    def newest(self, dub_id: str) -> Path:
        """The file with the name of the newest attempt."""
        return self.folder(dub_id) / "newest"

    def clip(self, dub_id: str, utterance_id: str) -> Path:
        if re.fullmatch(UTTERANCE_PATTERN, utterance_id) is None:
            raise ValueError(f"an utterance's id must look like {UTTERANCE_PATTERN}, found {utterance_id[:60]!r}")
        return self.folder(dub_id) / "clips" / f"{utterance_id.replace(':', '_')}.wav"

    def name_of(self, path: Path) -> str:
        """The path relative to the root, which is also the name of the file in a bucket."""
        return path.relative_to(self._root).as_posix()

    def without_paths(self, dub_id: str, name: str, message: str) -> str:
        """A message for the dub's owner, with ``name`` in place of the source's path."""
        return message.replace(str(self.source(dub_id)), name).replace(str(self.folder(dub_id)), "the dub's folder")
