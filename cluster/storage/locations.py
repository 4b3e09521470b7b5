"""Locations of inputs and results: paths of this machine, and URLs that fsspec or HTTP reads.

Everything here blocks, and is called in threads.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import fsspec
import tenacity

from actors.durable import make_folder as make_local_folder
from actors.errors import ConfigError, MediaError
from cluster.storage.config import FetchConfig
from cluster.storage.files import replace_bytes
from cluster.storage.outputs import MANIFEST_NAME, REPORT_NAME
from cluster.storage.suffixes import MEDIA_SUFFIXES
from cluster.storage.urls import one_line, shown

T = TypeVar("T")

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
WILDCARD = re.compile(r"[*?\[]")
MAX_NAME_BYTES = 200
_DIGITS = re.compile(r"(\d+)")


def is_url(location: str) -> bool:
    return SCHEME.match(location) is not None


def for_people(location: str) -> str:
    """The location as files and logs may show it: over HTTP without a password and without a signature."""
    return shown(location) if is_http(location) else location


def is_http(location: str) -> bool:
    scheme = SCHEME.match(location)
    return scheme is not None and scheme[1].lower() in ("http", "https")


def check_input(location: str, config: FetchConfig) -> None:
    """Raise ConfigError if an input may not be read by such a URL. Does no DNS lookup; a path is always allowed."""
    scheme = SCHEME.match(location)
    if scheme is None:
        return
    allowed = (*config.schemes, *config.buckets)
    if scheme[1].lower() not in allowed:
        raise ConfigError(
            f"an input's URL must begin with {', '.join(f'{each}://' for each in allowed)} (fetch.schemes, "
            f"fetch.buckets); found {shown(location)}"
        )
    if "::" in location and not is_http(location):  # which would make fsspec open one file system through another
        raise ConfigError(f"an input's URL must name one file system, without '::'; found {shown(location)}")


class Location(Protocol):
    """A file or folder that a user names."""

    def join(self, name: str) -> str:
        """The location of a file or folder of this name inside."""

    def name(self) -> str:
        """The file's name, fit for a file system. Raises ConfigError if there is none."""

    def files(self) -> Iterable[str] | None:
        """All files that a folder or pattern stands for; None for the location of one file."""

    def write_bytes(self, data: bytes) -> None:
        """Write a file whole or not at all; missing folders are made. Raises MediaError."""


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A location on this machine's file system."""

    text: str

    def join(self, name: str) -> str:
        return str(Path(self.text) / name)

    def name(self) -> str:
        name = self.text.rpartition("/")[2]
        return Path(self.text).name if name in ("", ".") else name

    def files(self) -> Iterable[str] | None:
        path = Path(self.text)
        if path.is_dir():
            return (str(file) for file in path.rglob("*") if file.is_file())
        return glob.glob(self.text, recursive=True) if not path.exists() and WILDCARD.search(self.text) else None

    def write_bytes(self, data: bytes) -> None:
        path = Path(self.text)
        try:
            make_local_folder(path.parent)
            replace_bytes(path, data)
        except OSError as error:
            raise MediaError(
                f"{path} must be writable: {error.strerror or error}; check its folder, and what room its disk has"
            ) from error


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A location in a bucket, or on another file system of fsspec; over HTTP it is read only."""

    text: str

    def join(self, name: str) -> str:
        return f"{self.text.rstrip('/')}/{name}"

    def name(self) -> str:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.text).path)
        name = PurePosixPath(path).name.replace("\0", "")
        if name in ("", ".", ".."):
            raise ConfigError(
                f"a URL must end in a file's name, such as https://host/talk.mp4; found {shown(self.text)}"
            )
        stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
        room_bytes = MAX_NAME_BYTES - len(suffix.encode())
        return stem.encode()[:room_bytes].decode(errors="ignore") + suffix if room_bytes > 0 else stem[:50]

    def files(self) -> Iterable[str] | None:
        is_folder = self.text.endswith("/")
        if is_http(self.text) or not (is_folder or WILDCARD.search(self.text)):
            return None
        fs, path = file_system(self.text)
        found = with_retries(self.text, lambda: fs.find(path) if is_folder else fs.glob(path))
        return (fs.unstrip_protocol(name) for name in found)

    def write_bytes(self, data: bytes) -> None:
        fs, path = file_system(self.text)

        def write() -> None:
            make_folder(fs, path.rpartition("/")[0])
            fs.pipe_file(path, data)

        with_retries(self.text, write)


def parse(location: str) -> Location:
    """Raises ConfigError for text that is neither a path nor a URL on any machine."""
    try:
        is_possible = b"\0" not in os.fsencode(location)
        if is_url(location):
            urllib.parse.urlsplit(location)
    except ValueError:
        is_possible = False
    if not is_possible:
        raise ConfigError(
            "a location must be a path or a URL, without NUL, broken characters or a broken host; found "
            f"{for_people(location)[:200]!r}"
        )
    return RemoteUrl(location) if is_url(location) else LocalPath(location)


def join(location: str, name: str) -> str:
    """The location of a file or folder of this name inside ``location``."""
    return parse(location).join(name)


def name_of(location: str) -> str:
    """The file's name, fit for a file system. Raises ConfigError if there is none."""
    return parse(location).name()


def expand(locations: Sequence[str]) -> list[str]:
    """The locations, with folders and patterns replaced by the media files in them, in natural order.

    Results of earlier dubs in a folder are no inputs.
    """
    return [found for location in locations for found in _expand(location)]


def _expand(location: str) -> list[str]:
    files = parse(location).files()
    if files is None:
        return [location]
    names = list(files)
    results = _result_folders(names)
    media = [
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES
        and not PurePosixPath(name).name.startswith(".")
        and str(PurePosixPath(name).parent) not in results
    ]
    # A folder or pattern without media stays: it fails under its own name, and the others are done.
    return sorted(media, key=natural_order) or [location]


def _result_folders(names: Iterable[str]) -> set[str]:
    """Folders with both a manifest and a report: what a dub wrote."""
    by_folder: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.name in (MANIFEST_NAME, REPORT_NAME):
            by_folder.setdefault(str(path.parent), set()).add(path.name)
    return {folder for folder, found in by_folder.items() if len(found) == 2}


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that orders numbers in names by value: part2 before part10."""
    return [(not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in _DIGITS.split(name)]


def identity_of(location: str) -> str | None:
    """Changes when the file does: size and time of change, or the bucket's tag.

    None over HTTP, and for a missing file.
    """
    info = _info(location)
    if info is None:
        return None
    return identity(info)


def identity(info: Mapping[str, Any]) -> str:
    """The identity of a file that fsspec describes by ``info``."""
    changed = next((info[key] for key in ("ETag", "etag", "md5Hash", "mtime", "created") if info.get(key)), "")
    return f"{info.get('size')}:{changed}"


def size_of(location: str) -> int | None:
    """The file's size in bytes. None over HTTP, and for a missing file."""
    size = (_info(location) or {}).get("size")
    return None if size is None else int(size)


def _info(location: str) -> dict[str, Any] | None:
    if is_http(location):
        return None
    try:
        fs, path = file_system(location)
        info: dict[str, Any] = fs.info(path)
    except Exception:  # reading the file fails for the same reason, and says so
        return None
    return info


def read_bytes(location: str) -> bytes | None:
    """The file's content; None if there is no such file. Raises MediaError."""
    fs, path = file_system(location)

    def read() -> bytes | None:
        try:
            data: bytes = fs.cat_file(path)
        except FileNotFoundError:
            return None
        return data

    return with_retries(location, read)


def write_bytes(location: str, data: bytes) -> None:
    """Write a file whole or not at all; missing folders are made. Raises MediaError."""
    parse(location).write_bytes(data)


def download(location: str, to: Path, config: FetchConfig) -> None:
    """Copy an object of a bucket to ``to``. Raises MediaError."""
    fs, path = file_system(location)
    num_bytes = with_retries(location, lambda: int(fs.info(path)["size"] or 0))
    if num_bytes > config.max_bytes:
        raise MediaError(
            f"a file must have at most {config.max_bytes} bytes (fetch.max_bytes); {location} has {num_bytes}"
        )
    free_bytes = shutil.disk_usage(to.parent).free
    if num_bytes > free_bytes:
        raise MediaError(
            f"{to.parent} must have room for {location}, {num_bytes} bytes; {free_bytes} are free; set TMPDIR"
        )
    with_retries(location, lambda: get_file(fs, path, to))


def get_file(fs: Any, path: str, to: Path) -> None:
    """Copy a remote file to this machine, without retries. Raises OSError if not all of it came."""
    num_bytes = fs.info(path)["size"]
    fs.get_file(path, str(to))
    if to.stat().st_size != num_bytes:
        raise OSError(f"{to.stat().st_size} of {num_bytes} bytes came")


def put_file(fs: Any, file: Path, path: str) -> None:
    """Copy a file of this machine to a remote path, without retries. Raises OSError if not all of it arrived."""
    fs.put_file(str(file), path)
    arrived_bytes = fs.info(path)["size"]
    if arrived_bytes != file.stat().st_size:
        raise OSError(f"{arrived_bytes} of {file.stat().st_size} bytes of {file.name} arrived")


def upload(folder: Path, location: str) -> None:
    """Copy every file of ``folder`` to ``location``, the manifest last: where there is one, the results are whole.

    Raises MediaError.
    """
    fs, root = file_system(location)

    def remove_manifest() -> None:
        if fs.exists(f"{root}/{MANIFEST_NAME}"):
            fs.rm_file(f"{root}/{MANIFEST_NAME}")

    make_folder(fs, root)
    with_retries(location, remove_manifest)
    for file in sorted(folder.iterdir(), key=lambda file: file.name == MANIFEST_NAME):
        with_retries(location, functools.partial(put_file, fs, file, f"{root}/{file.name}"))


def file_system(location: str, **options: Any) -> tuple[Any, str]:
    """fsspec's file system and the path in it, without a cache of listings: others write there too.

    Raises ConfigError.
    """
    if is_http(location):
        raise ConfigError(f"results must go to a folder or a bucket; found {shown(location)}, which can only be read")
    try:
        fs, path = fsspec.url_to_fs(location, use_listings_cache=False, **options)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"a URL must be s3://…, gs://…, https://… or of another file system that fsspec has; found {location}: "
            f"{error}; for buckets: pip install 'raydub[s3]' or 'raydub[gcs]'"
        ) from error
    return fs, path.rstrip("/")


def make_folder(fs: Any, path: str) -> None:
    """Make a folder where there are such; asked for one, s3fs would make a bucket of a misspelt name."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if not protocols & {"s3", "gs", "abfs"}:
        fs.makedirs(path, exist_ok=True)


def with_retries(location: str, work: Callable[[], T], patience_s: float = 0.0) -> T:
    """The result of ``work``, tried at least three times and for at least ``patience_s``.

    Raises MediaError for every failure, whatever library it comes from.
    """
    lasting = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, MediaError)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: not isinstance(error, lasting)),
        stop=tenacity.stop_after_attempt(3) & tenacity.stop_after_delay(patience_s),
        wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=5),
        reraise=True,
    )
    try:
        return retrying(work)
    except MediaError:
        raise
    except FileNotFoundError as error:
        raise MediaError(f"{location} must exist; there is no such file or bucket; check the URL") from error
    except Exception as error:  # from any library behind fsspec
        raise MediaError(
            f"{location} must be reachable; {one_line(error)}; check the URL and the credentials"
        ) from error
