"""A bucket: files behind a URL that fsspec reads and writes. Each file appears whole or not at all."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from actors.errors import DubbingError, MediaError
from cluster.storage import locations
from cluster.storage.store import is_s3, options_of

log = logging.getLogger(__name__)

T = TypeVar("T")


class BucketError(DubbingError):
    """The bucket does not answer, even after retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketEntry:
    num_bytes: int
    identity: str
    """Changes when the file changes."""


class Bucket:
    """Reads and writes files by names, which are paths below ``url``. Methods block and raise BucketError."""

    def __init__(self, url: str, *, timeout_s: float, patience_s: float) -> None:
        """Raises ConfigError if the URL cannot be opened. ``patience_s`` limits retries of whole files."""
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        self._fs, self._root = locations.file_system(url, **options_of(url, timeout_s, max_concurrency=4))
        # Without this, s3fs asks for the size first.
        self._whole = {"max_concurrency": 1} if is_s3(url) else {}
        if is_s3(url):
            self._fs.retries = 1  # with_retries already tries again; s3fs would try five times for each of these

    def check(self) -> None:
        """Write, read and remove a file, to see that the bucket can be used."""
        name, data = f".raydub-{uuid.uuid4().hex}", b"raydub"
        self.write(name, data)
        if self.read(name) != data:
            raise BucketError(f"{self.url} must give back what was written there; it did not")
        self.remove(name)

    def find(self, name: str) -> BucketEntry | None:
        return self._try(name, lambda: self._find(name))

    def read(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                data: bytes = self._fs.cat_file(self._path(name), **self._whole)
            except FileNotFoundError:
                return None
            return data

        return self._try(name, read)

    def read_part(self, name: str, start: int, end: int) -> bytes:
        """All bytes of the half-open range. Raises BucketError also if the file is gone."""

        def read() -> bytes:
            data: bytes = self._fs.cat_file(self._path(name), start=start, end=end)
            if len(data) != end - start:
                raise OSError(f"{len(data)} of {end - start} bytes came")
            return data

        return self._try(name, read)

    def write(self, name: str, data: bytes) -> None:
        self._try(name, lambda: self._fs.pipe_file(self._path(name), data))

    def put(self, file: Path, name: str, *, patiently: bool = False) -> None:
        self._try(name, lambda: locations.put_file(self._fs, file, self._path(name)), patiently)

    def get(self, name: str, to: Path) -> bool:
        """Download a file, with retries for ``patience_s``. Returns False if it does not exist."""

        def get() -> bool:
            try:
                locations.get_file(self._fs, self._path(name), to)
            except FileNotFoundError:
                return False
            return True

        return self._try(name, get, patiently=True)

    def children(self, name: str) -> Sequence[str]:
        """Names of the files and folders directly below ``name``."""

        def listed() -> list[str]:
            try:
                found = self._fs.ls(self._path(name), detail=False)
            except FileNotFoundError:
                return []
            return [f"{name}/{path.rstrip('/').rpartition('/')[2]}" for path in found]

        return self._try(name, listed)

    def size(self, name: str) -> int:
        """Size of all files below ``name``."""

        def size() -> int:
            try:
                return int(self._fs.du(self._path(name), total=True))
            except FileNotFoundError:
                return 0

        return self._try(name, size)

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all its files. It is no error if there is none."""

        def remove() -> None:
            try:
                self._fs.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                return

        self._try(name, remove)

    def _find(self, name: str) -> BucketEntry | None:
        try:
            info = self._fs.info(self._path(name))
        except FileNotFoundError:
            return None
        if info["type"] != "file":
            return None
        return BucketEntry(num_bytes=int(info["size"]), identity=locations.identity(info))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _try(self, name: str, work: Callable[[], T], patiently: bool = False) -> T:
        url = f"{self.url}/{name}"
        try:
            return locations.with_retries(url, work, self._patience_s if patiently else 0.0)
        except MediaError as error:
            # The URL is only logged: clients see the message.
            log.warning("the bucket must answer; %s", error.message)
            raise BucketError("the service's storage must answer; it does not now; try again later") from error
