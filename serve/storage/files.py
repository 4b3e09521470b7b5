"""The media of dubs, as the service reads and writes them, whether they are in a folder or in a bucket."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Protocol

import numpy as np

from actors.types import Clip
from actors.wav import wav_file
from serve.storage.paths import DubPaths

COPY_BYTES = 2**20


class StoredObject(Protocol):
    """A file in the service's storage that this process reads over the network."""

    @property
    def num_bytes(self) -> int: ...

    @property
    def identity(self) -> str:
        """Changes when the file changes."""

    def read_part(self, start: int, end: int) -> bytes:
        """All bytes of the half-open range. Raises BucketError, also if the file is gone."""


class JobFiles(Protocol):
    """Where the media of dubs are kept. Files are named by paths that ``paths`` makes.

    Methods block: call them on a thread. Those that reach a bucket raise BucketError.
    """

    paths: DubPaths
    is_shared: bool
    """True if every dispatcher sees the files of ``paths`` as they are written, without ``publish``."""

    @abstractmethod
    def exists(self, path: Path) -> bool: ...

    @abstractmethod
    def find(self, path: Path) -> Path | StoredObject | None:
        """The file to send to a client; None if it does not exist."""

    @abstractmethod
    def read(self, path: Path) -> bytes | None:
        """None if the file does not exist."""

    @abstractmethod
    def write(self, path: Path, data: bytes) -> None:
        """Write the whole file, or nothing."""

    @abstractmethod
    def publish(self, made: Path, path: Path) -> Path:
        """Make the local file ``made`` visible to every dispatcher as ``path``. Returns its local path from now on."""

    @abstractmethod
    def publish_results(self, output: Path) -> None:
        """Publish all files in ``output``, the manifest last, so that a manifest's files are always there."""

    @abstractmethod
    def bring(self, path: Path) -> bool:
        """Make the file available locally. Returns False if it does not exist."""

    @abstractmethod
    def local_copy(self, path: Path) -> AbstractContextManager[Path]:
        """A local path of the file, in a folder that may be written to. Raises FileNotFoundError."""

    @abstractmethod
    def release(self, dub_id: str) -> None:
        """Remove the local copies of files that are published."""

    @abstractmethod
    def remove_other_attempts(self, dub_id: str, name: str) -> None:
        """Remove the results of every attempt but ``name``."""

    @abstractmethod
    def delete(self, dub_id: str) -> None: ...

    @abstractmethod
    def dub_ids(self) -> Sequence[str]:
        """Ids of all dubs that have files."""

    @abstractmethod
    def has_room(self, more_bytes: int = 0) -> bool:
        """True if this machine has room for ``more_bytes`` of files. May walk the folder."""

    @abstractmethod
    def stored_bytes(self, dub_id: str) -> int:
        """Size of all files of a dub."""

    @abstractmethod
    def describe(self, path: Path) -> str:
        """The location of a file, for the operator."""

    # --- the same for every implementation

    def save_source(self, dub_id: str, upload: BinaryIO) -> tuple[Path, int]:
        """Save an upload locally; it must still be published. Returns its path and its size in bytes."""
        path = self.paths.source(dub_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(upload, file, COPY_BYTES)
            return path, file.tell()

    def save_clip(self, dub_id: str, utterance_id: str, clip: Clip) -> None:
        pcm = np.clip(clip.samples, -1, 1) * 32767
        self.write(self.paths.clip(dub_id, utterance_id), wav_file(pcm, clip.sample_hz))

    def new_output(self, dub_id: str) -> tuple[str, Path]:
        """The name and the folder of a new attempt."""
        name = uuid.uuid4().hex
        self.write(self.paths.newest(dub_id), name.encode())
        return name, self.paths.output(dub_id, name)

    def newest_output(self, dub_id: str, finished: str | None) -> Path | None:
        """The folder of the ``finished`` attempt, else of the newest one; None if there is no attempt yet."""
        if finished is None:
            newest = self.read(self.paths.newest(dub_id))
            finished = None if newest is None else newest.decode()
        return None if finished is None else self.paths.output(dub_id, finished)


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder. Files and folders that are removed meanwhile count nothing."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)  # walk ignores what is gone
    return sum(map(_file_bytes, files))


def _file_bytes(path: Path) -> int:
    """Size of a file; zero if it was removed meanwhile."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_size if S_ISREG(stat.st_mode) else 0
    return 0


def has_free_bytes(folder: Path, num_bytes: int) -> bool:
    """True if the disk of a folder, which need not exist yet, has so many bytes free."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(existing).free >= num_bytes
