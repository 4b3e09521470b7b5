"""Conversion of NLLB to CTranslate2."""

from __future__ import annotations

import sys
from pathlib import Path

from actors.translation._seq2seq.convert import ModelFamily, write

NLLB = ModelFamily(name="NLLB", model_type="m2m_100", folder="nllb-ct2", module="actors.translation._nllb.convert")


def convert(folder: Path, out: Path, quantization: str) -> None:
    """Write the model and its tokenizer to ``out``."""
    write(folder, out, quantization)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
