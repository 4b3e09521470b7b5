"""Readings of NVML, from a library that is made up."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from actors.device import GpuMeter, GpuUse


class Nvml:
    """NVML with one GPU; counts what is asked of it."""

    class NVMLError(Exception):
        """As the package's own."""

    def __init__(self, *, has_utilisation: bool = True, sees_process: bool = True) -> None:
        self.devices: list[int | str] = []
        self._has_utilisation = has_utilisation
        self._pid = os.getpid() if sees_process else -1

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        self.devices.append(index)
        return "gpu"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.devices.append(uuid)
        return "gpu"

    def nvmlDeviceGetMemoryInfo(self, device: str) -> Any:
        return SimpleNamespace(used=7_000, total=24_000)

    def nvmlDeviceGetComputeRunningProcesses(self, device: str) -> list[Any]:
        return [SimpleNamespace(pid=1, usedGpuMemory=1), SimpleNamespace(pid=self._pid, usedGpuMemory=5_000)]

    def nvmlDeviceGetUtilizationRates(self, device: str) -> Any:
        if not self._has_utilisation:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=80)


@pytest.mark.parametrize(
    ("nvml", "process_bytes", "utilisation"),
    [
        (Nvml(), 5_000, 0.8),
        (Nvml(sees_process=False), None, 0.8),
        (Nvml(has_utilisation=False), 5_000, None),
    ],
)
def test_a_reading_tells_what_nvml_does(
    nvml: Nvml, process_bytes: int | None, utilisation: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    assert GpuMeter().read() == GpuUse(
        process_bytes=process_bytes, used_bytes=7_000, total_bytes=24_000, utilisation=utilisation
    )


@pytest.mark.parametrize(("visible", "device"), [("2,3", 2), ("GPU-5ae1", "GPU-5ae1"), ("", 0)])
def test_the_gpu_is_the_one_that_ray_assigned(visible: str, device: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    GpuMeter().read()
    assert nvml.devices == [device]


def test_nvml_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, now_s = Nvml(), [0.0]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    meter = GpuMeter(lambda: now_s[0])
    for now_s[0] in (0.0, 0.4, 0.9, 1.0, 1.5, 2.5):
        assert meter.read() is not None
    assert len(nvml.devices) == 3


def test_without_nvml_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuMeter().read() is None
