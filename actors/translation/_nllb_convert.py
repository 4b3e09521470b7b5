"""NLLB from transformers' format to CTranslate2's, once per node.

In a process of its own: what conversion imports and allocates (torch, the weights in float32) is
gone when the translator starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actors import hub, weights
from actors.device import ComputeType
from actors.errors import EngineLoadError

LAYOUT = 1
"""Of the converted folder; raise it when ``convert`` writes something else."""
NEEDS = {"torch": "torch", "transformers": "transformers"}


def converted(folder: Path, compute_type: ComputeType, threads: int) -> Path:
    """The CTranslate2 model of a checkpoint, from the cache or made now. Raises EngineLoadError.

    A folder that is one already is returned as it is.
    """
    if (folder / "model.bin").is_file() and (folder / "shared_vocabulary.json").is_file():
        return folder
    _check_checkpoint(folder)
    quantization = _quantization(compute_type)
    key = f"{hub.fingerprint(folder)[:16]}-{quantization}-{version('ctranslate2')}-{LAYOUT}"
    return weights.derived(f"nllb-ct2/{key}", lambda out: _convert_aside(folder, out, quantization, threads))


def convert(folder: Path, out: Path, quantization: str) -> None:
    """Write the model and its tokenizer to ``out``."""
    import numpy as np
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        def _load(self) -> Any:
            spec = super()._load()
            # The mean over the heads of the last layer but one aligns best (Garg et al. 2019, table 2);
            # CTranslate2's default is the first head of the last.
            spec.decoder.alignment_layer = np.int16(-2)
            spec.decoder.alignment_heads = np.int16(0)
            return spec

    Converter(str(folder), copy_files=["tokenizer.json"]).convert(str(out), quantization=quantization)
    _check_vocabulary(out)


def _check_vocabulary(folder: Path) -> None:
    """Raise EngineLoadError if a token has another number for the model than for the tokenizer."""
    from tokenizers import Tokenizer

    names: list[str] = json.loads((folder / "shared_vocabulary.json").read_bytes())
    for token, number in Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab().items():
        if number >= len(names) or names[number] != token:
            raise EngineLoadError(
                f"token {number} must be {token!r} as in tokenizer.json; the converted vocabulary of {len(names)} "
                "differs: the tokenizer belongs to another model, or transformers changed how it is read"
            )


def _convert_aside(folder: Path, out: Path, quantization: str, threads: int) -> None:
    missing = [need for module, need in NEEDS.items() if find_spec(module) is None]
    if missing:
        raise EngineLoadError(
            f"converting {folder} to CTranslate2 needs {', '.join(missing)}, not installed here; "
            f"run: pip install {' '.join(missing)} (or point the option model to a converted folder)"
        )
    done = subprocess.run(  # noqa: S603 - this very interpreter, and no shell
        [sys.executable, "-m", __name__, str(folder), str(out), quantization],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineLoadError(f"{folder} must convert to CTranslate2; exit status {done.returncode}: {last}")


def _check_checkpoint(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise EngineLoadError(f"translation.options.model must be a folder with a config.json; found none in {folder}")
    found = json.loads(path.read_bytes()).get("model_type")
    if found != "m2m_100":
        raise EngineLoadError(f"translation.options.model must be NLLB (model_type m2m_100); {path} says {found!r}")
    if not (folder / "tokenizer.json").is_file():
        raise EngineLoadError(f"an NLLB model must have a tokenizer.json; found none in {folder}: copy it there")


def _quantization(compute_type: ComputeType) -> str:
    """What is stored: int8 weights serve every int8 type, so that a node keeps one copy."""
    return "int8" if compute_type.startswith("int8") else compute_type


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
