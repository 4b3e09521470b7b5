"""Files behind a URL that fsspec reads and writes, which every dispatcher reaches. Each appears whole or not at all."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from actors.errors import DubbingError, MediaError
from cluster import places
from cluster.store import is_s3, options_of

log = logging.getLogger(__name__)

T = TypeVar("T")


class BucketError(DubbingError):
    """It cannot be used now, though it was tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    num_bytes: int
    identity: str
    """Another one once the file has changed."""


class Bucket:
    """Names are paths below ``url``. Blocking; every method raises BucketError."""

    def __init__(self, url: str, *, timeout_s: float, patience_s: float) -> None:
        """Raises ConfigError for a URL that leads nowhere."""
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        self._fs, self._root = places.file_system(url, **options_of(url, timeout_s, max_concurrency=4))
        # Or s3fs would first ask for the size.
        self._whole = {"max_concurrency": 1} if is_s3(url) else {}
        if is_s3(url):
            self._fs.retries = 1  # s3fs would try five times, and each of ours again

    def check(self) -> None:
        """Write, read and remove a file."""
        name, data = f".raydub-{uuid.uuid4().hex}", b"raydub"
        self.write(name, data)
        if self.read(name) != data:
            raise BucketError(f"{self.url} must give back what was put there; it did not")
        self.remove(name)

    def find(self, name: str) -> Found | None:
        return self._told(name, lambda: self._find(name))

    def read(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                data: bytes = self._fs.cat_file(self._path(name), **self._whole)
            except FileNotFoundError:
                return None
            return data

        return self._told(name, read)

    def read_part(self, name: str, start: int, end: int) -> bytes:
        """Bytes of the half-open range, all of them. A file that is gone is a BucketError here."""

        def read() -> bytes:
            data: bytes = self._fs.cat_file(self._path(name), start=start, end=end)
            if len(data) != end - start:
                raise OSError(f"{len(data)} of {end - start} bytes came")
            return data

        return self._told(name, read)

    def write(self, name: str, data: bytes) -> None:
        self._told(name, lambda: self._fs.pipe_file(self._path(name), data))

    def put(self, file: Path, name: str, *, patiently: bool = False) -> None:
        self._told(name, lambda: places.put_file(self._fs, file, self._path(name)), patiently)

    def get(self, name: str, to: Path) -> bool:
        """False if there is no such file; patiently."""

        def get() -> bool:
            try:
                places.get_file(self._fs, self._path(name), to)
            except FileNotFoundError:
                return False
            return True

        return self._told(name, get, patiently=True)

    def children(self, name: str) -> Sequence[str]:
        """Names of what lies directly below."""

        def listed() -> list[str]:
            try:
                found = self._fs.ls(self._path(name), detail=False)
            except FileNotFoundError:
                return []
            return [f"{name}/{path.rstrip('/').rpartition('/')[2]}" for path in found]

        return self._told(name, listed)

    def remove(self, name: str) -> None:
        """A file, or all below a name. What is not there is removed already."""

        def remove() -> None:
            try:
                self._fs.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                return

        self._told(name, remove)

    def _find(self, name: str) -> Found | None:
        try:
            info = self._fs.info(self._path(name))
        except FileNotFoundError:
            return None
        return Found(num_bytes=int(info["size"]), identity=places.identity(info)) if info["type"] == "file" else None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _told(self, name: str, work: Callable[[], T], patiently: bool = False) -> T:
        place = f"{self.url}/{name}"
        try:
            return places.told(place, work, self._patience_s if patiently else 0.0)
        except MediaError as error:
            # Where it lies is for the log: the message is shown to whoever asked.
            log.warning("the bucket must answer; %s", error.message)
            raise BucketError("what the service keeps must be within reach; it is not now; try again later") from error
