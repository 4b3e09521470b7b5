"""Compiled parts of SciPy, each from its file.

To import the package around one takes a second of computing, which the first line of a dub would wait for.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any


@functools.cache
def part_of_scipy(package: str, name: str) -> Any:
    """The compiled module ``scipy.PACKAGE.NAME``."""
    import scipy

    spec = importlib.machinery.PathFinder.find_spec(name, [str(Path(scipy.__file__).parent / package)])
    if spec is None or spec.loader is None:  # a SciPy that keeps it elsewhere
        return importlib.import_module(f"scipy.{package}.{name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
