"""Media in a bucket, with local copies only while this dispatcher works on them."""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from cluster.storage.outputs import MANIFEST_NAME
from serve.ids import ID_PATTERN
from serve.storage.bucket import Bucket
from serve.storage.files import JobFiles, folder_bytes, has_free_bytes
from serve.storage.paths import ATTEMPT_PATTERN, DUBS, DubPaths

FIRST, THEN, LAST = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketFile:
    num_bytes: int
    identity: str
    bucket: Bucket
    name: str

    def read_part(self, start: int, end: int) -> bytes:
        return self.bucket.read_part(self.name, start, end)


class BucketFiles(JobFiles):
    """Files in ``bucket``. ``root`` is a folder of this dispatcher alone, for at most ``max_bytes`` of local copies.

    Its disk keeps ``min_free_bytes`` free.
    """

    is_shared = False

    def __init__(self, root: Path, bucket: Bucket, max_bytes: int, min_free_bytes: int = 0) -> None:
        self.paths = DubPaths(root)
        self._root = root
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes

    def exists(self, path: Path) -> bool:
        return self._bucket.find(self.paths.name_of(path)) is not None

    def find(self, path: Path) -> BucketFile | None:
        name = self.paths.name_of(path)
        found = self._bucket.find(name)
        if found is None:
            return None
        return BucketFile(num_bytes=found.num_bytes, identity=found.identity, bucket=self._bucket, name=name)

    def read(self, path: Path) -> bytes | None:
        return self._bucket.read(self.paths.name_of(path))

    def write(self, path: Path, data: bytes) -> None:
        self._bucket.write(self.paths.name_of(path), data)

    def publish(self, made: Path, path: Path) -> Path:
        self._bucket.put(made, self.paths.name_of(path), patiently=True)
        return made

    def publish_results(self, output: Path) -> None:
        for file in sorted((path for path in output.rglob("*") if path.is_file()), key=_publish_order):
            self.publish(file, file)

    def bring(self, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._bucket.get(self.paths.name_of(path), path)

    @contextmanager
    def local_copy(self, path: Path) -> Iterator[Path]:
        folder = self._root / "copies" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            if not self._bucket.get(self.paths.name_of(path), folder / path.name):
                raise FileNotFoundError(self.paths.name_of(path))
            yield folder / path.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def release(self, dub_id: str) -> None:
        shutil.rmtree(self.paths.folder(dub_id), ignore_errors=True)

    def remove_other_attempts(self, dub_id: str, name: str) -> None:
        for found in self._bucket.children(self.paths.name_of(self.paths.folder(dub_id))):
            last = found.rpartition("/")[2]
            if last != name and re.fullmatch(ATTEMPT_PATTERN, last):
                self._bucket.remove(found)

    def delete(self, dub_id: str) -> None:
        self.release(dub_id)
        self._bucket.remove(self.paths.name_of(self.paths.folder(dub_id)))

    def dub_ids(self) -> Sequence[str]:
        names = [name.rpartition("/")[2] for name in self._bucket.children(DUBS)]
        return [name for name in names if re.fullmatch(ID_PATTERN, name)]

    def stored_bytes(self, dub_id: str) -> int:
        return self._bucket.size(self.paths.name_of(self.paths.folder(dub_id)))

    def describe(self, path: Path) -> str:
        return f"{self._bucket.url}/{self.paths.name_of(path)}"

    def has_room(self, more_bytes: int = 0) -> bool:
        fits = folder_bytes(self._root) + more_bytes < self._max_bytes
        return fits and has_free_bytes(self._root, self._min_free_bytes + more_bytes)


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """A new folder in ``folder``, removed at the end. Also removes those that killed processes have left."""
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / uuid.uuid4().hex
    lock = filelock.FileLock(f"{own}.lock", thread_local=False)
    with filelock.FileLock(folder / "lock"):
        for left in folder.glob("*.lock"):
            with contextlib.suppress(filelock.Timeout), filelock.FileLock(left, blocking=False):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
        lock.acquire()
        own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _publish_order(path: Path) -> tuple[int, str]:
    """Segments before the playlists that name them, and the manifest after everything."""
    return (LAST if path.name == MANIFEST_NAME else THEN if path.suffix == ".m3u8" else FIRST), path.name
