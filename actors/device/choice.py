"""Device and precision of an engine. The device follows from the share of a GPU that the engine's pool reserves.

torch is imported only by the functions for engines on torch: CTranslate2 serves a GPU without it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from actors.device import cublas, driver
from actors.errors import EngineLoadError

if TYPE_CHECKING:
    import torch

Device = Literal["cpu", "cuda"]
DeviceOption = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
ComputeType = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32"
]  # fmt: skip
"""CTranslate2's names: the type of the weights, then the type of all other values."""

_PREFERRED: dict[Device, tuple[ComputeType, ...]] = {
    # A core multiplies int8 several times faster than float32, for a loss in chrF that is hard to measure.
    "cpu": ("int8", "float32"),
    # Half precision needs compute capability 7; below that CTranslate2 offers int8 from 6.1 on.
    "cuda": ("float16", "bfloat16", "int8_float16", "int8", "float32"),
}
_BEYOND_FLOAT16: dict[Device, tuple[ComputeType, ...]] = {
    "cpu": _PREFERRED["cpu"],
    "cuda": ("bfloat16", "int8_float32", "float32"),
}
"""For models with values beyond float16's largest."""


def resolve_device(wanted: DeviceOption, num_gpus: float) -> Device:
    """The device of an engine whose pool reserves ``num_gpus`` GPUs. Raises EngineLoadError.

    The library is not asked: Ray shows all GPUs to an actor that reserves none, and an engine that took one would
    share it with replicas that are accounted for.
    """
    if wanted == "cuda" and not num_gpus:
        raise EngineLoadError(
            "device: cuda needs a share of a GPU; the pool's num_gpus is 0; raise it, or set device: auto"
        )
    if wanted == "cpu" and num_gpus:
        raise EngineLoadError(
            f"device: cpu needs no GPU, but the pool's num_gpus is {num_gpus:g}; set it to 0, or set device: auto"
        )
    return "cuda" if num_gpus else "cpu"


def torch_device(wanted: DeviceOption, num_gpus: float) -> Device:
    """The device of an engine on torch, ready for use. Raises EngineLoadError if a share has no usable GPU."""
    import torch

    device = resolve_device(wanted, num_gpus)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise EngineLoadError(driver.explain_missing_gpu("torch", torch.__version__, torch.version.cuda, num_gpus))
        if num_gpus < 1:
            # Ray only counts shares: without a limit, one replica's spike exhausts the memory of its neighbours.
            torch.cuda.set_per_process_memory_fraction(float(num_gpus))
    return device


def ctranslate2_device(wanted: DeviceOption, num_gpus: float) -> Device:
    """The device of an engine on CTranslate2, ready for use. Raises EngineLoadError if a share has no usable GPU."""
    import ctranslate2

    device = resolve_device(wanted, num_gpus)
    if device == "cuda":
        if not ctranslate2.get_cuda_device_count():
            raise EngineLoadError(
                driver.explain_missing_gpu("CTranslate2", ctranslate2.__version__, cublas.CUDA_VERSION, num_gpus)
            )
        cublas.load_cublas()
    return device


def torch_dtype(wanted: Dtype, device: Device) -> torch.dtype:
    """The dtype for the device. auto: float32 on a CPU; on a GPU bfloat16, which cannot overflow, if it is native."""
    import torch

    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def compute_type(
    wanted: ComputeType, device: Device, supported: Collection[str], *, beyond_float16: bool = False
) -> ComputeType:
    """CTranslate2's compute type, one of those it supports on the device. Raises EngineLoadError.

    ``beyond_float16``: the model has values that float16 cannot hold.
    """
    if wanted == "auto":
        preferred = _BEYOND_FLOAT16 if beyond_float16 else _PREFERRED
        return next(choice for choice in preferred[device] if choice in supported)
    if wanted not in supported:
        # CTranslate2 itself would silently fall back to another type.
        raise EngineLoadError(
            f"compute_type must be auto or one of {', '.join(sorted(supported))} on this {device}; found {wanted}"
        )
    return wanted
