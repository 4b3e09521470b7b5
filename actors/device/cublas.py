"""The cuBLAS that CTranslate2 opens at its first matrix product on a GPU."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

from actors.errors import EngineLoadError

CUDA_VERSION = "12"
"""Major version of CUDA that CTranslate2's wheels are built for; torch brings the libraries of another."""
CUBLAS = f"libcublas.so.{CUDA_VERSION}"
PACKAGE = f"nvidia-cublas-cu{CUDA_VERSION}"
LIBRARIES = (f"libcublasLt.so.{CUDA_VERSION}", CUBLAS)
"""In the order in which they are loaded: the second needs the first."""


def load_cublas() -> None:
    """Load cuBLAS from its Python package, or from the system's libraries. Raises EngineLoadError.

    CTranslate2 opens it by its bare name, which is found only if a library of that name is already loaded or lies on
    the system's search path; the package's folder does not.
    """
    for library in LIBRARIES:
        try:
            ctypes.CDLL(str(_in_package(library) or library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise EngineLoadError(
                f"CTranslate2 must find {library} to run on a GPU; {error}; run: pip install {PACKAGE}"
            ) from error


def _in_package(library: str) -> Path | None:
    """Path of a library in the packages of NVIDIA, which share the namespace ``nvidia``; None if it is not there."""
    spec = importlib.util.find_spec("nvidia")
    folders = () if spec is None else spec.submodule_search_locations or ()
    found = (path for folder in folders for path in Path(folder).glob(f"*/lib/{library}"))
    return next(found, None)
