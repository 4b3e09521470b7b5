"""Where inputs come from and results go: paths of this machine, and URLs that fsspec or HTTP reads.

All of it blocks, and is called in threads.
"""

from __future__ import annotations

import functools
import glob
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import tenacity

from actors.errors import ConfigError, MediaError
from cluster.fetch import FetchConfig, shown
from cluster.outputs import MANIFEST_NAME, replace_bytes

T = TypeVar("T")

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
MAGIC = re.compile(r"[*?\[]")
MAX_NAME_BYTES = 200
MEDIA_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "wmv", "flv", "ogv", "3gp"),
        *("mp3", "m4a", "mka", "aac", "wav", "flac", "ogg", "opus", "wma"),
    )
)
"""What is taken from a folder; a file that is named is taken whatever its name."""


def is_url(place: str) -> bool:
    return SCHEME.match(place) is not None


def is_http(place: str) -> bool:
    scheme = SCHEME.match(place)
    return scheme is not None and scheme[1].lower() in ("http", "https")


def join(place: str, name: str) -> str:
    """A file or folder of this name inside ``place``."""
    return f"{place.rstrip('/')}/{name}" if is_url(place) else str(Path(place) / name)


def name_of(place: str) -> str:
    """The file's name, fit for a file system."""
    if not is_url(place):
        return Path(place).name
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(place).path)).name.replace("\0", "")
    if name in ("", ".", ".."):
        raise ConfigError(f"a URL must end in a file's name, such as https://host/talk.mp4; found {shown(place)}")
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    room = MAX_NAME_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore") + suffix if room > 0 else stem[:50]


def expand(places: Sequence[str]) -> list[str]:
    """Folders as the media in them, patterns as what they match, in order; everything else as it is."""
    return [found for place in places for found in (_expand_url(place) if is_url(place) else _expand_path(place))]


def _expand_path(place: str) -> list[str]:
    path = Path(place)
    if path.is_dir():
        return _some((str(file) for file in path.rglob("*") if file.is_file()), place)
    if not path.exists() and MAGIC.search(place):
        return _some(glob.glob(place, recursive=True), place)
    return [place]


def _expand_url(place: str) -> list[str]:
    if is_http(place) or not (MAGIC.search(place) or place.endswith("/")):
        return [place]
    fs, path = file_system(place)
    with_names = told(place, lambda: fs.find(path) if place.endswith("/") else fs.glob(path))
    return _some((fs.unstrip_protocol(name) for name in with_names), place)


def _some(found: Iterable[str], place: str) -> list[str]:
    media = sorted(name for name in found if PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES)
    # What leads to nothing stays: it fails by its name, and the others are done.
    return [name for name in media if not PurePosixPath(name).name.startswith(".")] or [place]


def identity_of(place: str) -> str | None:
    """Changes when the file does: size and time of change, or the bucket's tag. None for HTTP, and if there is none."""
    info = _info(place)
    if info is None:
        return None
    return identity(info)


def identity(info: Mapping[str, Any]) -> str:
    """Of what fsspec tells of a file."""
    changed = next((info[key] for key in ("ETag", "etag", "md5Hash", "mtime", "created") if info.get(key)), "")
    return f"{info.get('size')}:{changed}"


def size_of(place: str) -> int | None:
    """In bytes. None for HTTP, and if there is no such file."""
    size = (_info(place) or {}).get("size")
    return None if size is None else int(size)


def _info(place: str) -> dict[str, Any] | None:
    if is_http(place):
        return None
    try:
        fs, path = file_system(place)
        info: dict[str, Any] = fs.info(path)
    except Exception:  # whatever stands in the way is told by the one who reads it
        return None
    return info


def read_bytes(place: str) -> bytes | None:
    """None if there is no such file. Raises MediaError."""
    fs, path = file_system(place)

    def read() -> bytes | None:
        try:
            data: bytes = fs.cat_file(path)
        except FileNotFoundError:
            return None
        return data

    return told(place, read)


def write_bytes(place: str, data: bytes) -> None:
    """Whole or not at all. Raises MediaError."""
    if not is_url(place):
        return _write_here(Path(place), data)
    fs, path = file_system(place)

    def write() -> None:
        make_folder(fs, path.rpartition("/")[0])
        fs.pipe_file(path, data)

    told(place, write)


def _write_here(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, data)
    except OSError as error:
        raise MediaError(f"{path} must be writable; {error}; check its folder, and what room its disk has") from error


def download(place: str, to: Path, config: FetchConfig) -> None:
    """Copy an object of a bucket to ``to``. Raises MediaError."""
    fs, path = file_system(place)
    num_bytes = told(place, lambda: int(fs.info(path)["size"] or 0))
    if num_bytes > config.max_bytes:
        raise MediaError(
            f"a file must have at most {config.max_bytes} bytes (fetch.max_bytes); {place} has {num_bytes}"
        )
    free_bytes = shutil.disk_usage(to.parent).free
    if num_bytes > free_bytes:
        raise MediaError(
            f"{to.parent} must have room for {place}, {num_bytes} bytes; {free_bytes} are free; set TMPDIR"
        )
    told(place, lambda: get_file(fs, path, to))


def get_file(fs: Any, path: str, to: Path) -> None:
    """One attempt. Raises OSError if not all of it came."""
    num_bytes = fs.info(path)["size"]
    fs.get_file(path, str(to))
    if to.stat().st_size != num_bytes:
        raise OSError(f"{to.stat().st_size} of {num_bytes} bytes came")


def put_file(fs: Any, file: Path, path: str) -> None:
    """One attempt. Raises OSError if not all of it arrived."""
    fs.put_file(str(file), path)
    arrived_bytes = fs.info(path)["size"]
    if arrived_bytes != file.stat().st_size:
        raise OSError(f"{arrived_bytes} of {file.stat().st_size} bytes of {file.name} arrived")


def upload(folder: Path, place: str) -> None:
    """Copy every file of ``folder`` to ``place``, the manifest last: where it stands, all the others do.

    Raises MediaError.
    """
    fs, root = file_system(place)

    def remove_manifest() -> None:
        if fs.exists(f"{root}/{MANIFEST_NAME}"):
            fs.rm_file(f"{root}/{MANIFEST_NAME}")

    make_folder(fs, root)
    told(place, remove_manifest)
    for file in sorted(folder.iterdir(), key=lambda file: file.name == MANIFEST_NAME):
        told(place, functools.partial(put_file, fs, file, f"{root}/{file.name}"))


def file_system(place: str, **options: Any) -> tuple[Any, str]:
    """fsspec's file system and the path in it. Nothing is remembered: others write there too. Raises ConfigError."""
    if is_http(place):
        raise ConfigError(f"results must go to a folder or a bucket; found {shown(place)}, which can only be read")
    try:
        fs, path = fsspec.url_to_fs(place, use_listings_cache=False, **options)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"a URL must be s3://…, gs://…, https://… or of another file system that fsspec has; found {place}: "
            f"{error}; for buckets: pip install 'raydub[s3]' or 'raydub[gcs]'"
        ) from error
    return fs, path.rstrip("/")


def make_folder(fs: Any, path: str) -> None:
    """Buckets have no folders; asked for one, s3fs would make a bucket of a misspelt name."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if not protocols & {"s3", "gs", "abfs"}:
        fs.makedirs(path, exist_ok=True)


def told(place: str, work: Callable[[], T], patience_s: float = 0.0) -> T:
    """What ``work`` returns, tried three times and for as long as this; its failure, whatever library it comes from,
    as a MediaError.
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
        raise MediaError(f"{place} must exist; there is no such file or bucket; check the URL") from error
    except Exception as error:  # of whatever library stands behind fsspec
        said = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{place} must be reachable; {said}; check the URL and the credentials") from error
