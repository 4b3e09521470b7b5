"""Stand-ins for packages that Coqui and faster-whisper import and do not use in these checks.

The borrowed machine has no room for audio and text libraries. An import from within one of ``IMPORTERS`` of a package
that is missing gives an empty module, whose names are classes that do nothing; other imports fail as ever.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import Any

IMPORTERS = ("TTS", "trainer", "coqpit", "faster_whisper")


class _AnyAttribute(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class Nothing(metaclass=_AnyAttribute):
    """A class that takes any arguments, a decorator, a module and its functions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else self

    def __getattr__(self, name: str) -> Any:
        return getattr(Nothing, name)


class _EmptyModule(ModuleType):
    __path__: Sequence[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(Nothing, name)


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last of the finders: it is asked only for what no other finds."""

    def __init__(self) -> None:
        self.stubbed: set[str] = set()

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top in IMPORTERS or (top not in self.stubbed and _importer(sys._getframe(1)) not in IMPORTERS):
            return None
        self.stubbed.add(top)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


def _importer(frame: FrameType | None) -> str:
    """The package of the nearest frame outside Python's import machinery."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("importlib", "_frozen_importlib", __name__)):
            return str(name).partition(".")[0]
        frame = frame.f_back
    return ""


_STUBS = _Stubs()


def install() -> None:
    """From now on, give stand-ins for what is missing."""
    if _STUBS not in sys.meta_path:
        sys.meta_path.append(_STUBS)


def stubbed() -> list[str]:
    """Packages that were asked for and replaced."""
    return sorted(_STUBS.stubbed)
