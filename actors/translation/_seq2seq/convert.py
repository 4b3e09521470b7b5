"""Conversion of checkpoints from transformers' format to CTranslate2's, once per node.

It runs in a process of its own, whose imports and memory (torch, the weights in float32) are gone
when the translator starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actors import hub, weights
from actors.device import ComputeType
from actors.errors import EngineLoadError
from actors.translation._seq2seq.text import tokenizer_file

LAYOUT = 1
"""Version of the converted folder. Raise it when ``write`` writes something else."""
NEEDS = {"torch": "torch", "transformers": "transformers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """The models that one module converts."""

    name: str
    model_type: str
    """As their config.json says."""
    folder: str
    """Name of the folder in the cache."""
    module: str
    """Run with the checkpoint's folder, the folder to write and the type of the weights."""


def converted(folder: Path, compute_type: ComputeType, threads: int, family: ModelFamily) -> Path:
    """The CTranslate2 model of a checkpoint, from the cache or made now. Raises EngineLoadError.

    A folder that is one already is returned as it is.
    """
    if (folder / "model.bin").is_file() and (folder / "shared_vocabulary.json").is_file():
        return folder
    _check_checkpoint(folder, family)
    quantization = _quantization(compute_type)
    key = f"{hub.fingerprint(folder)[:16]}-{quantization}-{version('ctranslate2')}-{LAYOUT}"
    return weights.derived(
        f"{family.folder}/{key}", lambda out: _convert_aside(folder, out, quantization, threads, family)
    )


def write(
    folder: Path,
    out: Path,
    quantization: str,
    *,
    tokenizer: object | None = None,
    mend: Callable[[Any], None] = lambda model: None,
) -> None:
    """Write the model and its tokenizer to ``out``; without a ``tokenizer``, transformers reads the folder's.

    ``mend`` changes the model that transformers has loaded.
    """
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

        def load_model(self, model_class: Any, model_name_or_path: str, **options: Any) -> Any:
            model = super().load_model(model_class, model_name_or_path, **options)
            mend(model)
            return model

        def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **options: Any) -> Any:
            return tokenizer or super().load_tokenizer(tokenizer_class, model_name_or_path, **options)

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


def _convert_aside(folder: Path, out: Path, quantization: str, threads: int, family: ModelFamily) -> None:
    missing = [need for module, need in NEEDS.items() if find_spec(module) is None]
    if missing:
        raise EngineLoadError(
            f"converting {folder} to CTranslate2 needs {', '.join(missing)}, not installed here; "
            f"run: pip install {' '.join(missing)} (or point the option model to a converted folder)"
        )
    done = subprocess.run(  # noqa: S603 - this very interpreter, and no shell
        [sys.executable, "-m", family.module, str(folder), str(out), quantization],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineLoadError(f"{folder} must convert to CTranslate2; exit status {done.returncode}: {last}")


def _check_checkpoint(folder: Path, family: ModelFamily) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise EngineLoadError(f"translation.options.model must be a folder with a config.json; found none in {folder}")
    found = json.loads(path.read_bytes()).get("model_type")
    if found != family.model_type:
        raise EngineLoadError(
            f"translation.options.model must be {family.name} (model_type {family.model_type}); {path} says {found!r}"
        )
    tokenizer_file(folder)


def _quantization(compute_type: ComputeType) -> str:
    """The type of the stored weights: int8 serves every int8 type, so that a node keeps one copy."""
    return "int8" if compute_type.startswith("int8") else compute_type
