"""What of device and hub needs torch itself: its checkpoints, its errors."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.device import DeviceFault, device_fault, torch_device, torch_dtype
from actors.errors import EngineLoadError
from actors.hub import resolve

torch = pytest.importorskip("torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_a_pickle_that_would_run_code_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(3), "extra": Malicious()}, folder / "pytorch_model.bin")
    with pytest.raises(EngineLoadError, match="without running code from it"):
        resolve(str(folder))
    assert not (tmp_path / "ran").exists()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(EngineLoadError, match="must hold tensors alone"):
        resolve(str(folder))
    # With safetensors beside it, nobody reads it.
    (folder / "model.safetensors").write_bytes(b"numbers")
    assert resolve(str(folder)) == folder


def test_a_pickle_of_tensors_alone_is_read(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / "pytorch_model.bin")
    assert resolve(str(folder)) == folder


def test_full_memory_has_a_type() -> None:
    assert device_fault(torch.cuda.OutOfMemoryError("anything")) is DeviceFault.MEMORY


def test_types_follow_the_device() -> None:
    assert torch_dtype("auto", "cpu") is torch.float32
    assert torch_dtype("bfloat16", "cpu") is torch.bfloat16
    assert torch_device("auto", 0) == "cpu"


def test_a_share_that_torch_finds_no_gpu_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineLoadError, match=r"torch must find a GPU, as its pool reserves 0\.4 of one; torch 2\."):
        torch_device("auto", 0.4)


@pytest.mark.parametrize(("num_gpus", "limits"), [(0.4, [0.4]), (1, []), (2, [])])
def test_a_replica_keeps_to_its_share_of_the_memory(
    num_gpus: float, limits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    assert torch_device("auto", num_gpus) == "cuda"
    assert asked == limits


def test_without_a_share_torch_leaves_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device("auto", 0) == "cpu"


@pytest.mark.parametrize(("is_native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_takes_bfloat16_where_it_is_native(
    is_native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return is_native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert torch_dtype("auto", "cuda") is dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_taken() -> None:
    assert torch_device("auto", 1) == "cuda"
    assert torch_dtype("auto", "cuda") in (torch.bfloat16, torch.float16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_kernel_that_fails_breaks_its_process_and_other_errors_do_not() -> None:
    """In a process of its own, for it is of no use afterwards."""
    subprocess.run([sys.executable, "-c", BREAKING], check=True, cwd=Path(__file__).parents[2])


BREAKING = """
import torch
from actors.device import DeviceFault, device_fault

def error_of(call):
    try:
        call()
        torch.cuda.synchronize()
    except RuntimeError as error:
        return error

values = torch.zeros(4, device="cuda")
assert device_fault(error_of(lambda: values @ torch.zeros(5, device="cuda"))) is None
assert device_fault(error_of(lambda: torch.zeros(1 << 50, device="cuda"))) is DeviceFault.MEMORY
assert device_fault(error_of(lambda: values[torch.tensor([9], device="cuda")])) is DeviceFault.LOST
"""
