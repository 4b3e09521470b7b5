"""A trial of one library on one device: a product of small matrices, in a process of its own.

``python -m actors.device.trial torch cuda`` ends with status 0 if it succeeds, else prints the error. A driver that
does not suit a library may end the process: nothing but the trial is lost then.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from actors.device.choice import Device
from actors.device.cublas import load_cublas

TIMEOUT_S = 120.0
"""Importing torch from a cold disk takes most of it."""
WIDTH = 16


def try_library(library: str, device: Device) -> str | None:
    """The error of a library on a device; None if it computes."""
    command = [sys.executable, "-m", "actors.device.trial", library, device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_S:g} s"
    if not done.returncode:
        return None
    lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with status {done.returncode}"


def _multiply_with_torch(device: Device) -> Any:
    import torch

    return (torch.eye(WIDTH, device=device) @ torch.ones(WIDTH, WIDTH, device=device)).cpu().numpy()


def _multiply_with_ctranslate2(device: Device) -> Any:
    import ctranslate2

    if device == "cuda":
        load_cublas()
    with tempfile.TemporaryDirectory() as folder:
        _write_model(folder)
        generator = ctranslate2.Generator(folder, device=device)
        logits = generator.forward_batch([["a", "a"]])
        return np.asarray(logits.to_device(ctranslate2.Device.cpu))


def _write_model(folder: str) -> None:
    """Write a language model of one layer: CTranslate2 itself offers no matrix product to Python."""
    from ctranslate2.specs import TransformerDecoderModelSpec

    spec = TransformerDecoderModelSpec.from_config(1, 1, project_in_out=False, alibi=True)
    tokens = ["<unk>", "<s>", "</s>", "a"]
    decoder, layer = spec.decoder, spec.decoder.layer[0]
    random = np.random.default_rng(0)
    for linear, rows in [
        (decoder.embeddings, len(tokens)),
        (decoder.projection, len(tokens)),
        (layer.self_attention.linear[0], 3 * WIDTH),
        (layer.self_attention.linear[1], WIDTH),
        (layer.ffn.linear_0, WIDTH),
        (layer.ffn.linear_1, WIDTH),
    ]:
        linear.weight = random.standard_normal((rows, WIDTH), dtype=np.float32)
    for norm in (decoder.layer_norm, layer.self_attention.layer_norm, layer.ffn.layer_norm):
        norm.gamma, norm.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.save(folder)


LIBRARIES: Mapping[str, Callable[[Device], Any]] = {
    "ctranslate2": _multiply_with_ctranslate2,
    "torch": _multiply_with_torch,
}


def main(library: str, device: Device) -> int:
    try:
        product = LIBRARIES[library](device)
    except Exception as error:  # of any kind: this is what is to be found out
        print(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    if not (np.isfinite(product).all() and np.abs(product).max() > 0):
        print(f"{library} computes nonsense on {device}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
