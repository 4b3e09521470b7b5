"""Reads the tensors of a PyTorch checkpoint without torch, and without running code from it.

A checkpoint is a zip with a pickle, which describes the tensors, and a file for each one's numbers. The pickle may name
only what makes up a table of plain tensors; anything else is an error.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from actors.errors import EngineLoadError

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]

MAX_DESCRIPTION_BYTES = 16_000_000
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "BoolStorage": np.dtype("?"),
}
"""PyTorch's name of a storage → the type of its numbers."""


def read_tensors(file: Path) -> Tensors:
    """Name → values of every tensor of a state dictionary. Raises EngineLoadError if the file holds anything else."""
    try:
        with zipfile.ZipFile(file) as archive:
            (description,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            if archive.getinfo(description).file_size > MAX_DESCRIPTION_BYTES:
                raise ValueError(f"{description} has over {MAX_DESCRIPTION_BYTES} bytes")
            with archive.open(description) as opened:
                found = _TensorUnpickler(opened, archive, description.removesuffix("data.pkl")).load()
        if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
            raise ValueError("it holds something else")
    except Exception as error:  # an unpickler fed a bad file may raise anything
        raise EngineLoadError(
            f"{file} must be a checkpoint of tensors by name; {type(error).__name__}: {error}; get the file again"
        ) from error
    return dict(found)


class _TensorUnpickler(pickle.Unpickler):
    """Builds arrays where a checkpoint builds tensors, and refuses everything that is no part of one."""

    def __init__(self, opened: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(opened)
        self._archive = archive
        self._prefix = prefix

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a table of tensors")

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        """The numbers of one storage."""
        kind, dtype, key, _, num_values = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"{kind!r} is no storage")
        values = np.frombuffer(self._archive.read(f"{self._prefix}data/{key}"), dtype)
        if len(values) != num_values:
            raise pickle.UnpicklingError(f"storage {key} must have {num_values} values; it has {len(values)}")
        return values


def _tensor(
    storage: npt.NDArray[Any], offset: int, shape: Sequence[int], strides: Sequence[int], *_: object
) -> npt.NDArray[Any]:
    """``torch._utils._rebuild_tensor_v2`` of a contiguous tensor."""
    contiguous = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    is_contiguous = all(
        size == 1 or stride == wanted for size, stride, wanted in zip(shape, strides, contiguous, strict=True)
    )
    values = storage[offset : offset + math.prod(shape)]
    if not is_contiguous or offset < 0 or len(values) != math.prod(shape):
        raise pickle.UnpicklingError("a tensor must be contiguous, and lie within its storage")
    return values.reshape(tuple(shape))
