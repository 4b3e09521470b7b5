"""Where and in what precision a model runs, and what to do when its memory is full.

Nothing here imports torch unless a torch engine asks: CTranslate2 alone serves a GPU too.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from actors.errors import EngineLoadError, EngineMemoryError, ItemError
from actors.types import ItemFailure

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

Device = Literal["cpu", "cuda"]
DeviceOption = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
ComputeType = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32"
]  # fmt: skip
"""CTranslate2's names: the type of the weights, then that of everything else."""

_PREFERRED: dict[Device, tuple[ComputeType, ...]] = {
    # A core multiplies int8 several times faster than float32, for a loss in chrF that is hard to measure.
    "cpu": ("int8", "float32"),
    # Half precision needs compute capability 7; below that CTranslate2 offers int8 from 6.1 on.
    "cuda": ("float16", "bfloat16", "int8_float16", "int8", "float32"),
}
_OUT_OF_MEMORY_TEXTS = ("CUDA failed with error out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_CUDA_TEXT = "CUDA failed with error"
"""CTranslate2's, before that of ``cudaGetErrorString``."""


def resolve_device(wanted: DeviceOption, num_cuda_devices: int) -> Device:
    """The device to use, given how many GPUs the engine's library sees. Raises EngineLoadError."""
    if wanted == "cuda" and not num_cuda_devices:
        raise EngineLoadError(
            "device: cuda needs a GPU that this process sees, found none; "
            "give the pool num_gpus (Ray hides GPUs from actors without), install a CUDA build, or set device: auto"
        )
    if wanted == "auto":
        return "cuda" if num_cuda_devices else "cpu"
    return wanted


def torch_device(wanted: DeviceOption) -> Device:
    """The device for an engine on torch. Raises EngineLoadError."""
    import torch

    return resolve_device(wanted, torch.cuda.device_count() if torch.cuda.is_available() else 0)


def torch_dtype(wanted: Dtype, device: Device) -> torch.dtype:
    """auto: float32 on a CPU; on a GPU bfloat16 (float32's range, so nothing overflows) where it is native."""
    import torch

    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def compute_type(wanted: ComputeType, device: Device, supported: Collection[str]) -> ComputeType:
    """CTranslate2's type to compute in, one of those it supports on the device. Raises EngineLoadError."""
    if wanted == "auto":
        return next(choice for choice in _PREFERRED[device] if choice in supported)
    if wanted not in supported:
        # CTranslate2 itself would silently fall back to another type.
        raise EngineLoadError(
            f"compute_type must be auto or one of {', '.join(sorted(supported))} on this {device}; found {wanted}"
        )
    return wanted


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might have gone through."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # CTranslate2 turns each CUDA error into a bare RuntimeError: its text, fixed by CUDA's own
    # cudaGetErrorString, is all there is to tell them apart.
    return isinstance(error, (MemoryError, EngineMemoryError)) or (
        type(error) is RuntimeError and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)
    )


def is_device_lost(error: BaseException) -> bool:
    """Whether this process must end, for every later call will fail as well.

    An illegal address, a failed assertion or an uncorrectable memory error leaves a process "in an inconsistent state
    and any further CUDA work will return the same error" (CUDA Runtime API, cudaError). So torch is made to do some.
    """
    if is_out_of_memory(error):
        return False
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False
    return _CUDA_TEXT in str(error)


class HalvingBatch:
    """Runs items in batches of like length, as large as memory allows.

    A batch costs as much as its longest item times their number, because of padding. One that does
    not fit is halved, and the size that failed is never tried again.
    """

    def __init__(self, max_cost: float) -> None:
        self.max_cost = max_cost
        """Of a batch, padding included; one item alone may exceed it."""

    def run(
        self, items: Sequence[Item], costs: Sequence[float], call: Callable[[list[Item]], Sequence[Outcome]]
    ) -> list[Outcome | ItemFailure]:
        """The outcome of each item, in order; an ItemFailure for one that does not fit even alone."""
        # Longest first: if memory is short, the first batch says so.
        order = sorted(range(len(items)), key=lambda index: -costs[index])
        outcomes: dict[int, Outcome | ItemFailure] = {}
        while len(outcomes) < len(items):
            rest = order[len(outcomes) :]
            batch = rest[: max(1, int(self.max_cost // max(costs[rest[0]], 1e-9)))]
            results = self._attempt([items[index] for index in batch], call)
            if results is not None:
                outcomes.update(zip(batch, results, strict=True))
            elif len(batch) > 1:
                self.max_cost = costs[batch[0]] * len(batch) / 2
                log.warning("out of memory items=%d, from now on max_cost=%g", len(batch), self.max_cost)
            else:
                outcomes[batch[0]] = _too_large(costs[batch[0]])
        return [outcomes[index] for index in range(len(items))]

    def _attempt(self, items: list[Item], call: Callable[[list[Item]], Sequence[Outcome]]) -> Sequence[Outcome] | None:
        """None if memory ran out."""
        try:
            return call(items)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here, where the error is gone, do its frames no longer hold the tensors that filled the memory.
        release_memory()
        return None


def release_memory() -> None:
    """Give back what is no longer used, so that the next allocation can be one piece."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _too_large(cost: float) -> ItemFailure:
    return ItemFailure(
        error=ItemError(
            f"one item must fit the device's memory; one of cost {cost:g} did not, alone: "
            "shorten it, or give the replica more memory"
        )
    )
