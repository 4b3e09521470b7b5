"""NVIDIA's driver: its version, and the state of this process's CUDA contexts. Needs no library but the driver's."""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VERSION_FILE = Path("/proc/driver/nvidia/version")
_MINIMUM_DRIVERS = {"11": 450, "12": 525, "13": 580}
"""First driver branch for each major version of CUDA (CUDA Compatibility, "minor version compatibility")."""

_SUCCESS = 0
_OUT_OF_MEMORY = 2
_NO_CONTEXTS = (3, 4, 100)
"""CUDA is not initialised in this process, is shutting down, or has no device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDriver:
    """The installed driver."""

    version: str
    """Such as 580.65.06; "unknown" if the system does not tell."""
    cuda_version: str
    """Highest version of CUDA that it supports, such as 13.0."""

    def supports(self, cuda_version: str) -> bool:
        """True if it runs libraries built for this version of CUDA: of the same major version, any minor one."""
        return int(self.cuda_version.partition(".")[0]) >= int(cuda_version.partition(".")[0])


@functools.cache
def _library() -> Any:
    """The driver's library; None on a machine without."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def installed_driver() -> GpuDriver | None:
    """The driver of this machine; None if there is none."""
    library, number = _library(), ctypes.c_int()
    if library is None or library.cuDriverGetVersion(ctypes.byref(number)) != _SUCCESS or not number.value:
        return None
    cuda_version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return GpuDriver(version=_kernel_module_version() or "unknown", cuda_version=cuda_version)


def _kernel_module_version() -> str | None:
    try:
        found = re.search(r"Kernel Module\D*([\d.]+)", _VERSION_FILE.read_text())
    except OSError:
        return None
    return found and found[1]


def minimum_driver(cuda_version: str) -> str:
    """The driver that libraries for this version of CUDA need, in words: "driver 580 or newer"."""
    branch = _MINIMUM_DRIVERS.get(cuda_version.partition(".")[0])
    return f"a driver for CUDA {cuda_version}" if branch is None else f"driver {branch} or newer"


def explain_missing_gpu(library: str, version: str, cuda_version: str | None, num_gpus: float) -> str:
    """Message for a replica that reserves ``num_gpus`` GPUs and whose library finds none."""
    need = f"{library} must find a GPU, as its pool reserves {num_gpus:g} of one"
    if cuda_version is None:
        return f"{need}; {library} {version} is built without CUDA; install a build with CUDA, or set num_gpus to 0"
    needs = f"{library} {version} is built for CUDA {cuda_version}, which needs {minimum_driver(cuda_version)}"
    driver = installed_driver()
    if driver is None:
        return f"{need}; {needs}, and no NVIDIA driver was found; install one, or set num_gpus to 0"
    found = f"found driver {driver.version} for CUDA {driver.cuda_version}"
    if not driver.supports(cuda_version):
        older = driver.cuda_version.partition(".")[0]
        return f"{need}; {needs}, {found}; update the driver, or install a {library} for CUDA {older}"
    return f"{need}; {needs}, {found}, but no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES, or set num_gpus to 0"


def is_context_broken() -> bool:
    """True if a CUDA context of this process has failed, after which "any further CUDA work will return the same
    error" (CUDA Driver API, CUresult), whichever library made the context.

    Initialises nothing: a process that has not used CUDA has no context.
    """
    library, number = _library(), ctypes.c_int()
    if library is None:
        return False
    status = library.cuDeviceGetCount(ctypes.byref(number))
    if status != _SUCCESS:
        return status not in _NO_CONTEXTS
    return any(_is_failure(_synchronised(library, device)) for device in range(number.value))


def _is_failure(status: int) -> bool:
    return status not in (_SUCCESS, _OUT_OF_MEMORY, *_NO_CONTEXTS)


def _synchronised(library: Any, device: int) -> int:
    """Wait for the work on a device's primary context, the one that all libraries share; returns the status."""
    flags, is_active, context = ctypes.c_uint(), ctypes.c_int(), ctypes.c_void_p()
    status: int = library.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(is_active))
    if status != _SUCCESS or not is_active.value:
        return status
    status = library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if status != _SUCCESS:
        return status
    try:
        # The library's own threads have used the context, and it need not be current on this one.
        status = library.cuCtxPushCurrent_v2(context)
        if status == _SUCCESS:
            status = library.cuCtxSynchronize()
            library.cuCtxPopCurrent_v2(ctypes.byref(context))
        return status
    finally:
        library.cuDevicePrimaryCtxRelease_v2(device)
