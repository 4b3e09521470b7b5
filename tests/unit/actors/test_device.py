from __future__ import annotations

import importlib.util
import itertools
import mmap
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.device import (
    DeviceFault,
    HalvingBatch,
    compute_type,
    ctranslate2_device,
    cublas,
    device_fault,
    driver,
    memory,
    resolve_device,
)
from actors.device.memory import FIRST_PATIENCE_BATCHES
from actors.errors import DeviceLostError, EngineLoadError, EngineMemoryError, ItemError
from actors.types import ItemFailure

FULL = "CUDA failed with error out of memory"


def test_the_device_follows_from_the_share_of_a_gpu() -> None:
    assert resolve_device("auto", 0) == resolve_device("cpu", 0) == "cpu"
    assert resolve_device("auto", 0.25) == resolve_device("cuda", 1) == "cuda"
    with pytest.raises(EngineLoadError, match="num_gpus is 0"):
        resolve_device("cuda", 0)
    with pytest.raises(EngineLoadError, match=r"num_gpus is 0\.5"):
        resolve_device("cpu", 0.5)


@pytest.mark.parametrize(
    ("where", "supported", "chosen"),
    [
        ("cpu", {"int8", "int8_float32", "float32"}, "int8"),
        ("cpu", {"float32"}, "float32"),
        ("cuda", {"int8", "int8_float16", "float16", "bfloat16", "float32"}, "float16"),
        ("cuda", {"int8", "int8_float32", "float32"}, "int8"),  # compute capability 6.1
        ("cuda", {"float32"}, "float32"),
    ],
)
def test_the_type_follows_what_the_device_can(where: str, supported: set[str], chosen: str) -> None:
    assert compute_type("auto", where, supported) == chosen  # type: ignore[arg-type]


def test_a_type_the_device_cannot_is_refused() -> None:
    assert compute_type("int8_float16", "cuda", {"int8_float16"}) == "int8_float16"
    with pytest.raises(EngineLoadError, match="must be auto or one of float32, int8 on this cpu; found float16"):
        compute_type("float16", "cpu", {"int8", "float32"})


@pytest.fixture(scope="module", autouse=True)
def no_collection() -> Iterator[None]:
    """Collecting garbage takes a tenth of a second each time, and nothing here is on a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "release_memory", lambda: None)
        yield


class Memory:
    """A device that holds so many tokens, padding included."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self.batches: list[list[int]] = []

    def run(self, batch: Sequence[int]) -> list[str]:
        self.batches.append(list(batch))
        if len(batch) * max(batch) > self.num_tokens:
            raise RuntimeError(FULL)
        return [f"ran {item}" for item in batch]


lengths = st.lists(st.integers(1, 60), max_size=50)


@given(lengths, st.integers(1, 500), st.integers(1, 500))
def test_every_item_has_its_outcome_whatever_memory_holds(items: list[int], capacity: int, limit: int) -> None:
    outcomes = HalvingBatch(limit).run(items, items, Memory(capacity).run)
    assert len(outcomes) == len(items)
    for item, outcome in zip(items, outcomes, strict=True):
        if item <= capacity:
            assert outcome == f"ran {item}"
        else:
            assert isinstance(outcome, ItemFailure)
            assert type(outcome.error) is ItemError


@given(lengths, st.integers(1, 500))
def test_batches_stay_under_the_limit_with_their_padding(items: list[int], limit: int) -> None:
    memory = Memory(10**9)
    HalvingBatch(limit).run(items, items, memory.run)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= limit for batch in memory.batches)
    assert sorted(item for batch in memory.batches for item in batch) == sorted(items)


def test_what_did_not_fit_is_not_tried_again_soon() -> None:
    batching, memory = HalvingBatch(64), Memory(20)
    batching.run([4] * 16, [4] * 16, memory.run)
    assert [len(batch) for batch in memory.batches] == [16, 8, 4, 4, 4, 4]
    batching.run([4] * 8, [4] * 8, memory.run)
    assert [len(batch) for batch in memory.batches[6:]] == [4, 4]
    assert batching.max_cost == 16


def test_batches_grow_again_once_a_neighbour_has_left_the_memory() -> None:
    batching, memory = HalvingBatch(64), Memory(20)
    batching.run([4] * 16, [4] * 16, memory.run)
    memory.num_tokens = 64
    for _ in range(4 * FIRST_PATIENCE_BATCHES):
        batching.run([4] * 16, [4] * 16, memory.run)
    assert batching.max_cost == 64
    assert len(memory.batches[-1]) == 16


def test_a_full_device_is_tried_ever_more_rarely() -> None:
    batching, memory = HalvingBatch(64), Memory(20)
    for _ in range(16 * FIRST_PATIENCE_BATCHES):
        batching.run([4] * 16, [4] * 16, memory.run)
    failures = [number for number, batch in enumerate(memory.batches) if len(batch) > 4]
    waits = [late - early for early, late in itertools.pairwise(failures[1:])]
    assert waits[1:] == [2 * wait - 1 for wait in waits[:-1]]
    assert len(waits) >= 3


def test_an_error_left_by_full_memory_costs_no_halving() -> None:
    """After a failed cudaMallocAsync, the next launch of Thrust raises an error of its own."""
    batching, calls = HalvingBatch(8), []

    def run(batch: list[int]) -> list[int]:
        calls.append(len(batch))
        if len(calls) == 1:
            raise RuntimeError(FULL)
        if len(calls) == 2:
            raise RuntimeError("parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal")
        return batch

    assert batching.run([1] * 8, [1] * 8, run) == [1] * 8
    assert calls == [8, 4, 4, 4]


def test_an_error_that_stays_after_full_memory_is_full_memory() -> None:
    def run(batch: list[int]) -> list[int]:
        raise RuntimeError("parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal")

    [outcome] = HalvingBatch(8).run([1], [1], run)
    assert isinstance(outcome, ItemFailure)


def test_other_errors_pass() -> None:
    def fail(batch: list[int]) -> list[int]:
        raise RuntimeError("no kernel image is available")

    with pytest.raises(RuntimeError, match="no kernel"):
        HalvingBatch(8).run([1, 2], [1, 2], fail)


# --- faults: texts as the libraries raise them

CUDNN = "cuDNN error: {}"
CUBLAS = "CUDA error: {} when calling `cublasCreate(handle)`"
HINTS = "\nCUDA kernel errors might be asynchronously reported at some other API call\n"
TEXTS = [
    # CTranslate2, and Thrust within it
    (DeviceFault.MEMORY, "CUDA failed with error out of memory"),
    (DeviceFault.MEMORY, "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
    (DeviceFault.MEMORY, "cuBLAS failed with status CUBLAS_STATUS_NOT_INITIALIZED"),
    (DeviceFault.MEMORY, "parallel_for failed: cudaErrorMemoryAllocation: out of memory"),
    (DeviceFault.STALE, "parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal"),
    (DeviceFault.LOST, "CUDA failed with error an illegal memory access was encountered"),
    (DeviceFault.LOST, "CUDA failed with error unspecified launch failure"),
    (DeviceFault.LOST, "CUDA failed with error uncorrectable ECC error encountered"),
    (DeviceFault.LOST, "parallel_for failed: cudaErrorIllegalAddress: an illegal memory access was encountered"),
    (DeviceFault.LOST, "cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"),
    (None, "CUDA failed with error invalid argument"),
    (None, "cuBLAS failed with status CUBLAS_STATUS_INVALID_VALUE"),
    # torch
    (DeviceFault.MEMORY, "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB"),
    (DeviceFault.MEMORY, f"CUDA error: out of memory{HINTS}"),
    (DeviceFault.MEMORY, CUBLAS.format("CUBLAS_STATUS_ALLOC_FAILED")),
    (DeviceFault.MEMORY, CUBLAS.format("CUBLAS_STATUS_NOT_INITIALIZED")),
    (DeviceFault.MEMORY, CUDNN.format("CUDNN_STATUS_ALLOC_FAILED")),
    (DeviceFault.MEMORY, CUDNN.format("CUDNN_STATUS_NOT_INITIALIZED")),
    (DeviceFault.MEMORY, CUDNN.format("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")),
    (DeviceFault.MEMORY, "Unable to find a valid cuDNN algorithm to run convolution"),
    (DeviceFault.MEMORY, "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: "
     "can't allocate memory: you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"),
    (DeviceFault.LOST, f"CUDA error: device-side assert triggered{HINTS}"),
    (DeviceFault.LOST, f"CUDA error: misaligned address{HINTS}"),
    (DeviceFault.LOST, CUDNN.format("CUDNN_STATUS_EXECUTION_FAILED")),
    (DeviceFault.LOST, CUBLAS.format("CUBLAS_STATUS_EXECUTION_FAILED")),
    (None, f"CUDA error: no kernel image is available for execution on the device{HINTS}"),
    (None, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "text"), TEXTS)
def test_errors_of_libraries_are_told_apart(fault: DeviceFault | None, text: str) -> None:
    class AcceleratorError(RuntimeError):
        """torch's own is a subclass, too."""

    assert device_fault(RuntimeError(text)) is fault
    assert device_fault(AcceleratorError(text)) is fault
    assert device_fault(ValueError(text)) is None


def test_errors_that_need_no_text() -> None:
    assert device_fault(MemoryError()) is DeviceFault.MEMORY
    assert device_fault(EngineMemoryError("the device is full")) is DeviceFault.MEMORY
    assert device_fault(DeviceLostError("the device is gone")) is DeviceFault.LOST
    assert device_fault(KeyError("x")) is None


@pytest.mark.parametrize("text", ["CUDA failed with error invalid argument", "CUBLAS_STATUS_NOT_INITIALIZED", "any"])
def test_a_broken_context_tells_whatever_the_error_says(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "is_context_broken", lambda: True)
    assert device_fault(RuntimeError(text)) is DeviceFault.LOST


# --- the driver


class FakeDriver:
    """The driver's library, with one device per status of its context; None stands for no context."""

    def __init__(self, *contexts: int | None, version: int = 13000, count_status: int = 0) -> None:
        self.contexts = contexts
        self.version = version
        self.count_status = count_status
        self.calls: list[str] = []
        self._current = 0

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, number: Any) -> int:
        number._obj.value = len(self.contexts)
        return self.count_status

    def cuDevicePrimaryCtxGetState(self, device: int, flags: Any, is_active: Any) -> int:
        is_active._obj.value = self.contexts[device] is not None
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        self.calls.append("retain")
        self._current = device
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        self.calls.append("push")
        return 0

    def cuCtxSynchronize(self) -> int:
        return self.contexts[self._current] or 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.calls.append("pop")
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:
        self.calls.append("release")
        return 0


@pytest.mark.parametrize(
    ("library", "is_broken"),
    [
        (None, False),
        (FakeDriver(), False),
        (FakeDriver(None, None), False),
        (FakeDriver(0, None), False),
        (FakeDriver(2), False),  # out of memory
        (FakeDriver(0, 700), True),  # an illegal address
        (FakeDriver(710), True),  # a failed assertion
        (FakeDriver(0, count_status=3), False),  # this process has not used CUDA
        (FakeDriver(0, count_status=999), True),
    ],
)
def test_the_context_itself_is_asked(
    library: FakeDriver | None, is_broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_library", lambda: library)
    assert driver.is_context_broken() is is_broken
    if library is not None:
        assert library.calls.count("retain") == library.calls.count("release")
        assert library.calls.count("push") == library.calls.count("pop")


def test_a_driver_supports_libraries_of_its_major_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver, "_library", lambda: FakeDriver(version=12080))
    monkeypatch.setattr(driver, "_VERSION_FILE", tmp_path / "version")
    installed = driver.installed_driver()
    assert installed == driver.GpuDriver(version="unknown", cuda_version="12.8")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan  9\n")
    assert driver.installed_driver() == driver.GpuDriver(version="570.86.15", cuda_version="12.8")
    assert installed.supports("12.9")
    assert not installed.supports("13.0")
    monkeypatch.setattr(driver, "_library", lambda: None)
    assert driver.installed_driver() is None


@pytest.mark.parametrize(
    ("library", "cuda_version", "message"),
    [
        (None, "13.0", "needs driver 580 or newer, and no NVIDIA driver was found; install one, or set num_gpus to 0"),
        (FakeDriver(version=12080), "13.0", "for CUDA 12.8; update the driver, or install a torch for CUDA 12"),
        (FakeDriver(version=13000), "13.0", "but no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES"),
        (FakeDriver(version=13000), None, "is built without CUDA; install a build with CUDA, or set num_gpus to 0"),
    ],
)
def test_a_share_without_a_gpu_is_explained(
    library: FakeDriver | None, cuda_version: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_library", lambda: library)
    text = driver.explain_missing_gpu("torch", "2.14.1", cuda_version, 0.4)
    assert text.startswith("torch must find a GPU, as its pool reserves 0.4 of one; torch 2.14.1 is built")
    assert message in text


# --- CTranslate2


def libraries(num_devices: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have CTranslate2 see this many GPUs; returns the libraries that are then loaded for it."""
    loaded: list[str] = []
    fake = SimpleNamespace(get_cuda_device_count=lambda: num_devices, __version__="4.8.5")
    monkeypatch.setitem(sys.modules, "ctranslate2", fake)
    monkeypatch.setattr(cublas.ctypes, "CDLL", lambda path, mode: loaded.append(Path(path).name))
    return loaded


def test_without_a_share_a_gpu_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows all GPUs to an actor that reserves none."""
    loaded = libraries(1, monkeypatch)
    assert ctranslate2_device("auto", 0) == "cpu"
    assert loaded == []


def test_with_a_share_cublas_is_loaded_before_the_first_product(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = libraries(1, monkeypatch)
    assert ctranslate2_device("auto", 0.4) == "cuda"
    assert loaded == ["libcublasLt.so.12", "libcublas.so.12"]


def test_a_share_that_ctranslate2_sees_no_gpu_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries(0, monkeypatch)
    with pytest.raises(EngineLoadError, match=r"CTranslate2 must find a GPU, as its pool reserves 0\.4 of one"):
        ctranslate2_device("auto", 0.4)


def test_missing_cublas_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublas, "LIBRARIES", ("libnone.so.12",))
    with pytest.raises(EngineLoadError, match=r"CTranslate2 must find libnone.so.12 .* run: pip install nvidia-cublas"):
        cublas.load_cublas()


def test_the_lock_provides_the_cublas_that_the_installed_ctranslate2_opens() -> None:
    spec = importlib.util.find_spec("ctranslate2")
    assert spec is not None
    assert spec.origin is not None
    [library] = Path(spec.origin).parents[1].glob("ctranslate2.libs/libctranslate2*.so*")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        sonames = {found.decode() for found in re.findall(rb"libcublas\.so\.\d+", content)}
    assert sonames == {cublas.CUBLAS}
    root = Path(__file__).parents[3]
    locked = [line.partition("==")[0] for line in (root / "requirements.lock").read_text().splitlines()]
    assert cublas.PACKAGE in locked
    extra = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]
    assert any(requirement.startswith(cublas.PACKAGE) for requirement in extra)
