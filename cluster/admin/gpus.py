"""GPUs of this machine as each library finds them, compared with the driver and with one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from actors.device import GpuDriver, installed_driver, minimum_driver
from actors.device.cublas import CUDA_VERSION as CTRANSLATE2_CUDA_VERSION
from actors.device.trial import try_library


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevices:
    """The GPUs that one library finds; a library built without CUDA finds none."""

    library: str
    num_devices: int
    names: tuple[str, ...]
    """Empty if the library gives none."""
    error: str | None
    """The reason if the library could not be asked, or failed to compute on a GPU that it finds."""
    version: str | None = None
    cuda_version: str | None = None
    """Version of CUDA that the library is built for; None if it is built without."""


def find_gpus() -> tuple[CudaDevices, ...]:
    """The GPUs of this machine, by library. One product is computed by each library that finds some."""
    return tuple(map(_tried, (_found_by_ctranslate2(), _found_by_torch())))


def _tried(devices: CudaDevices) -> CudaDevices:
    if not devices.num_devices:
        return devices
    error = try_library(devices.library, "cuda")
    return replace(devices, error=error)


def _found_by_ctranslate2() -> CudaDevices:
    try:
        import ctranslate2

        num_devices, version = ctranslate2.get_cuda_device_count(), ctranslate2.__version__
    except Exception as error:  # a damaged installation may raise anything
        return _not_asked("ctranslate2", error)
    return CudaDevices(
        library="ctranslate2",
        num_devices=num_devices,
        names=(),
        error=None,
        version=version,
        cuda_version=CTRANSLATE2_CUDA_VERSION,
    )


def _found_by_torch() -> CudaDevices:
    try:
        import torch

        num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = tuple(torch.cuda.get_device_name(index) for index in range(num_devices))
        version, cuda_version = torch.__version__, torch.version.cuda
    except Exception as error:  # a damaged installation, or a driver that does not suit it, may raise anything
        return _not_asked("torch", error)
    return CudaDevices(
        library="torch", num_devices=num_devices, names=names, error=None, version=version, cuda_version=cuda_version
    )


def _not_asked(library: str, error: Exception) -> CudaDevices:
    missing = isinstance(error, ModuleNotFoundError) and error.name == library
    why = "not installed" if missing else f"{type(error).__name__}: {' '.join(str(error).split())}"
    return CudaDevices(library=library, num_devices=0, names=(), error=why)


def find_driver() -> GpuDriver | None:
    return installed_driver()


def library_problem(library: CudaDevices, others: tuple[CudaDevices, ...], driver: GpuDriver | None) -> str | None:
    """Reason why a library cannot run on this machine's GPUs, with the remedy; None if it can."""
    name = library.library if library.version is None else f"{library.library} {library.version}"
    needs = f"{name} must compute on a GPU"
    if library.cuda_version is not None and driver is not None and not driver.supports(library.cuda_version):
        return (
            f"{needs}; it is built for CUDA {library.cuda_version}, which needs "
            f"{minimum_driver(library.cuda_version)}, found driver {driver.version} for CUDA "
            f"{driver.cuda_version}; update the driver"
        )
    if library.error is not None:
        return f"{needs}; {library.error}; set num_gpus of its pools to 0, or mend that"
    most = max((other.num_devices for other in others), default=0)
    if library.num_devices < most and library.cuda_version is None:
        return f"{needs}; it is built without CUDA; install a build with CUDA, or set num_gpus of its pools to 0"
    if library.num_devices < most:
        found = f"it finds {library.num_devices}, another library finds {most}"
        return f"{needs}; {found}; install a build of it for this driver, or set num_gpus of its pools to 0"
    if not library.num_devices:
        cause = "no NVIDIA driver was found" if driver is None else f"driver {driver.version} shows none"
        return f"{needs}; {cause}; use a machine with a GPU, or set num_gpus of its pools to 0"
    return None


def library_of(packages: Mapping[str, Any]) -> str | None:
    """The library with which an engine that needs these packages would use a GPU; None if it is another one."""
    return next((library for library in ("ctranslate2", "torch") if library in packages), None)
