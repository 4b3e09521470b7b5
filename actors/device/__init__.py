"""Devices of engines: choice, precision, memory and faults. Never loads a model."""

from actors.device.choice import (
    ComputeType,
    Device,
    DeviceOption,
    Dtype,
    compute_type,
    ctranslate2_device,
    resolve_device,
    torch_device,
    torch_dtype,
)
from actors.device.cublas import load_cublas
from actors.device.driver import GpuDriver, installed_driver, is_context_broken, minimum_driver
from actors.device.faults import DeviceFault, device_fault
from actors.device.memory import HalvingBatch, Patience, release_memory
from actors.device.usage import GpuMeter, GpuUse

__all__ = [
    "ComputeType",
    "Device",
    "DeviceFault",
    "DeviceOption",
    "Dtype",
    "GpuDriver",
    "GpuMeter",
    "GpuUse",
    "HalvingBatch",
    "Patience",
    "compute_type",
    "ctranslate2_device",
    "device_fault",
    "installed_driver",
    "is_context_broken",
    "load_cublas",
    "minimum_driver",
    "release_memory",
    "resolve_device",
    "torch_device",
    "torch_dtype",
]
