"""Hashes of model files: computed, recorded at download, written by pip, or listed beside local weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path

from actors import weights
from actors.engine import KnownModel
from actors.hub.references import WHEEL, HubRef, pinned_hashes, wheel_package

CHECKSUMS_FILE = "SHA256SUMS"
"""List of hashes beside the weights of a local folder, in sha256sum's format; ``verify`` compares them."""


def fingerprint(path: Path) -> str:
    """The sha256 over the names and contents of a model's files; cached on the node until one of them changes."""
    files = sorted(file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    root = path if path.is_dir() else path.parent

    def write(out: Path) -> None:
        content = "".join(f"{weights.file_sha256(file)}  {file.relative_to(root).as_posix()}\n" for file in files)
        write_text(out, hashlib.sha256(content.encode()).hexdigest())

    return weights.derived(f"fingerprints/{files_state(files)}", write).read_text()


def files_state(files: Iterable[Path]) -> str:
    """A hash of paths, sizes and modification times: it changes with the files, and reads none of them."""
    state = hashlib.sha256()
    for file in files:
        stat = file.stat()
        state.update(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    return state.hexdigest()[:32]


def record_download(hub_ref: HubRef, commit: str, found: Mapping[str, str]) -> None:
    """Keep the hashes (file → sha256) of a downloaded snapshot on this node."""
    listing = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(found.items()))
    weights.derived(_record_key(hub_ref.repo, commit), lambda out: write_text(out, listing))


def expected_hashes(ref: str, hub_ref: HubRef | KnownModel | None, path: Path) -> dict[str, str]:
    """File, relative to the model's folder → the sha256 it must have; empty if nothing is known."""
    if isinstance(hub_ref, KnownModel):
        return dict(hub_ref.sha256)
    if hub_ref is not None:
        record = weights.cache_dir() / _record_key(hub_ref.repo, path.name)
        return (_read_listing(record) if record.is_file() else {}) | dict(pinned_hashes(hub_ref))
    if ref.startswith(WHEEL):
        return _installed_hashes(wheel_package(ref), path)
    listing = (path if path.is_dir() else path.parent) / CHECKSUMS_FILE
    return _read_listing(listing) if listing.is_file() else {}


def write_text(out: Path, text: str) -> None:
    out.write_text(text, encoding="utf-8")


def _installed_hashes(package: str, path: Path) -> dict[str, str]:
    """The hashes that pip recorded when it installed the files."""
    folder = path if path.is_dir() else path.parent
    hashes: dict[str, str] = {}
    for distribution in _distributions(package):
        for file in distribution.files or ():
            located = Path(str(distribution.locate_file(file)))
            if file.hash is not None and file.hash.mode == "sha256" and located.is_relative_to(path):
                hashes[located.relative_to(folder).as_posix()] = _hex(file.hash.value)
    return hashes


def _distributions(package: str) -> Iterable[importlib.metadata.Distribution]:
    try:
        return [importlib.metadata.distribution(package)]
    except importlib.metadata.PackageNotFoundError:  # the distribution has another name than its package
        return importlib.metadata.distributions()


def _hex(record: str) -> str:
    """A sha256 of pip's RECORD file (urlsafe base64 without padding) in hexadecimal."""
    return urlsafe_b64decode(record + "=" * (-len(record) % 4)).hex()


def _read_listing(path: Path) -> dict[str, str]:
    """File → hash, of a listing in sha256sum's format: hash, space, space or asterisk, name."""
    hashes = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition(" ")
        if name:
            hashes[name[1:]] = sha256.lower()
    return hashes


def _record_key(repo: str, commit: str) -> str:
    return f"checksums/{repo.replace('/', '--')}@{commit}"
