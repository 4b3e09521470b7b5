"""Checkpoints are read without torch, and never run code."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.errors import EngineLoadError
from actors.hub.tensors import read_tensors


def test_tensors_are_what_torch_saved(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    table = OrderedDict(
        weight=torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
        half=torch.ones(2, 1, 3, dtype=torch.float16),
        steps=torch.tensor(5),
        part=torch.arange(10.0)[2:6],
        empty=torch.zeros(0),
    )
    torch.save(table, tmp_path / "model.pt")
    found = read_tensors(tmp_path / "model.pt")
    assert list(found) == list(table)
    for name, tensor in table.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


class _Command:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch ran",)


@pytest.mark.parametrize("content", [_Command(), {"weight": _Command()}, {"weight": [1, 2]}, ["weight"]])
def test_anything_but_tensors_is_refused(tmp_path: Path, content: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content))
    with pytest.raises(EngineLoadError, match="must be a checkpoint of tensors"):
        read_tensors(Path("model.pt"))
    assert not Path("ran").exists()


def test_a_storage_of_another_length_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(8)}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as source, zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, data[:-4] if "/data/" in name else data)
    with pytest.raises(EngineLoadError, match="must have 8 values"):
        read_tensors(tmp_path / "bad.pt")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"no zip")
    with pytest.raises(EngineLoadError, match="must be a checkpoint of tensors"):
        read_tensors(tmp_path / "model.pt")
