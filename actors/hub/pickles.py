"""Checks that weights can be read without running code that came with them."""

from __future__ import annotations

from pathlib import Path

from actors import weights
from actors.errors import EngineLoadError
from actors.hub.checksums import files_state, write_text
from actors.hub.download import PICKLES, needed_files


def check_weights(path: Path) -> Path:
    """Return ``path`` if its weights hold no code. Raises EngineLoadError."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    names = needed_files(file.relative_to(path.parent).as_posix() for file in files if file.is_file())
    for name in names:
        if name.endswith(PICKLES):
            _check_pickle(path.parent / name)
    return path


def _check_pickle(file: Path) -> None:
    with file.open("rb") as opened:
        is_zip = opened.read(4) == b"PK\x03\x04"
    if not is_zip and file.name == "model.bin":
        return  # CTranslate2's own format: numbers, and no code
    if not is_zip:
        raise EngineLoadError(
            f"{file} must hold tensors alone, in the format of torch 1.6 or later; it is in another, which cannot be "
            "read without running code from it; get a safetensors version of the model"
        )
    # Once per node, because it takes torch, which an engine that reads a converted copy does without.
    weights.derived(f"checked/{files_state([file])}", lambda out: write_text(out, _check_tensors(file)))


def _check_tensors(file: Path) -> str:
    """The file's path, as the record of the check. Raises EngineLoadError."""
    try:
        import torch

        # Mapped, not read: only the small pickle that describes the tensors is.
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # an unpickler fed a bad file may raise anything
        raise EngineLoadError(
            f"{file} must hold tensors alone, to be read without running code from it; {type(error).__name__}: "
            f"{str(error).splitlines()[0]}; get a safetensors version of the model"
        ) from error
    return str(file)
