"""Conversion of MADLAD-400 to CTranslate2."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from actors.errors import EngineLoadError
from actors.translation._seq2seq.convert import ModelFamily, write
from actors.translation._seq2seq.text import UNKNOWN, tokenizer_file

MADLAD = ModelFamily(
    name="MADLAD-400", model_type="t5", folder="madlad-ct2", module="actors.translation._madlad.convert"
)


class CheckpointTokenizer:
    """The tokenizer for CTranslate2's converter, read from tokenizer.json and config.json.

    transformers would read another: its T5Tokenizer takes token 2 for the unknown one, which here is the end.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file(folder)))
        config = json.loads((folder / "config.json").read_bytes())
        self.unk_token = UNKNOWN
        self.pad_token = self.convert_ids_to_tokens(config["pad_token_id"])
        self.eos_token = self.convert_ids_to_tokens(config["eos_token_id"])

    def get_vocab(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())

    def convert_ids_to_tokens(self, number: int) -> str | None:
        token: str | None = self._tokenizer.id_to_token(number)
        return token


def separate_embeddings(folder: Path, model: Any) -> None:
    """Give the model the checkpoint's own embeddings and output layer, which differ.

    transformers 5 takes all T5 models for tied (huggingface/transformers#48154): the encoder then reads by the output
    layer's weights, and the converter scales what the decoder says.
    """
    import torch

    found = _tensors(folder, ("shared.weight", "decoder.embed_tokens.weight", "lm_head.weight"))
    embeddings = found.get("shared.weight", found.get("decoder.embed_tokens.weight"))
    if embeddings is None or "lm_head.weight" not in found:
        raise EngineLoadError(
            f"a MADLAD-400 model must have embeddings and an output layer in safetensors; {folder} has "
            f"{', '.join(found) or 'neither'}"
        )
    model.encoder.embed_tokens.weight = torch.nn.Parameter(embeddings)
    model.decoder.embed_tokens.weight = torch.nn.Parameter(embeddings)
    model.lm_head.weight = torch.nn.Parameter(found["lm_head.weight"])
    model.config.tie_word_embeddings = False


def _tensors(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in names if name in file.keys()}  # noqa: SIM118
    return found


def convert(folder: Path, out: Path, quantization: str) -> None:
    """Write the model and its tokenizer to ``out``."""
    write(folder, out, quantization, tokenizer=CheckpointTokenizer(folder), mend=partial(separate_embeddings, folder))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
