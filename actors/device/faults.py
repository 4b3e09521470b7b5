"""Errors of GPU libraries, told apart by what can be done: a smaller batch, the same batch again, another process.

Branching on text is the exception here: CTranslate2 raises a bare RuntimeError for each CUDA error, and torch has a
type for one of them only. The texts are those of ``cudaGetErrorString`` and the names of NVIDIA's status codes, which
do not change.
"""

from __future__ import annotations

import sys
from enum import StrEnum

from actors.device import driver
from actors.errors import DeviceLostError, EngineMemoryError


class DeviceFault(StrEnum):
    MEMORY = "memory"
    """Memory ran out; a smaller batch may succeed."""
    STALE = "stale"
    """The error of an earlier call, in which memory ran out; the same batch may succeed."""
    LOST = "lost"
    """Every later call of this process fails as well, so that it must end."""


_MEMORY_TEXTS = (
    "CUDA failed with error out of memory",
    "CUDA error: out of memory",
    "CUDA out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    # Creating a handle allocates its workspace: this is what cuBLAS and cuDNN say of full memory then.
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "Unable to find a valid cuDNN algorithm",
    "can't allocate memory: you tried to allocate",
    "not enough memory: you tried to allocate",
)
# A failed cudaMallocAsync leaves its error with the runtime, and Thrust raises it at its next launch.
_STALE_TEXTS = ("parallel_for failed: cudaErrorInvalidDevice",)
_LOST_TEXTS = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "device-side assert triggered",
    "hardware stack error",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "no CUDA-capable device is detected",
    "GPU is lost",
    "GPU requires reset",
    "driver shutting down",
    "cudaErrorIllegalAddress",
    "cudaErrorIllegalInstruction",
    "cudaErrorAssert",
    "cudaErrorMisalignedAddress",
    "cudaErrorLaunchFailure",
    "cudaErrorECCUncorrectable",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_MAPPING_ERROR",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_MAPPING_ERROR",
)


def device_fault(error: BaseException) -> DeviceFault | None:
    """The fault of a device behind an error; None if the error is of another kind."""
    if isinstance(error, DeviceLostError):
        return DeviceFault.LOST
    text = str(error) if isinstance(error, RuntimeError) else ""
    # cuBLAS and cuDNN say the same of full memory and of a broken context, so the context itself is asked.
    if _contains(text, _LOST_TEXTS) or driver.is_context_broken():
        return DeviceFault.LOST
    if isinstance(error, _memory_errors()) or _contains(text, _MEMORY_TEXTS):
        return DeviceFault.MEMORY
    return DeviceFault.STALE if _contains(text, _STALE_TEXTS) else None


def _memory_errors() -> tuple[type[BaseException], ...]:
    torch = sys.modules.get("torch")
    return (MemoryError, EngineMemoryError, *(() if torch is None else (torch.OutOfMemoryError,)))


def _contains(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)
