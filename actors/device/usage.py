"""Memory and utilisation of the GPU that a replica uses, as NVIDIA's management library (NVML) reports them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Seconds between two readings: one takes about a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """One reading of a GPU."""

    process_bytes: int | None
    """Memory that this process holds; None where NVML does not see it, as in some containers."""
    used_bytes: int
    """Memory that all processes hold."""
    total_bytes: int
    utilisation: float | None
    """Share of the last moments in which any process computed, 0 to 1; None where NVML does not tell, as with MIG."""


class GpuMeter:
    """Reads the first GPU that this process sees, at most once in ``INTERVAL_S``.

    Without the package nvidia-ml-py, or if NVML fails, it reads nothing, and says so once.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._read_at_s: float | None = None
        self._use: GpuUse | None = None
        self._is_broken = False

    def read(self) -> GpuUse | None:
        """The latest reading; None if there is none."""
        now_s = self._clock_s()
        is_due = self._read_at_s is None or now_s - self._read_at_s >= INTERVAL_S
        if is_due and not self._is_broken:
            self._read_at_s = now_s
            self._use = self._measured()
        return self._use

    def _measured(self) -> GpuUse | None:
        try:
            import pynvml

            pynvml.nvmlInit()
            return _measure(pynvml, _visible_device(pynvml))
        except Exception as error:  # a missing package or library, or a GPU that NVML cannot name
            self._is_broken = True
            log.info("GPU use is not measured error=%r", error)
            return None


def _visible_device(nvml: Any) -> Any:
    """NVML's handle of the first device of CUDA_VISIBLE_DEVICES, which NVML itself ignores."""
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)


def _measure(nvml: Any, device: Any) -> GpuUse:
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    mine = [each for each in nvml.nvmlDeviceGetComputeRunningProcesses(device) if each.pid == os.getpid()]
    try:
        utilisation = nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
    except nvml.NVMLError:  # a MIG instance has none
        utilisation = None
    return GpuUse(
        process_bytes=mine[0].usedGpuMemory if mine else None,
        used_bytes=memory.used,
        total_bytes=memory.total,
        utilisation=utilisation,
    )
