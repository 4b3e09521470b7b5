"""Results by what they were computed from: a folder, a bucket or a dictionary, by way of fsspec.

Values are written whole or not at all, and carry a checksum: one that is truncated or damaged is
removed and counted, and found missing. A store that is slow, full or down costs speed, never the
job: it is left alone for a while, and what it has not got is computed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import fsspec
import tenacity
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field

from actors import weights
from actors.errors import ConfigError
from cluster.keys import Key
from cluster.places import get_file

log = logging.getLogger(__name__)

T = TypeVar("T")

ENVIRONMENT = "RAYDUB_STORE"
NONE = "none"

MAGIC = b"raydub1\n"
CHECKSUM_BYTES = hashlib.sha256().digest_size
HEADER_BYTES = len(MAGIC) + CHECKSUM_BYTES
PART_BYTES = 2**20

TOUCH_AFTER_S = 3600.0
"""A value's time of last use is this exact: to write it at every use would cost more than reading some values."""
EVICT_TO = 0.9
"""Of the largest size: so that not every put after that evicts."""
TIME_FIELDS = ("mtime", "LastModified", "updated", "created")
"""Of what fsspec's file systems tell of a file, each in its own words."""
ASIDE_PREFIX = ".aside-"
ASIDE_MAX_AGE_S = 3600.0
"""What lies aside for longer was left by a process that was killed."""


class StoreConfig(BaseModel):
    """Where results are kept, to be used again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    """A folder, or fsspec's s3://bucket/path, gs://…, memory://…; none keeps nothing. None takes RAYDUB_STORE, else
    the user's cache. Credentials and endpoints come from the environment (AWS_…, FSSPEC_S3_ENDPOINT_URL)."""
    max_bytes: int = Field(default=20_000_000_000, ge=1_000_000)
    """Of a folder: what was not used for longest goes first. Buckets have lifecycle rules of their own."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Of one request to a bucket."""
    max_attempts: int = Field(default=3, ge=1, le=10)
    pause_s: float = Field(default=30.0, ge=0)
    """For which a store that failed is left alone."""

    def resolved_url(self) -> str:
        return self.url or os.environ.get(ENVIRONMENT) or str(weights.cache_dir() / "store")


class StoreError(Exception):
    """The store cannot be used now."""


class CorruptValueError(Exception):
    """A value that is not what was put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A value as it lies in the store."""

    path: str
    task: str
    num_bytes: int
    used_s: float | None
    """Time of last use (of last change where no use is noted), in seconds since 1970."""


def open_store(config: StoreConfig) -> Store | None:
    """None if nothing is to be kept. Raises ConfigError for a URL that leads nowhere."""
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
    """fsspec's, for a caller that tries again by itself: one attempt, which ends after this time."""
    if not is_s3(url):
        return {}
    limits = {"connect_timeout": timeout_s, "read_timeout": timeout_s, "retries": {"max_attempts": 0}}
    # Not shared with who else uses s3fs in this process: its own retries are turned off, too.
    return {"config_kwargs": limits, "max_concurrency": max_concurrency, "skip_instance_cache": True}


def is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))


class Store:
    """On any file system of fsspec whose ``pipe_file`` makes a file whole or not at all, as buckets do.

    Blocking, and safe to use from several threads and processes.
    """

    def __init__(self, fs: Any, root: str, config: StoreConfig) -> None:
        self.url = fs.unstrip_protocol(root)
        self._fs = fs
        self._root = root.rstrip("/")
        self._config = config
        if hasattr(fs, "retries"):
            fs.retries = 1  # s3fs would try five times, and each of ours again
        # Apart: a full disk can still be read.
        self._reads = _Health(f"reads of {self.url}", config.pause_s)
        self._writes = _Health(f"writes to {self.url}", config.pause_s)

    @property
    def is_readable(self) -> bool:
        """False if it failed not long ago: it need not be asked."""
        return not self._reads.is_resting

    @property
    def is_writable(self) -> bool:
        """False if it failed not long ago: it need not be given anything."""
        return not self._writes.is_resting

    def get(self, key: Key) -> bytes | None:
        """What was put; None if nothing was. Raises StoreError, CorruptValueError (the value is then removed)."""
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
        """Remove a value that is of no use, if that can be done."""
        with contextlib.suppress(StoreError, FileNotFoundError):
            self._attempt(lambda: self._fs.rm_file(self._path(key)), self._writes)

    def put(self, key: Key, value: bytes) -> None:
        """Whole or not at all; again what is there already does no harm. Raises StoreError."""
        data = framed(key, value)
        self._put(lambda: self._write(self._path(key), data), len(data))

    def get_file(self, key: Key, path: Path) -> bool:
        """As ``get``, into a file, and never whole in memory. False if nothing was put."""
        with _aside(path) as framed, _aside(path) as value:
            try:
                self._attempt(lambda: self._read_file(self._path(key), framed), self._reads)
            except FileNotFoundError:
                return False
            try:
                _unframe_file(key, framed, value)
            except CorruptValueError:
                log.warning("stored value is corrupt, removed key=%s", key)
                self.discard(key)
                raise
            value.replace(path)
        return True

    def put_file(self, key: Key, path: Path) -> None:
        """As ``put``, of a file that is never whole in memory. One larger than the store is not kept."""
        num_bytes = HEADER_BYTES + path.stat().st_size
        if num_bytes > self._config.max_bytes:
            return
        with _aside(path) as framed:
            _frame_file(key, path, framed)
            self._put(lambda: self._write_file(self._path(key), framed), num_bytes)

    def _put(self, write: Callable[[], None], num_bytes: int) -> None:
        try:
            self._attempt(write, self._writes)
        except FileNotFoundError as error:
            self._writes.note_failure(error)
            raise StoreError(f"{self.url} must exist: {error}") from error
        self._note_put(num_bytes)

    def list(self) -> Iterator[Listed]:
        """Every value. Raises StoreError."""
        self._fs.invalidate_cache()
        for path, info in self._attempt(lambda: self._fs.find(self._root, detail=True), self._reads).items():
            name = PurePosixPath(path)
            if len(name.name) == CHECKSUM_BYTES * 2 and len(name.parts) >= 3:
                used = (info[field] for field in TIME_FIELDS if info.get(field) is not None)
                yield Listed(path=path, task=name.parts[-3], num_bytes=info["size"], used_s=_seconds(next(used, None)))

    def verify(self, listed: Listed) -> bool:
        """Whether a value is whole; removed if it is not. Raises StoreError."""
        try:
            self.get(Key(listed.task, PurePosixPath(listed.path).name))  # type: ignore[arg-type]  # a folder's name
        except CorruptValueError:
            return False
        return True

    def remove(self, listed: Listed) -> None:
        """Raises StoreError."""
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self._attempt(lambda: self._fs.rm_file(listed.path), self._writes)

    def gc(self, max_bytes: int | None = None) -> tuple[int, int]:
        """Remove what was not used for longest until the rest fits; how many values, and how many bytes, went.

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
        """What lies here has grown."""

    def _attempt(self, call: Callable[[], T], health: _Health) -> T:
        """Tried again where that may help. Raises StoreError; FileNotFoundError as it comes."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._config.max_attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            result = retrying(call)
        except FileNotFoundError:
            health.note_success()
            raise
        except Exception as error:  # of whatever library stands behind fsspec: none of them may cost the job
            health.note_failure(error)
            raise StoreError(f"{self.url}: {type(error).__name__}: {error}") from error
        health.note_success()
        return result


class LocalStore(Store):
    """A folder, on this machine or shared: written aside and renamed, and kept within a size."""

    def __init__(self, fs: Any, root: str, config: StoreConfig) -> None:
        super().__init__(fs, root, config)
        self._lock = threading.Lock()
        self._num_bytes: int | None = None
        """What lies here, as far as this process knows; None before it has looked."""

    def _read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            _touch(path)
            return file.read()

    def _read_file(self, path: str, to: Path) -> None:
        _touch(path)
        shutil.copyfile(path, to)

    def _write(self, path: str, data: bytes) -> None:
        with _replaced(Path(path)) as aside:
            aside.write_bytes(data)

    def _write_file(self, path: str, file: Path) -> None:
        with _replaced(Path(path)) as aside:
            shutil.copyfile(file, aside)

    def gc(self, max_bytes: int | None = None) -> tuple[int, int]:
        for aside in Path(self._root).glob(f"*/*/{ASIDE_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - aside.stat().st_mtime > ASIDE_MAX_AGE_S:
                    aside.unlink()
        return super().gc(max_bytes)

    def _note_put(self, num_bytes: int) -> None:
        with self._lock:
            if self._num_bytes is not None:
                self._num_bytes += num_bytes
                if self._num_bytes <= self._config.max_bytes:
                    return
            # Others put, too, and what is put twice is counted twice: the folder itself knows.
            self._num_bytes = sum(value.num_bytes for value in self.list())
            if self._num_bytes > self._config.max_bytes:
                num_removed, bytes_removed = self.gc(int(self._config.max_bytes * EVICT_TO))
                self._num_bytes -= bytes_removed
                log.info("store evicted values=%d bytes=%d", num_removed, bytes_removed)


class _Health:
    """Lets a store that failed rest, and says so once."""

    def __init__(self, what: str, pause_s: float) -> None:
        self._what = what
        self._pause_s = pause_s
        self._rests_until_s = 0.0
        self._is_failing = False

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self._rests_until_s

    def note_failure(self, error: Exception) -> None:
        self._rests_until_s = time.monotonic() + self._pause_s
        if not self._is_failing:
            log.warning(
                "the store must answer; %s failed with %s: %s; work goes on without, tried again every %g s",
                *(self._what, type(error).__name__, error, self._pause_s),
            )
        self._is_failing = True

    def note_success(self) -> None:
        if self._is_failing:
            log.warning("the store answers again; %s succeed", self._what)
        self._is_failing = False


def framed(key: Key, value: bytes) -> bytes:
    """With a checksum, in which the key is: a value under another's name is found, too."""
    return MAGIC + _checksum(key, value) + value


def unframed(key: Key, data: bytes) -> bytes:
    """Raises CorruptValueError."""
    value = data[HEADER_BYTES:]
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : HEADER_BYTES] != _checksum(key, value):
        raise CorruptValueError(f"{key} must be what was put; its checksum differs")
    return value


def _touch(path: str) -> None:
    """Note that it was used."""
    if time.time() - os.stat(path).st_mtime > TOUCH_AFTER_S:
        with contextlib.suppress(OSError):  # a store that may only be read
            os.utime(path)


def _frame_file(key: Key, value: Path, framed: Path) -> None:
    with value.open("rb") as source, framed.open("wb") as target:
        target.write(bytes(HEADER_BYTES))
        checksum = _copy(key, source, target)
        target.seek(0)
        target.write(MAGIC + checksum)


def _unframe_file(key: Key, framed: Path, value: Path) -> None:
    """Raises CorruptValueError."""
    with framed.open("rb") as source, value.open("wb") as target:
        header = source.read(HEADER_BYTES)
        checksum = _copy(key, source, target)
    if header != MAGIC + checksum:
        raise CorruptValueError(f"{key} must be what was put; its checksum differs")


def _copy(key: Key, source: BinaryIO, target: BinaryIO) -> bytes:
    """The checksum of what was copied."""
    digest = hashlib.sha256(str(key).encode())
    while part := source.read(PART_BYTES):
        digest.update(part)
        target.write(part)
    return digest.digest()


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Where to write what then stands at ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _aside(path) as aside:
        yield aside
        aside.replace(path)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A file's path beside ``path``; nothing is left there."""
    aside = path.with_name(f"{ASIDE_PREFIX}{uuid.uuid4().hex}")
    try:
        yield aside
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _checksum(key: Key, value: bytes) -> bytes:
    digest = hashlib.sha256(str(key).encode())
    digest.update(value)
    return digest.digest()


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment."""
    if isinstance(error, OSError):
        lasting = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)
        return not isinstance(error, FileNotFoundError | PermissionError) and error.errno not in lasting
    return isinstance(error, Exception)


def _seconds(when: Any) -> float | None:
    """fsspec's file systems give a number, or a datetime."""
    if when is None or isinstance(when, str):
        return None
    return float(when.timestamp()) if hasattr(when, "timestamp") else float(when)
