"""Compiled parts of SciPy, each from its file.

To import the package around one takes a second of computing, which the first line of a dub would wait for.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
from pathlib import Path
from typing import Any

MODULE_LOCK, LOAD = "_ModuleLockManager", "_load_unlocked"
"""Names in importlib of what an import does once it has found a module: it locks its name, and loads it."""


@functools.cache
def part_of_scipy(package: str, name: str) -> Any:
    """The compiled module ``scipy.PACKAGE.NAME``.

    It is loaded once in a process, whichever threads ask for it or import it at the same time: Cython's modules refuse
    a second time, and are seen half loaded without the lock of an import.
    """
    import scipy

    full_name = f"scipy.{package}.{name}"
    spec = importlib.machinery.PathFinder.find_spec(full_name, [str(Path(scipy.__file__).parent / package)])
    steps = importlib._bootstrap
    if spec is None or not hasattr(steps, MODULE_LOCK) or not hasattr(steps, LOAD):  # SciPy or Python has changed
        return importlib.import_module(full_name)
    with getattr(steps, MODULE_LOCK)(full_name):
        return sys.modules.get(full_name) or getattr(steps, LOAD)(spec)
