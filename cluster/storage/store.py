"""A content-addressed store of results: in a folder, a bucket or a dictionary, by way of fsspec.

Values are written whole or not at all, and carry a checksum: a truncated or damaged one is removed, and
is then missing. A store that is slow, full or down costs speed, never the job: it is left alone for a
while, and its values are computed again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import tenacity
from fsspec.implementations.local import LocalFileSystem

from actors.errors import ConfigError
from cluster.storage.circuit_breaker import CircuitBreaker
from cluster.storage.config import StoreConfig
from cluster.storage.files import ASIDE_PREFIX, aside, replaced
from cluster.storage.folder import FolderLimit, StoreEntry, list_values
from cluster.storage.framing import (
    CHECKSUM_BYTES,
    HEADER_BYTES,
    CorruptValueError,
    frame_file,
    framed,
    unframe_file,
    unframed,
)
from cluster.storage.keys import Key
from cluster.storage.locations import get_file

log = logging.getLogger(__name__)

T = TypeVar("T")

NONE = "none"

TOUCH_AFTER_S = 3600.0
"""Resolution of a value's time of last use: to write it at every use would cost more than reading some values."""
TIME_FIELDS = ("mtime", "LastModified", "updated", "created")
"""Fields in which fsspec's file systems give the time of last change, each under its own name."""
ASIDE_MAX_AGE_S = 3600.0
"""Older temporary files were left by processes that were killed."""


class StoreError(Exception):
    """The store cannot be used now."""


def open_store(config: StoreConfig) -> Store | None:
    """The configured store; None if nothing is to be stored. Raises ConfigError for a URL that leads nowhere."""
    url = config.resolved_url()
    if url == NONE:
        return None
    try:
        # One connection a value, or s3fs would first ask for the size of each.
        fs, root = fsspec.url_to_fs(url, **options_of(url, config.timeout_s, max_concurrency=1))
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"store.url must be a folder, s3://…, gs://…, memory://… or none; found {url!r}: {error}; "
            "for buckets: pip install 'raydub[s3]' or 'raydub[gcs]'"
        ) from error
    return LocalStore(fs, root, config) if isinstance(fs, LocalFileSystem) else Store(fs, root, config)


def options_of(url: str, timeout_s: float, *, max_concurrency: int) -> dict[str, Any]:
    """fsspec's options for a caller with retries of its own: one attempt, which ends after ``timeout_s``."""
    if not is_s3(url):
        return {}
    limits = {"connect_timeout": timeout_s, "read_timeout": timeout_s, "retries": {"max_attempts": 0}}
    # An instance of our own: its retries are turned off, which other users of s3fs in this process must not see.
    return {"config_kwargs": limits, "max_concurrency": max_concurrency, "skip_instance_cache": True}


def is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))


class Store:
    """A store on any fsspec file system whose ``pipe_file`` is atomic, as that of buckets is.

    Blocking, and safe to use from several threads and processes.
    """

    def __init__(self, fs: Any, root: str, config: StoreConfig) -> None:
        self.url = fs.unstrip_protocol(root)
        self._fs = fs
        self._root = root.rstrip("/")
        self._config = config
        if hasattr(fs, "retries"):
            fs.retries = 1  # s3fs would try five times, and each of ours again
        # One each: a full disk can still be read.
        self._reads = CircuitBreaker(f"reads of {self.url}", config.pause_s)
        self._writes = CircuitBreaker(f"writes to {self.url}", config.pause_s)

    @property
    def is_readable(self) -> bool:
        """False for a while after a read failed."""
        return not self._reads.is_open

    @property
    def is_writable(self) -> bool:
        """False for a while after a write failed."""
        return not self._writes.is_open

    def get(self, key: Key) -> bytes | None:
        """The value under ``key``; None if there is none. Raises StoreError, CorruptValueError.

        A corrupt value is removed.
        """
        try:
            data = self._attempt(lambda: self._read(self._path(key)), self._reads)
        except FileNotFoundError:
            return None
        try:
            return unframed(key, data)
        except CorruptValueError:
            log.warning("stored value is corrupt, removed key=%s bytes=%d", key, len(data))
            self.discard(key)
            raise

    def discard(self, key: Key) -> None:
        """Remove a useless value. A failure is ignored."""
        with contextlib.suppress(StoreError, FileNotFoundError):
            self._attempt(lambda: self._fs.rm_file(self._path(key)), self._writes)

    def put(self, key: Key, value: bytes) -> None:
        """Store a value, whole or not at all; one that is there already is replaced. Raises StoreError."""
        data = framed(key, value)
        self._put(lambda: self._write(self._path(key), data), len(data))

    def get_file(self, key: Key, path: Path) -> bool:
        """Write the value under ``key`` to ``path``, in parts; False if there is none. Raises as ``get``."""
        with aside(path) as stored:
            try:
                self._attempt(lambda: self._read_file(self._path(key), stored), self._reads)
            except FileNotFoundError:
                return False
            try:
                with replaced(path) as value:
                    unframe_file(key, stored, value)
            except CorruptValueError:
                log.warning("stored value is corrupt, removed key=%s", key)
                self.discard(key)
                raise
        return True

    def put_file(self, key: Key, path: Path) -> None:
        """Store a file's content, in parts. A file larger than the store is not stored. Raises StoreError."""
        num_bytes = HEADER_BYTES + path.stat().st_size
        if num_bytes > self._config.max_bytes:
            return
        with aside(path) as stored:
            frame_file(key, path, stored)
            self._put(lambda: self._write_file(self._path(key), stored), num_bytes)

    def _put(self, write: Callable[[], None], num_bytes: int) -> None:
        try:
            self._attempt(write, self._writes)
        except FileNotFoundError as error:
            self._writes.note_failure(error)
            raise StoreError(f"{self.url} must exist: {error}") from error
        self._note_put(num_bytes)

    def list(self) -> Iterator[StoreEntry]:
        """All values. Raises StoreError."""
        self._fs.invalidate_cache()
        for path, info in self._attempt(lambda: self._fs.find(self._root, detail=True), self._reads).items():
            name = PurePosixPath(path)
            if len(name.name) == CHECKSUM_BYTES * 2 and len(name.parts) >= 3:
                used = (info[field] for field in TIME_FIELDS if info.get(field) is not None)
                yield StoreEntry(
                    path=path, task=name.parts[-3], num_bytes=info["size"], used_s=_seconds(next(used, None))
                )

    def verify(self, listed: StoreEntry) -> bool:
        """True if the value is intact; a corrupt one is removed. Raises StoreError."""
        try:
            self.get(Key(listed.task, PurePosixPath(listed.path).name))  # type: ignore[arg-type]  # a folder's name
        except CorruptValueError:
            return False
        return True

    def remove(self, listed: StoreEntry) -> None:
        """Remove a listed value. Raises StoreError."""
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            self._attempt(lambda: self._fs.rm_file(listed.path), self._writes)

    def gc(self, max_bytes: int | None = None) -> tuple[int, int]:
        """Remove the least recently used values until the rest fits; returns the numbers of values and bytes removed.

        Raises StoreError.
        """
        limit = self._config.max_bytes if max_bytes is None else max_bytes
        values = sorted(self.list(), key=lambda value: value.used_s or 0.0)
        excess = sum(value.num_bytes for value in values) - limit
        num_removed = bytes_removed = 0
        for value in values:
            if bytes_removed >= excess:
                break
            self.remove(value)
            num_removed += 1
            bytes_removed += value.num_bytes
        return num_removed, bytes_removed

    # --- the file system

    def _path(self, key: Key) -> str:
        return f"{self._root}/{key.task}/{key.digest[:2]}/{key.digest}"

    def _read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path)
        return data

    def _write(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(path, data)

    def _read_file(self, path: str, to: Path) -> None:
        get_file(self._fs, path, to)

    def _write_file(self, path: str, file: Path) -> None:
        self._fs.put_file(str(file), path)

    def _note_put(self, num_bytes: int) -> None:
        """Called after each put; a store without a size limit does nothing."""

    def _attempt(self, call: Callable[[], T], breaker: CircuitBreaker) -> T:
        """The result of ``call``, with retries of transient failures. Raises StoreError, FileNotFoundError."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._config.max_attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            retry=tenacity.retry_if_exception(_is_transient),
            reraise=True,
        )
        try:
            result = retrying(call)
        except FileNotFoundError:
            breaker.note_success()
            raise
        except Exception as error:  # from any library behind fsspec: none of them may fail the job
            breaker.note_failure(error)
            raise StoreError(f"{self.url}: {type(error).__name__}: {error}") from error
        breaker.note_success()
        return result


class LocalStore(Store):
    """A store in a folder, on this machine or shared, kept within ``max_bytes``."""

    def __init__(self, fs: Any, root: str, config: StoreConfig) -> None:
        super().__init__(fs, root, config)
        self._lock = threading.Lock()
        self._limit = FolderLimit(self._root, config.max_bytes)

    def list(self) -> Iterator[StoreEntry]:
        with self._reported():
            yield from list_values(self._root)

    def _read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            _touch(path)
            return file.read()

    def _read_file(self, path: str, to: Path) -> None:
        _touch(path)
        shutil.copyfile(path, to)

    def _write(self, path: str, data: bytes) -> None:
        with _stored(path) as temporary:
            temporary.write_bytes(data)

    def _write_file(self, path: str, file: Path) -> None:
        with _stored(path) as temporary:
            shutil.copyfile(file, temporary)

    def gc(self, max_bytes: int | None = None) -> tuple[int, int]:
        for temporary in Path(self._root).glob(f"*/*/{ASIDE_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - temporary.stat().st_mtime > ASIDE_MAX_AGE_S:
                    temporary.unlink()
        with self._lock, self._reported():
            return self._limit.shrink(self._config.max_bytes if max_bytes is None else max_bytes)

    def _note_put(self, num_bytes: int) -> None:
        with self._lock, self._reported():
            self._limit.note_put(num_bytes)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise StoreError for an error of the folder."""
        try:
            yield
        except OSError as error:
            self._reads.note_failure(error)
            raise StoreError(f"{self.url}: {type(error).__name__}: {error}") from error


def _touch(path: str) -> None:
    """Set a value's time of last use to now."""
    if time.time() - os.stat(path).st_mtime > TOUCH_AFTER_S:
        with contextlib.suppress(OSError):  # a read-only store
            os.utime(path)


@contextlib.contextmanager
def _stored(path: str) -> Iterator[Path]:
    """As ``replaced``, in a folder that is made if it is missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replaced(Path(path)) as temporary:
        yield temporary


def _is_transient(error: BaseException) -> bool:
    """True if the same call may succeed in a moment."""
    if isinstance(error, OSError):
        lasting = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)
        return not isinstance(error, FileNotFoundError | PermissionError) and error.errno not in lasting
    return isinstance(error, Exception)


def _seconds(when: Any) -> float | None:
    """A time as seconds since 1970; fsspec's file systems give a number, or a datetime."""
    if when is None or isinstance(when, str):
        return None
    return float(when.timestamp()) if hasattr(when, "timestamp") else float(when)
