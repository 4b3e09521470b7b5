"""Snapshots of hub repositories: found in the hub library's cache, or downloaded into it."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from actors.errors import EngineLoadError
from actors.hub.references import HubRef

OFFLINE_SWITCHES = ("RAYDUB_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables; each forbids the network when it is set to anything but 0, false, no or off."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
NOT_LOADED = (
    "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "*.tflite", "*.gguf", "*.pb", "*.mlmodel",
    "onnx/*", "openvino/*", "tf_model*", "flax_model*", "*.png", "*.jpg", "*.gif", "*.wav", "*.mp4", ".git*",
    "training_args.bin", "optimizer.*", "scheduler.*", "rng_state*",
)  # fmt: skip
"""Patterns of files that no engine reads."""


def is_offline() -> bool:
    """True if one of ``OFFLINE_SWITCHES`` forbids the network."""
    return any(os.environ.get(switch, "").lower() not in ("", "0", "false", "no", "off") for switch in OFFLINE_SWITCHES)


def cache_folder() -> Path:
    """The hub library's own cache, so that downloads of other programs are found."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(os.environ.get("HF_HUB_CACHE") or HF_HUB_CACHE)


def cached_snapshot(hub_ref: HubRef) -> Path | None:
    """The snapshot's folder in the cache; None unless all its needed files are there. Raises EngineLoadError."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    cache = cache_folder()
    patterns: list[str] | None = None
    # A cache filled by an older version of the library, or by hand, has no list of the repository's files.
    with contextlib.suppress(CachedRepoTreeNotFoundError):
        tree = get_cached_repo_tree(hub_ref.repo, revision=hub_ref.revision, cache_dir=cache)
        patterns = _exactly(needed_files(file.path for file in tree))
    try:
        folder = snapshot_download(
            hub_ref.repo, revision=hub_ref.revision, cache_dir=cache, allow_patterns=patterns, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except ValueError as error:  # the library's own check of names
        raise EngineLoadError(f"a hub model must have a valid id; found {hub_ref.repo!r}: {error}") from error
    return Path(folder)


def download_snapshot(hub_ref: HubRef) -> tuple[Path, dict[str, str | None]]:
    """The snapshot's folder, and file → published sha256 for each of its files; None where none is published.

    Raises EngineLoadError.
    """
    from huggingface_hub import HfApi, RepoFile, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        tree = HfApi().list_repo_tree(hub_ref.repo, revision=hub_ref.revision, recursive=True)
        listed = [entry for entry in tree if isinstance(entry, RepoFile)]
        needed = needed_files(entry.path for entry in listed)
        folder = snapshot_download(
            hub_ref.repo, revision=hub_ref.revision, cache_dir=cache_folder(), allow_patterns=_exactly(needed)
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise EngineLoadError(
            f"{hub_ref.repo} at {hub_ref.revision} must be on the hub and open to this machine; "
            f"{type(error).__name__}: {error}"
        ) from error
    published = {entry.path: entry.lfs.sha256 for entry in listed if entry.lfs is not None}
    return Path(folder), {name: published.get(name) for name in needed}


def needed_files(names: Iterable[str]) -> list[str]:
    """The files of a repository that engines load: one format of the weights, safetensors where there is one."""
    kept = sorted(name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in NOT_LOADED))
    safe_folders = {str(PurePosixPath(name).parent) for name in kept if name.endswith(".safetensors")}
    return [
        name
        for name in kept
        if not name.endswith((*PICKLES, ".bin.index.json")) or str(PurePosixPath(name).parent) not in safe_folders
    ]


def _exactly(names: Iterable[str]) -> list[str]:
    """Patterns that match these names alone: a bracket in one is not a character class."""
    return [re.sub(r"([\[*?])", r"[\1]", name) for name in names]
