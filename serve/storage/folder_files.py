"""Media in a folder that every dispatcher sees."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from actors.durable import make_folder, sync
from cluster.storage.files import replace_bytes
from serve.ids import ID_PATTERN
from serve.storage.files import JobFiles, folder_bytes, has_free_bytes
from serve.storage.paths import DubPaths


class FolderFiles(JobFiles):
    """Files under ``root``, which every dispatcher reads and writes. Its disk keeps ``min_free_bytes`` free."""

    is_shared = True

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self.paths = DubPaths(root)
        self._root = root
        self._min_free_bytes = min_free_bytes

    def exists(self, path: Path) -> bool:
        return path.exists()

    def find(self, path: Path) -> Path | None:
        return path if path.exists() else None

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: Path, data: bytes) -> None:
        make_folder(path.parent)
        replace_bytes(path, data)

    def publish(self, made: Path, path: Path) -> Path:
        sync(made)
        made.replace(path)
        for folder in path.parents:
            sync(folder)
            if folder == self._root:
                break
        return path

    def publish_results(self, output: Path) -> None:
        pass

    def bring(self, path: Path) -> bool:
        return path.exists()

    @contextmanager
    def local_copy(self, path: Path) -> Iterator[Path]:
        yield path

    def release(self, dub_id: str) -> None:
        pass

    def remove_other_attempts(self, dub_id: str, name: str) -> None:
        for path in self.paths.folder(dub_id).iterdir():
            if path.is_dir() and path.name not in (name, "clips"):
                shutil.rmtree(path, ignore_errors=True)

    def delete(self, dub_id: str) -> None:
        shutil.rmtree(self.paths.folder(dub_id), ignore_errors=True)

    def dub_ids(self) -> Sequence[str]:
        names = [path.name for path in self.paths.dubs.iterdir()] if self.paths.dubs.is_dir() else []
        return [name for name in names if re.fullmatch(ID_PATTERN, name)]

    def stored_bytes(self, dub_id: str) -> int:
        return folder_bytes(self.paths.folder(dub_id))

    def describe(self, path: Path) -> str:
        return str(path)

    def has_room(self, more_bytes: int = 0) -> bool:
        return has_free_bytes(self._root, self._min_free_bytes + more_bytes)
